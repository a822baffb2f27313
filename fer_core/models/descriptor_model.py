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

from fer_core.config import WeightScheme
from fer_core.evaluation.calibration import fit_temperature
from fer_core.evaluation.metrics import mean_recall
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.models.forest import ForestClassifier
from fer_core.models.svm import SupportVectorsClassifier
from fer_core.rivals.fits import Fits, Side
from fer_core.rivals.rival import Fitted, Rival
from fer_core.training.imbalance import class_weights

COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)  # tried for C
TREES = 400
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
    @abstractmethod
    def choices(self) -> tuple[Mapping[str, float], ...]:
        """Settings one of which is kept: the best on the clips stopped on."""

    @abstractmethod
    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> SupportVectorsClassifier | ForestClassifier:
        """A classifier of (n, d) rows and their labels, its temperature still 1."""

    def fit(self, fits: Fits, side: Side) -> Fitted:
        table, labels, chosen = fits.table, fits.table.labels, side.chosen
        described = table.described[self.descriptor.name]
        rows, k = described.reshape(len(described), -1)[side.fit], len(table.classes)
        started = time.monotonic()
        counts = np.bincount(labels[side.fit], minlength=k)
        weights = dict(enumerate(class_weights(counts, self.weighting)))
        reached, temperature = -1.0, 1.0
        for choice in self.choices if chosen is None else (chosen,):
            classifier = self.learn(rows, labels[side.fit], weights, side.seed, choice)
            recall = 0.0
            if len(side.stop):
                scores = classifier.scores(table, side.stop)
                recall = mean_recall(scores.argmax(axis=1), labels[side.stop], k)
            if recall > reached:
                best, kept, reached = classifier, choice, recall
        if chosen is not None:
            temperature = chosen["temperature"]
        elif self.joined and len(side.stop):
            temperature = max(fit_temperature(best.scores(table, side.stop), labels[side.stop]), SHARPEST)
        record = best.record.model_copy(update={"temperature": temperature})
        return Fitted(
            classifier=replace(best, record=record),  # type: ignore[arg-type]
            seconds=time.monotonic() - started,
            chosen={**kept, "temperature": temperature},
        )


@dataclass(frozen=True)
class SupportVectors(Classical):
    """A linear support vector machine on standardised numbers, one class against one; C chosen inside the fold."""

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
