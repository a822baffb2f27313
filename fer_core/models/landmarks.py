"""A linear support vector machine of how the landmarks of a face move from neutral to apex, alone or with other motion.

Several descriptors are joined before the classifier, not after it: one machine weighs the numbers of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from fer_core.dataset.table import FeatureTable
from fer_core.features.descriptors.catalogue import DESCRIPTORS, DescriptorName
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.models.descriptor_model import DescriptorRecord
from fer_core.models.svm import SupportVectors, SupportVectorsClassifier, onset_weights

FORMS = ("unit", "plain")  # ways scaled to length 1, so that faint and strong expressions count alike, or as they are
COSTS = (0.0003, 0.001, 0.003, 0.01)  # tried for C


class LandmarksRecord(DescriptorRecord):
    """Support vectors of landmarks; form: of the ways that they read; beside: descriptors joined to the first."""

    kind: Literal["landmarks"] = "landmarks"
    form: Literal["unit", "plain"]
    beside: tuple[DescriptorName, ...] = Field((), max_length=4)


@dataclass(frozen=True)
class LandmarksClassifier(SupportVectorsClassifier):
    """Support vectors that have one scale for all numbers of a descriptor."""

    Record = LandmarksRecord
    record: LandmarksRecord

    @property
    def descriptors(self) -> tuple[str, ...]:
        return (self.record.descriptor, *self.record.beside)

    def rows(self, described: Mapping[str, np.ndarray]) -> np.ndarray:
        return joined([DESCRIPTORS[name] for name in self.descriptors], described, self.record.form)

    def ways(self, described: np.ndarray) -> np.ndarray:
        return in_form(described.reshape(1, -1), self.record.form)[0]


@dataclass(frozen=True)
class LandmarksVectors(SupportVectors):
    """Support vectors of landmarks; form and C chosen by inner folds.

    Args:
        beside: descriptors read beside the first.
    """

    beside: tuple[Descriptor, ...] = ()

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (self.descriptor, *self.beside)

    @property
    def choices(self) -> tuple[Mapping[str, float], ...]:
        return tuple({"form": form, "cost": cost} for form in range(len(FORMS)) for cost in COSTS)

    def best(self, recalls: Sequence[float], n_clips: int) -> int:
        """By the one-standard-error rule: unit length, unless plain ways are better by more than one standard error of
        a share of so many clips. How strongly people show an expression differs between recordings, so that plain ways
        learnt from one kind carry over badly to another."""
        unit, plain = (int(np.argmax(recalls[i : i + len(COSTS)])) + i for i in (0, len(COSTS)))
        error = float(np.sqrt(recalls[unit] * (1 - recalls[unit]) / n_clips))
        return plain if recalls[plain] > recalls[unit] + error else unit

    def rows(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        return joined(self.descriptors, {d.name: table.described[d.name][clips] for d in self.descriptors}, "plain")

    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> LandmarksClassifier:
        from sklearn.svm import SVC

        form = FORMS[int(choice["form"])]
        blocks = dict(zip((d.name for d in self.descriptors), self.split(rows), strict=True))
        shown = joined(self.descriptors, blocks, form)
        mean = shown.mean(axis=0)
        scale = np.concatenate([np.full(block.shape[1], _spread(block)) for block in self.split(shown)])
        svc = SVC(kernel="linear", C=choice["cost"], class_weight=weights, decision_function_shape="ovo")
        svc.fit((shown - mean) / scale, labels)
        unit = float(np.abs(svc.decision_function((shown - mean) / scale)).mean())  # a small cost makes small margins
        sign = -1.0 if len(svc.classes_) == 2 else 1.0  # with two classes scikit-learn is positive for the second
        record = LandmarksRecord(
            descriptor=self.descriptor.name, beside=tuple(d.name for d in self.beside), form=form,
            n_features=mean.size, temperature=unit,
        )  # fmt: skip
        onset = onset_weights(blocks[self.descriptor.name], seed)
        learnt = mean, scale, sign * svc.coef_, sign * svc.intercept_
        return LandmarksClassifier(record, *learnt, n_classes=len(svc.classes_), onset=onset)

    def split(self, rows: np.ndarray) -> list[np.ndarray]:
        """The columns of each descriptor."""
        ends = np.cumsum([d.size for d in self.descriptors])
        return np.split(rows, ends[:-1], axis=1)


def _spread(block: np.ndarray) -> float:
    """Root mean square distance from the mean over that of the landmarks' numbers, so that each descriptor weighs as
    much as another, however many numbers it has."""
    n = DESCRIPTORS["landmarks"].size
    return max(float(np.sqrt(block.var(axis=0).sum() / n)), 1e-12)


def joined(descriptors: Sequence[Descriptor], described: Mapping[str, np.ndarray], form: str) -> np.ndarray:
    """(n, d) float64 numbers of some descriptors side by side, those that are signed in a form."""
    blocks = []
    for descriptor in descriptors:
        rows = described[descriptor.name].reshape(-1, descriptor.size)
        blocks.append(in_form(rows, form if descriptor.signed else "plain"))
    return np.hstack(blocks)


def in_form(rows: np.ndarray, form: str) -> np.ndarray:
    """(n, d) float64 ways, scaled to length 1 where the form is `unit`."""
    ways = rows.astype(np.float64)
    if form == "plain":
        return ways
    scaled: np.ndarray = ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-9)
    return scaled
