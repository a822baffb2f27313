"""Abstention: the accuracy on the answered clips if the least confident ones stay unanswered (El-Yaniv, Wiener
2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_core.errors import ShapeError
from fer_core.evaluation.calibration import calibrated_apart
from fer_core.evaluation.metrics import Interval, subject_draws

_POINTS = 101
RANKING_COLUMNS = ("AUROC", "risk area %")
SHOWN = (1.0, 0.9, 0.8, 0.7, 0.5)  # coverages shown in tables


@dataclass(frozen=True)
class CoverageCurve:
    """Accuracy as a function of coverage, from all clips answered to only the most confident clip answered.

    Args:
        threshold: (m,) increasing thresholds; a clip is answered if its calibrated confidence is at least this value.
        coverage: (m,) share of the clips that are answered.
        accuracy: (m,) share of the answered clips that are correct.
        low, high: (m,) 95 % interval of the accuracy, by subject.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, coverage: float) -> tuple[float, Interval]:
        """Return the highest threshold that answers at least `coverage` of the clips, and the accuracy there."""
        place = int(np.flatnonzero(self.coverage >= coverage - 1e-9)[-1])
        return float(self.threshold[place]), Interval(
            float(self.accuracy[place]), float(self.low[place]), float(self.high[place])
        )

    @property
    def mean_risk(self) -> float:
        """Area under the error-coverage curve: error rate of the answered clips, averaged over all coverages."""
        return _mean_risk(self.coverage, self.accuracy)

    def to_json(self) -> dict[str, Any]:
        """JSON-able numbers."""
        return {name: getattr(self, name).tolist() for name in ("threshold", "coverage", "accuracy", "low", "high")}


@dataclass(frozen=True)
class Ranking:
    """Quality of a model's confidence: does it rank correct clips above wrong ones?

    Args:
        auroc: see `confidence_auroc`; NaN if all clips are correct or all are wrong.
        mean_risk: error rate of the answered clips, averaged over all coverages.
    """

    auroc: float
    mean_risk: float

    def metrics(self) -> dict[str, float]:
        """Return both values under their MLflow metric names."""
        return {"abstention/auroc": self.auroc, "abstention/mean_risk": self.mean_risk}

    def columns(self) -> dict[str, str]:
        """Return both values as text for tables, under `RANKING_COLUMNS`."""
        auroc = "–" if np.isnan(self.auroc) else f"{self.auroc:.3f}"
        return dict(zip(RANKING_COLUMNS, (auroc, f"{100 * self.mean_risk:.1f}"), strict=True))


def ranking(clip_scores: np.ndarray, labels: np.ndarray, subjects: Sequence[str]) -> Ranking:
    """Compute the ranking of out-of-fold clip scores, each calibrated on clips of other subjects.

    Args:
        clip_scores: (n, k), rows sum to 1.
        labels: (n,) indices of the true classes.
        subjects: n names, of at least two subjects.
    """
    calibrated = calibrated_apart(clip_scores, labels, subjects)
    _, answered, right = _answers(calibrated, labels)
    n = answered.sum(axis=0)
    return Ranking(
        confidence_auroc(calibrated, labels), _mean_risk(n / len(labels), (answered & right[:, None]).sum(axis=0) / n)
    )


def confidence_auroc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the probability that a correctly predicted clip has a higher confidence than a wrongly predicted one.

    This is the area under the ROC curve of the confidence. 0.5: confidence carries no information. NaN if all clips are
    correct or all are wrong.

    Args:
        probabilities: (n, k), rows sum to 1.
        labels: (n,) indices of the true classes.
    """
    from sklearn.metrics import roc_auc_score

    right = probabilities.argmax(axis=1) == labels
    return float(roc_auc_score(right, probabilities.max(axis=1))) if 0 < right.sum() < len(right) else float("nan")


def coverage_curve(
    probabilities: np.ndarray, labels: np.ndarray, subjects: Sequence[str], seed: int = 0
) -> CoverageCurve:
    """Compute the coverage curve. Clips with the same confidence are answered together.

    Args:
        probabilities: (n, k) calibrated, rows sum to 1; n >= 1.
        labels: (n,) indices of the true classes.
        subjects: n names; all clips of a subject are resampled together.
        seed: seed of the bootstrap.
    Raises:
        ShapeError: the shapes do not match.
    """
    if probabilities.ndim != 2 or not len(labels) or not len(probabilities) == len(labels) == len(subjects):
        raise ShapeError(
            f"got {probabilities.shape} probabilities, {len(labels)} labels, {len(subjects)} subjects; needs (n, k), "
            "and equal n >= 1"
        )
    thresholds, answered, right = _answers(probabilities, labels)
    names, place = np.unique(np.array(subjects), return_inverse=True)
    per_subject = np.zeros((2, len(names), len(thresholds)))
    np.add.at(per_subject[0], place, answered)
    np.add.at(per_subject[1], place, answered & right[:, None])
    n, n_right = per_subject.sum(axis=1)
    drawn_n, drawn_right = subject_draws(len(names), seed) @ per_subject
    with np.errstate(invalid="ignore"):
        drawn = drawn_right / drawn_n  # NaN if no clip of a resample is answered
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return CoverageCurve(thresholds, n / len(labels), n_right / n, low, high)


def _answers(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (m,) thresholds, (n, m) whether each clip is answered at each of them, and (n,) whether it is correct."""
    confidence = probabilities.max(axis=1)
    thresholds = np.unique(np.quantile(confidence, np.linspace(0, 1, _POINTS), method="lower"))
    return thresholds, confidence[:, None] >= thresholds, probabilities.argmax(axis=1) == labels


def _mean_risk(coverage: np.ndarray, accuracy: np.ndarray) -> float:
    steps = -np.diff(coverage, append=0.0)
    return float(steps @ (1 - accuracy))
