"""Prediction sets: the emotions a clip may show, so that the true one is among them as often as asked (conformal).

MAPIE does the conformal part, with the LAC score: a class is in the set when its calibrated probability is above a
threshold found on clips of other people (Sadinle et al. 2019). The promise is on average over all clips; how it is kept
in each class is measured here.
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
    """Sets at one confidence level, each made from clips of other people.

    Args:
        confidence: asked for.
        sets: (n, k) bool; a row may be empty: no emotion is likely enough.
        covered: a clip counts as right when its set holds the truth: `accuracy` is the achieved coverage, `recall` that
            of each class, with intervals by subject.
    """

    confidence: float
    sets: np.ndarray
    covered: Evaluation

    @property
    def sizes(self) -> np.ndarray:
        """(n,) emotions in each set."""
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
    """The set of every clip, its threshold taken from the subject-disjoint folds it is not in.

    Args:
        probabilities: (n, k) out-of-fold, calibrated, rows sum to 1. labels: (n,) columns in `classes` order.
    Raises:
        DataError: fewer subjects than folds, or too few clips for such a confidence.
    """
    from mapie.classification import SplitConformalClassifier

    fewest = math.ceil(1 / (1 - confidence) - 1e-9)  # of the clips a threshold is taken from, else it is "everything"
    sets = np.zeros(probabilities.shape, dtype=bool)
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
    stand_in = np.where(covered, labels, (labels + 1) % len(classes))  # right where covered, else any other class
    return PredictionSets(confidence, sets, evaluate(stand_in, labels, subjects, classes))


class _Known(ClassifierMixin, BaseEstimator):
    """A fitted classifier in scikit-learn's form whose input is its answer: the probabilities are known already."""

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
