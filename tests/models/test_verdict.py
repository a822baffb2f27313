"""The clip rules of §4.1, as laws."""

from __future__ import annotations

import numpy as np
import pytest

from fer_core.errors import ShapeError
from fer_core.evaluation.metrics import RULES
from fer_core.models.verdict import clip_scores, judge


def softmax_scores(n, seed=0):
    logits = np.random.default_rng(seed).normal(size=(n, 6)) * 2
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("rule", RULES)
def test_rules_ignore_frame_order_and_give_shares_that_sum_to_one(rule):
    for seed in range(20):
        scores = softmax_scores(9, seed)
        shuffled = np.random.default_rng(seed).permutation(scores)
        assert judge(scores, rule).index == judge(shuffled, rule).index
        assert clip_scores(scores, rule).sum() == pytest.approx(1)


@pytest.mark.parametrize("rule", RULES)
def test_a_one_frame_clip_gets_its_frames_verdict(rule):
    scores = softmax_scores(1)
    assert judge(scores, rule).index == scores[0].argmax()


def test_mean_scores_can_overrule_the_majority():
    """Three lukewarm votes against two certain ones: where §4.1's two rules part."""
    scores = np.array([[0.4, 0.35, 0.25, 0, 0, 0]] * 3 + [[0, 1, 0, 0, 0, 0]] * 2)
    assert judge(scores, "majority_vote").index == 0
    assert judge(scores, "mean_scores").index == 1


def test_a_tied_vote_goes_to_the_higher_mean():
    scores = np.array([[0.6, 0.4, 0, 0, 0, 0], [0.1, 0.9, 0, 0, 0, 0]])
    assert judge(scores, "majority_vote").index == 1


def test_one_zero_does_not_veto_a_class_in_the_log_rule():
    scores = np.array([[0.9, 0.1, 0, 0, 0, 0]] * 20 + [[0.0, 1.0, 0, 0, 0, 0]])
    assert judge(scores, "log_mean_scores").index == 0


def test_no_frames_is_no_verdict():
    with pytest.raises(ShapeError, match=r"n >= 1, but got \(0, 6\)"):
        judge(np.empty((0, 6)), "mean_scores")
