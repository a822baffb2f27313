"""Descriptors under a classifier of scikit-learn: support vectors, and a forest (§1.3.1)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fer_core.clips.splits import grouped_folds
from fer_core.config import WeightScheme
from fer_core.evaluation.calibration import fit_temperature
from fer_core.evaluation.metrics import mean_recall
from fer_core.model.classifiers.forest import ForestClassifier
from fer_core.model.classifiers.support_vectors import SupportVectorsClassifier
from fer_core.model.descriptors.descriptor import Descriptor
from fer_core.model.features import FeatureTable
from fer_core.rivals.fits import Fits, Side
from fer_core.rivals.rival import Fitted, Rival
from fer_core.training.imbalance import class_weights

COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)  # tried for C
TREES = 400
INNER_FOLDS = 5
SHARPEST = 0.25  # temperature: a few dozen clips that are all right must not make a part certain


@dataclass(frozen=True)
class Classical(Rival):
    """A classifier of one descriptor.

    Args:
        descriptor: what it reads.
        weighting: how errors on rare classes are weighed, from clips.
        joined: whether it is a part of a fused model: its scores are then calibrated inside the fold, for they are
            averaged with another's. Else one temperature over all folds does it (`candidate.py`), from many more clips.
    """

    descriptor: Descriptor
    weighting: WeightScheme
    joined: bool = False

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (self.descriptor,)

    @property
    def stops_early(self) -> bool:
        return False

    @property
    @abstractmethod
    def choices(self) -> tuple[Mapping[str, float], ...]:
        """Settings one of which is kept: the best over inner folds by subject."""

    @abstractmethod
    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> SupportVectorsClassifier | ForestClassifier:
        """A classifier of (n, d) rows and their labels, its temperature still 1."""

    def fit(self, fits: Fits, side: Side) -> Fitted:
        started = time.monotonic()
        table, k = fits.table, len(fits.table.classes)
        rows, labels = self.rows(table, side.fit), table.labels[side.fit]
        weights = dict(enumerate(class_weights(np.bincount(labels, minlength=k), self.weighting)))
        choice, temperature = self.choices[0], 1.0
        if len(self.choices) > 1 or self.joined:
            inner = [self.inner_scores(table, side, weights, choice) for choice in self.choices]
            best = int(np.argmax([mean_recall(scores.argmax(axis=1), labels, k) for scores in inner]))
            choice = self.choices[best]
            temperature = max(fit_temperature(inner[best], labels), SHARPEST) if self.joined else 1.0
        classifier = self.learn(rows, labels, weights, side.seed, choice)
        record = classifier.record.model_copy(update={"temperature": temperature})
        return Fitted(
            classifier=replace(classifier, record=record),  # type: ignore[arg-type]
            seconds=time.monotonic() - started,
            chosen={**choice, "temperature": temperature},
        )

    def inner_scores(
        self, table: FeatureTable, side: Side, weights: dict[int, float], choice: Mapping[str, float]
    ) -> np.ndarray:
        """(n, k) scores of the side's clips, each by a fit to the clips of other subjects of the side."""
        subjects, labels = [table.subjects[c] for c in side.fit], table.labels[side.fit]
        scores = np.zeros((len(labels), len(table.classes)))
        for train, held_out in grouped_folds(subjects, labels, min(INNER_FOLDS, len(set(subjects))), side.seed):
            present = np.unique(labels[train])  # without a class that the held-out subjects alone show
            found: np.ndarray | float = 1.0
            if len(present) > 1:
                classifier = self.learn(self.rows(table, side.fit[train]), labels[train], weights, side.seed, choice)
                found = classifier.scores(table, side.fit[held_out])
            scores[np.ix_(held_out, present)] = found
        return scores

    def rows(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        """(n, d) the descriptor of the clips at some places."""
        described = table.described[self.descriptor.name]
        return described.reshape(len(described), -1)[clips]


@dataclass(frozen=True)
class SupportVectors(Classical):
    """A linear support vector machine on standardised numbers, one class against one; C chosen by inner folds."""

    @property
    def choices(self) -> tuple[Mapping[str, float], ...]:
        return tuple({"cost": cost} for cost in COSTS)

    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> SupportVectorsClassifier:
        model = make_pipeline(StandardScaler(), SVC(kernel="linear", C=choice["cost"], class_weight=weights))
        return SupportVectorsClassifier.of(model.fit(rows, labels), self.descriptor.name, 1.0)


@dataclass(frozen=True)
class Forest(Classical):
    """A random forest (Breiman 2001)."""

    @property
    def choices(self) -> tuple[Mapping[str, float], ...]:
        return ({},)

    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> ForestClassifier:
        model = RandomForestClassifier(TREES, class_weight=weights, random_state=seed)
        return ForestClassifier.of(model.fit(rows, labels), self.descriptor.name, 1.0)
