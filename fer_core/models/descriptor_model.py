"""Descriptors under a classifier of scikit-learn: support vectors, and a forest (§1.3.1)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from fer_core.config import WeightScheme
from fer_core.features.descriptors.catalogue import DescriptorName
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.models.base import ClassifierRecord, ClipClassifier, ClipModel, Fits, FitSplit, Fitted, Temperature
from fer_core.models.temperature import fit_temperature
from fer_core.training.imbalance import class_weights

SHARPEST = 0.25  # temperature: a few dozen clips that are all right must not make a part certain


class DescriptorRecord(ClassifierRecord):
    """A classifier of one descriptor; temperature: of its scores."""

    descriptor: DescriptorName
    n_features: int = Field(ge=1, le=1_000_000)
    temperature: Temperature


@dataclass(frozen=True)
class DescriptorClassifier(ClipClassifier):
    """A fitted classifier of one descriptor."""

    record: DescriptorRecord

    @property
    def descriptors(self) -> tuple[str, ...]:
        return (self.record.descriptor,)

    def to_record(self) -> DescriptorRecord:
        return self.record


@dataclass(frozen=True)
class DescriptorModel(ClipModel):
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
    ) -> DescriptorClassifier:
        """A classifier of (n, d) rows and their labels, its temperature still 1."""

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        from sklearn.metrics import balanced_accuracy_score  # a second of import that scoring does without

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
                recall = float(balanced_accuracy_score(labels[side.stop], scores.argmax(axis=1)))
            if recall > reached:
                best, kept, reached = classifier, choice, recall
        if chosen is not None:
            temperature = chosen["temperature"]
        elif self.joined and len(side.stop):
            temperature = max(fit_temperature(best.scores(table, side.stop), labels[side.stop]), SHARPEST)
        record = best.record.model_copy(update={"temperature": temperature})
        return Fitted(
            classifier=replace(best, record=record),
            seconds=time.monotonic() - started,
            chosen={**kept, "temperature": temperature},
        )
