"""Calibration: scores that mean what they say. One temperature, fitted on out-of-fold clip scores, and its measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_core.models.temperature import _checked, fit_temperature
from fer_core.models.verdict import apply_temperature

_FOLDS = 10
BINS = 10


def calibrated_apart(clip_scores: np.ndarray, labels: np.ndarray, subjects: Sequence[str]) -> np.ndarray:
    """(n, k) probabilities, each calibrated by a temperature fitted to the clips of other people.

    What calibration is worth is judged on these: the one temperature of all clips has seen the label it is judged by.

    Args:
        subjects: n names, of at least two people.
    """
    from sklearn.model_selection import GroupKFold  # scoring, which calibrates too, does without scikit-learn

    _checked(clip_scores, labels)
    probabilities = np.empty(clip_scores.shape)
    folds = GroupKFold(min(_FOLDS, len(set(subjects))))
    for others, here in folds.split(clip_scores, groups=np.asarray(subjects)):
        temperature = fit_temperature(clip_scores[others], labels[others])
        probabilities[here] = apply_temperature(clip_scores[here], temperature)
    return probabilities


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of Σᶜ (pᶜ - yᶜ)² (Brier 1950, over all classes): 0 perfect, 2 worst.

    Example:
        >>> brier_score(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1]))
        0.3125
    """
    from sklearn.metrics import brier_score_loss

    shares = _summing_to_one(probabilities, labels)
    return float(brier_score_loss(labels, shares, labels=np.arange(shares.shape[1]), scale_by_half=False))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p of the true class, nats; (n, k) probabilities, (n,) labels."""
    from sklearn.metrics import log_loss

    shares = _summing_to_one(probabilities, labels)
    return float(log_loss(labels, shares, labels=np.arange(shares.shape[1])))


def _summing_to_one(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The same in double precision; scikit-learn warns of sums of single precision, which miss 1 by 1e-7."""
    shares = _checked(probabilities, labels).astype(np.float64)
    return shares / shares.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Reliability:
    """Confidence and truth, bin by bin of equal width over [0, 1]; NaN in empty bins.

    Args:
        confidence: (b,) mean confidence of the clips in a bin.
        accuracy: (b,) share of them that are right.
        count: (b,) clips.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def expected_error(self) -> float:
        """Mean of |accuracy - confidence|, weighted by the clips in a bin (Naeini et al. 2015)."""
        gaps = np.abs(self.accuracy - self.confidence)[self.count > 0]
        return float((gaps * self.count[self.count > 0]).sum() / self.count.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Confidence against accuracy of (n, k) probabilities and (n,) labels, in `bins` bins."""
    confidence = _checked(probabilities, labels).max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(place, confidence, minlength=bins) / count,
            np.bincount(place, right, minlength=bins) / count,
            count,
        )
