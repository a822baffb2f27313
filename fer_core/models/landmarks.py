"""A linear support vector machine on the displacement of landmarks from neutral to apex, alone or joined with other
descriptors.

Descriptors are concatenated before the classifier, so that one machine weighs the numbers of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from fer_core.dataset.table import FeatureTable
from fer_core.features.descriptors.catalogue import DESCRIPTORS, DescriptorName
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.models.svm import MarginsRecord, SupportVectors, SupportVectorsClassifier, to_unit_length

COSTS = (0.0003, 0.001, 0.003, 0.01)  # candidate values of C


class LandmarksRecord(MarginsRecord):
    """Record of such a machine; `beside`: descriptors joined to the first."""

    kind: Literal["landmarks"] = "landmarks"
    beside: tuple[DescriptorName, ...] = Field((), max_length=4)


@dataclass(frozen=True)
class LandmarksClassifier(SupportVectorsClassifier):
    """A fitted machine, with one scale for all numbers of a descriptor."""

    Record = LandmarksRecord
    record: LandmarksRecord

    @property
    def descriptors(self) -> tuple[str, ...]:
        return (self.record.descriptor, *self.record.beside)

    def rows(self, described: Mapping[str, np.ndarray]) -> np.ndarray:
        return joined([DESCRIPTORS[name] for name in self.descriptors], described, unit_length=self.record.unit_length)


@dataclass(frozen=True)
class LandmarksVectors(SupportVectors):
    """Support vectors of landmarks; inner folds select C, and whether signed descriptors are scaled to length 1.

    Args:
        beside: descriptors joined to the first.
    """

    beside: tuple[Descriptor, ...] = ()
    costs: ClassVar[tuple[float, ...]] = COSTS

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (self.descriptor, *self.beside)

    def rows(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        return joined(
            self.descriptors, {d.name: table.described[d.name][clips] for d in self.descriptors}, unit_length=False
        )

    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> LandmarksClassifier:
        from sklearn.svm import SVC

        unit_length = bool(choice["unit_length"])
        blocks = dict(zip((d.name for d in self.descriptors), self.split(rows), strict=True))
        shown = joined(self.descriptors, blocks, unit_length=unit_length)
        mean = shown.mean(axis=0)
        scale = np.concatenate([np.full(block.shape[1], _spread(block)) for block in self.split(shown)])
        svc = SVC(kernel="linear", C=choice["cost"], class_weight=weights, decision_function_shape="ovo")
        svc.fit((shown - mean) / scale, labels)
        unit = float(np.abs(svc.decision_function((shown - mean) / scale)).mean())  # a small cost makes small margins
        sign = -1.0 if len(svc.classes_) == 2 else 1.0  # with two classes scikit-learn is positive for the second
        record = LandmarksRecord(
            descriptor=self.descriptor.name, beside=tuple(d.name for d in self.beside), unit_length=unit_length,
            n_features=mean.size, temperature=unit,
        )  # fmt: skip
        learnt = mean, scale, sign * svc.coef_, sign * svc.intercept_
        return LandmarksClassifier(record, *learnt, n_classes=len(svc.classes_), onset=np.empty(0))

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the columns of each descriptor."""
        ends = np.cumsum([d.size for d in self.descriptors])
        return np.split(rows, ends[:-1], axis=1)


def _spread(block: np.ndarray) -> float:
    """Return the scale that gives every descriptor the total variance of standardised landmarks, so that each weighs
    the same, however many numbers it has."""
    n = DESCRIPTORS["landmarks"].size
    return max(float(np.sqrt(block.var(axis=0).sum() / n)), 1e-12)


def joined(descriptors: Sequence[Descriptor], described: Mapping[str, np.ndarray], *, unit_length: bool) -> np.ndarray:
    """Return (n, d) float64 descriptors side by side; signed ones are scaled to length 1 if `unit_length`."""
    blocks = []
    for descriptor in descriptors:
        rows = described[descriptor.name].reshape(-1, descriptor.size).astype(np.float64)
        blocks.append(to_unit_length(rows) if unit_length and descriptor.signed else rows)
    return np.hstack(blocks)
