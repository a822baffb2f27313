"""Calibration of clip scores by one temperature, fitted on out-of-fold scores, and measures of calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_core.models.temperature import _checked, fit_temperature
from fer_core.models.verdict import apply_temperature

_FOLDS = 10
BINS = 10


def calibrated_apart(clip_scores: np.ndarray, labels: np.ndarray, subjects: Sequence[str]) -> np.ndarray:
    """Return (n, k) probabilities, each calibrated by a temperature that was fitted to clips of other subjects.

    Use these to evaluate calibration: a temperature fitted to all clips has used the labels that it is evaluated on.

    Args:
        clip_scores: (n, k), rows sum to 1.
        labels: (n,) indices of the true classes.
        subjects: n names, of at least two subjects.
    """
    from sklearn.model_selection import GroupKFold  # imported here because scoring does not need scikit-learn

    _checked(clip_scores, labels)
    probabilities = np.empty(clip_scores.shape)
    folds = GroupKFold(min(_FOLDS, len(set(subjects))))
    for others, here in folds.split(clip_scores, groups=np.asarray(subjects)):
        temperature = fit_temperature(clip_scores[others], labels[others])
        probabilities[here] = apply_temperature(clip_scores[here], temperature)
    return probabilities


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of Σᶜ (pᶜ - yᶜ)² over the clips (Brier 1950, sum over all classes): 0 is best, 2 is worst.

    Example:
        >>> brier_score(np.array([[0.75, 0.25], [0.5, 0.5]]), np.array([0, 1]))
        0.3125
    """
    from sklearn.metrics import brier_score_loss

    shares = _summing_to_one(probabilities, labels)
    return float(brier_score_loss(labels, shares, labels=np.arange(shares.shape[1]), scale_by_half=False))


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -log p of the true class, in nats, for (n, k) probabilities and (n,) labels."""
    from sklearn.metrics import log_loss

    shares = _summing_to_one(probabilities, labels)
    return float(log_loss(labels, shares, labels=np.arange(shares.shape[1])))


def _summing_to_one(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Normalise in double precision: scikit-learn warns if rows differ from sum 1, in single precision by 1e-7."""
    shares = _checked(probabilities, labels).astype(np.float64)
    return shares / shares.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of equal width over [0, 1]; NaN in empty bins.

    Args:
        confidence: (b,) mean confidence of the clips in a bin.
        accuracy: (b,) share of these clips that are correct.
        count: (b,) number of clips in a bin.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def expected_error(self) -> float:
        """Mean of |accuracy - confidence| over the bins, weighted by their numbers of clips (Naeini et al. 2015)."""
        gaps = np.abs(self.accuracy - self.confidence)[self.count > 0]
        return float((gaps * self.count[self.count > 0]).sum() / self.count.sum())


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Compute confidence and accuracy in `bins` bins, for (n, k) probabilities and (n,) labels."""
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
