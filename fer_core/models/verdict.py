"""Predict a clip from its frame scores (thesis §4.1): majority vote, mean scores, mean of log scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_core.config import Rule
from fer_core.errors import ShapeError

_TINY = 1e-7  # avoids log(0): one score of 0 must not exclude a class


@dataclass(frozen=True)
class Verdict:
    """The prediction for a clip by one rule.

    Args:
        index: index of the predicted class, in class order.
        scores: (k,) clip scores, sum 1: vote shares, mean scores or normalised geometric means.
        n_frames: number of frames that the rule combined.
    """

    index: int
    scores: np.ndarray
    n_frames: int


def clip_scores(scores: np.ndarray, rule: Rule) -> np.ndarray:
    """Return (k,) scores of a clip by `rule`, sum 1; (m, k) for m clips with the same number of frames.

    majority_vote: shares of the frames' arg-max votes. mean_scores: (1/n) Σᵢ sᵢ (eq. 4.2).
    log_mean_scores: softmax of (1/n) Σᵢ log sᵢ.

    Args:
        scores: (n, k) or (m, n, k) softmax scores, rows sum to 1, columns in class order; n >= 1.
    Raises:
        ShapeError: `scores` has another number of dimensions, or n is 0.
    """
    if scores.ndim not in (2, 3) or scores.shape[-2] == 0:
        raise ShapeError(f"frame scores must be (n, k) with n >= 1, but got {scores.shape}")
    scores = scores.astype(np.float64)
    if rule == "majority_vote":
        votes = scores.argmax(axis=-1)[..., None] == np.arange(scores.shape[-1])
        return votes.sum(axis=-2) / scores.shape[-2]
    if rule == "mean_scores":
        return scores.mean(axis=-2)
    log_mean = np.log(np.maximum(scores, _TINY)).mean(axis=-2)
    powers = np.exp(log_mean - log_mean.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def judge(scores: np.ndarray, rule: Rule) -> Verdict:
    """Predict a clip by `rule`; see `clip_scores` for the rules and the errors raised.

    Of tied classes, the one with the highest mean score is predicted; the thesis does not define this case.

    Example:
        >>> frames = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]])
        >>> judge(frames, "majority_vote").index, judge(frames, "mean_scores").index
        (0, 1)
    """
    shares = clip_scores(scores, rule)
    tied = np.flatnonzero(shares == shares.max())
    index = int(tied[0]) if len(tied) == 1 else int(tied[scores.mean(axis=0)[tied].argmax()])
    return Verdict(index=index, scores=shares, n_frames=len(scores))


def apply_temperature(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities p ∝ s^(1/T), of the same shape: T > 1 makes them flatter, T < 1 sharper; the arg-max stays.

    Args:
        scores: (n, k) or (k,) clip scores, rows sum to 1.
        temperature: T > 0; 1 returns the scores as float64.

    Example:
        >>> apply_temperature(np.array([0.8, 0.2]), 2.0).round(3).tolist()
        [0.667, 0.333]
    """
    if temperature == 1.0:
        return np.asarray(scores, dtype=np.float64)
    powers = np.log(np.maximum(scores, _TINY)) / temperature
    powers = np.exp(powers - powers.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
