from __future__ import annotations

import numpy as np
import pytest

from fer_core.evaluation.frame_budget import frame_budget
from fer_core.evaluation.metrics import clip_verdicts


def clips_of(n_clips: int, n_frames: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Frame scores of clips that each show one class, with noise, and the clips' offsets."""
    rng = np.random.default_rng(0)
    logits = np.repeat(3 * np.eye(6)[rng.integers(0, 6, n_clips)], n_frames, axis=0)
    powers = np.exp(logits + rng.normal(0, noise, logits.shape))
    return powers / powers.sum(axis=1, keepdims=True), n_frames * np.arange(n_clips + 1)


def test_clips_whose_frames_agree_need_the_fewest_frames():
    budget = frame_budget(*clips_of(50, 40, noise=0.1), "mean_scores")
    assert budget is not None and (budget.frames, budget.agreement, budget.clips) == (4, 1.0, 50)


def test_noisier_frames_need_more_and_the_verdicts_of_the_budget_agree():
    scores, offsets = clips_of(200, 60, noise=3.0)
    budget = frame_budget(scores, offsets, "mean_scores")
    assert budget is not None and 4 < budget.frames < 60 and 0.98 <= budget.agreement < 1
    kept = [59 - int(i * 60 / budget.frames) for i in reversed(range(budget.frames))]  # as `select` does
    frames = (offsets[:-1, None] + kept).ravel()
    fewer, _ = clip_verdicts(scores[frames], budget.frames * np.arange(201), np.arange(200), "mean_scores")
    whole, _ = clip_verdicts(scores, offsets, np.arange(200), "mean_scores")
    assert (fewer == whole).mean() == pytest.approx(budget.agreement)


def test_frames_that_contradict_one_another_are_all_needed():
    """Every second frame says another class, and the last of an odd number decides."""
    scores = np.tile(np.eye(2)[[0, 1]], (41 * 10, 1))[: 41 * 10]
    assert frame_budget(scores, 41 * np.arange(11), "majority_vote") is None


def test_short_clips_have_no_budget():
    assert frame_budget(*clips_of(10, 4, noise=0.1), "mean_scores") is None
