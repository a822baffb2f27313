"""Conformal prediction sets: sets of emotions that contain the true one with a given probability.

MAPIE computes them with the LAC score: a class is in the set if its calibrated probability is above a threshold, which
is found on clips of other subjects (Sadinle et al. 2019). The guarantee holds on average over all clips, not for each
class; so the coverage of each class is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from fer_core.clips.splits import grouped_folds
from fer_core.emotions import SIX, Classes
from fer_core.errors import DataError
from fer_core.evaluation.metrics import Evaluation, evaluate


@dataclass(frozen=True)
class PredictionSets:
    """Prediction sets at one confidence level, with thresholds from clips of other subjects.

    Args:
        confidence: the requested coverage, in (0, 1).
        sets: (n, k) bool; a row is empty if no emotion is likely enough.
        covered: evaluation in which a clip is correct if its set contains the true class: `accuracy` is the achieved
            coverage, `recall` the coverage of each class, with intervals by subject.
    """

    confidence: float
    sets: np.ndarray
    covered: Evaluation

    @property
    def sizes(self) -> np.ndarray:
        """(n,) number of emotions in each set."""
        sizes: np.ndarray = self.sets.sum(axis=1)
        return sizes

    def to_json(self) -> dict[str, Any]:
        """JSON-able numbers."""
        numbers = self.covered.to_json()
        return {
            "confidence": self.confidence,
            "coverage": numbers["accuracy"],
            "coverage_by_class": numbers["recall"],
            "mean_size": float(self.sizes.mean()),
            "sizes": np.bincount(self.sizes, minlength=self.sets.shape[1] + 1).tolist(),
            "n_clips": numbers["n_clips"],
            "n_subjects": numbers["n_subjects"],
        }


def prediction_sets(
    probabilities: np.ndarray,
    labels: np.ndarray,
    subjects: Sequence[str],
    classes: Classes = SIX,
    confidence: float = 0.9,
    folds: int = 5,
    seed: int = 0,
) -> PredictionSets:
    """Compute the prediction set of every clip, with a threshold from the other folds, whose subjects are different.

    Args:
        probabilities: (n, k) out-of-fold, calibrated, rows sum to 1.
        labels: (n,) true classes, as indices in `classes`.
        subjects: n names.
        confidence: the requested coverage, in (0, 1).
        folds: number of folds; fewer if there are fewer subjects.
        seed: seed of the folds.
    Raises:
        DataError: one subject only, or too few clips for such a confidence.
    """
    from mapie.classification import SplitConformalClassifier

    fewest = math.ceil(1 / (1 - confidence) - 1e-9)  # with fewer clips, the threshold admits every class
    sets = np.zeros(probabilities.shape, dtype=bool)
    folds = min(folds, max(2, len(set(subjects))))
    for others, here in grouped_folds(subjects, labels, folds, seed):
        if len(others) < fewest:
            raise DataError(
                f"prediction sets of {100 * confidence:g} % confidence need {fewest} clips of other people, but a fold "
                f"has {len(others)}; ask for less, or add clips"
            )
        known = _Known(len(classes))
        conformal = SplitConformalClassifier(known, confidence_level=confidence, conformity_score="lac")
        conformal.conformalize(probabilities[others], labels[others])
        sets[here] = conformal.predict_set(probabilities[here])[1][:, :, 0]
    covered = sets[np.arange(len(labels)), labels]
    stand_in = np.where(covered, labels, (labels + 1) % len(classes))  # correct if covered, else any other class
    return PredictionSets(confidence, sets, evaluate(stand_in, labels, subjects, classes))


class _Known(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier that returns its input: the probabilities are computed before."""

    def __init__(self, n_classes: int = 0) -> None:
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, X: np.ndarray, y: np.ndarray) -> _Known:
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        winners: np.ndarray = X.argmax(axis=1)
        return winners
