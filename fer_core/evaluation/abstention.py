"""Abstention: what accuracy is bought by leaving the least confident clips unanswered (El-Yaniv and Wiener 2010)."""

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
SHOWN = (1.0, 0.9, 0.8, 0.7, 0.5)  # coverages a reader looks up


@dataclass(frozen=True)
class CoverageCurve:
    """Accuracy over coverage, from every clip answered down to the most confident one.

    Args:
        threshold: (m,) calibrated confidence from which a clip is answered, rising.
        coverage: (m,) share of the clips answered.
        accuracy: (m,) share of those that are right; low, high: its 95 % interval by subject.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, coverage: float) -> tuple[float, Interval]:
        """Threshold and accuracy where at least `coverage` of the clips are answered, at the highest threshold."""
        place = int(np.flatnonzero(self.coverage >= coverage - 1e-9)[-1])
        return float(self.threshold[place]), Interval(
            float(self.accuracy[place]), float(self.low[place]), float(self.high[place])
        )

    @property
    def mean_risk(self) -> float:
        """Area under error over coverage: what is wrong of the answered clips, averaged over all coverages."""
        steps = -np.diff(self.coverage, append=0.0)
        return float(steps @ (1 - self.accuracy))

    def to_json(self) -> dict[str, Any]:
        """JSON-able numbers."""
        return {name: getattr(self, name).tolist() for name in ("threshold", "coverage", "accuracy", "low", "high")}


@dataclass(frozen=True)
class Ranking:
    """Ranking quality of a model's confidence: are its right clips the surer ones?

    Args:
        auroc: how well it tells right clips from wrong ones (`confidence_auroc`); NaN where none is wrong.
        mean_risk: share of answered clips that are wrong, averaged over all coverages.
    """

    auroc: float
    mean_risk: float

    def metrics(self) -> dict[str, float]:
        """The two under their names in MLflow."""
        return {"abstention/auroc": self.auroc, "abstention/mean_risk": self.mean_risk}

    def columns(self) -> dict[str, str]:
        """The two as tables show them, under `RANKING_COLUMNS`."""
        auroc = "–" if np.isnan(self.auroc) else f"{self.auroc:.3f}"
        return dict(zip(RANKING_COLUMNS, (auroc, f"{100 * self.mean_risk:.1f}"), strict=True))


def ranking(clip_scores: np.ndarray, labels: np.ndarray, subjects: Sequence[str]) -> Ranking:
    """The ranking of out-of-fold clip scores, each calibrated on other people's clips.

    Args:
        clip_scores: (n, k), rows sum to 1. labels: (n,) columns. subjects: n names, of at least two people.
    """
    calibrated = calibrated_apart(clip_scores, labels, subjects)
    return Ranking(confidence_auroc(calibrated, labels), coverage_curve(calibrated, labels, subjects).mean_risk)


def confidence_auroc(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve of confidence, right clips against wrong ones: how often a clip that is right has the
    higher confidence. 0.5: confidence says nothing. NaN where all clips are right, or all wrong.

    Args:
        probabilities: (n, k), rows sum to 1. labels: (n,) columns.
    """
    from sklearn.metrics import roc_auc_score

    right = probabilities.argmax(axis=1) == labels
    return float(roc_auc_score(right, probabilities.max(axis=1))) if 0 < right.sum() < len(right) else float("nan")


def coverage_curve(
    probabilities: np.ndarray, labels: np.ndarray, subjects: Sequence[str], seed: int = 0
) -> CoverageCurve:
    """The curve of some clips; equally confident ones are answered together or not at all.

    Args:
        probabilities: (n, k) calibrated, rows sum to 1; n >= 1.
        labels: (n,) columns. subjects: n names; clips of one person are drawn together.
    Raises:
        ShapeError: the three do not fit together.
    """
    if probabilities.ndim != 2 or not len(labels) or not len(probabilities) == len(labels) == len(subjects):
        raise ShapeError(
            f"got {probabilities.shape} probabilities, {len(labels)} labels, {len(subjects)} subjects; needs (n, k), "
            "and equal n >= 1"
        )
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    thresholds = np.unique(np.quantile(confidence, np.linspace(0, 1, _POINTS), method="lower"))
    names, place = np.unique(np.array(subjects), return_inverse=True)
    answered = confidence[:, None] >= thresholds
    per_subject = np.zeros((2, len(names), len(thresholds)))
    np.add.at(per_subject[0], place, answered)
    np.add.at(per_subject[1], place, answered & right[:, None])
    n, n_right = per_subject.sum(axis=1)
    drawn_n, drawn_right = subject_draws(len(names), seed) @ per_subject
    with np.errstate(invalid="ignore"):
        drawn = drawn_right / drawn_n  # NaN where a draw answers nobody
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    return CoverageCurve(thresholds, n / len(labels), n_right / n, low, high)
