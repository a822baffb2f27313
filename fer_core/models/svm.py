"""A linear support vector machine of one descriptor, fitted by scikit-learn and stored as arrays (§1.3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from fer_core.features.descriptors.catalogue import DESCRIPTORS
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import take
from fer_core.models.descriptor_model import DescriptorClassifier, DescriptorModel, DescriptorRecord

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


class MarginsRecord(DescriptorRecord):
    """Record of a support vector machine.

    `unit_length`: each clip's signed descriptor is scaled to length 1 first, so that only its direction counts.
    """

    unit_length: bool = False


class SupportVectorsRecord(MarginsRecord):
    """Support vectors of one descriptor."""

    kind: Literal["support_vectors"] = "support_vectors"


@dataclass(frozen=True)
class SupportVectorsClassifier(DescriptorClassifier):
    """A fitted one-against-one support vector machine.

    The score of a class is the softmax of its smallest margin over another class. If the descriptor carries no evidence
    (`Descriptor.says_nothing`), all classes get the same score.

    Args:
        mean, scale: (d,) mean and standard deviation of the descriptor's values.
        coef, intercept: (p, d) and (p,), one row for each pair of classes i < j, positive for i; p = k (k - 1) / 2.
        n_classes: k.
        onset: (m,) weights whose product with the first descriptor is positive if the expression grows and negative if
            it fades; (0,) if that descriptor is not signed.
    """

    Record: ClassVar[type[DescriptorRecord]] = SupportVectorsRecord
    record: MarginsRecord

    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    n_classes: int
    onset: np.ndarray

    @property
    def n_parameters(self) -> int:
        return sum(a.size for a in (self.mean, self.scale, self.coef, self.intercept, self.onset))

    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        described = inputs.described[self.record.descriptor][clips]
        rows = self.rows({name: inputs.described[name][clips] for name in self.descriptors})
        values = self.decision((rows - self.mean) / self.scale @ self.coef.T + self.intercept)
        powers = np.exp((values - values.max(axis=1, keepdims=True)) / self.record.temperature)
        found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        if (says_nothing := DESCRIPTORS[self.record.descriptor].says_nothing) is not None:
            found[says_nothing(described)] = 1 / self.n_classes
        return found

    def rows(self, described: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return (n, d) descriptors of n clips as the machine reads them: plain, or scaled to length 1."""
        [read] = (described[name] for name in self.descriptors)
        rows = read.reshape(len(read), -1)
        return to_unit_length(rows) if self.record.unit_length else rows

    def decision(self, pairs: np.ndarray) -> np.ndarray:
        """Return (n, k): each class's smallest margin over another class, positive if the class wins all its pairs.

        A class that wins all its pairs also has the most votes. Votes hardly differ between certain and uncertain
        clips; the smallest margin does, so it separates correct predictions from wrong ones.

        Args:
            pairs: (n, p) margins, positive for the first class of a pair.
        """
        margins = np.full((self.n_classes, self.n_classes, len(pairs)), np.inf)
        for margin, (i, j) in zip(pairs.T, combinations(range(self.n_classes), 2), strict=True):
            margins[i, j], margins[j, i] = margin, -margin
        smallest: np.ndarray = margins.min(axis=1).T
        return smallest

    def fades(self, described: np.ndarray) -> np.ndarray:
        """Return (n,) True for clips that seem to begin with a fading expression; all False if the descriptor is not
        signed.

        Margins cannot show this: a fading expression looks like another one that grows, so its margins are as large.

        Args:
            described: (n, ...) descriptors of the clips.
        """
        rows = described.reshape(len(described), -1)[:, : len(self.onset)]
        found: np.ndarray = rows @ self.onset < 0
        return found

    def speaking_for(self, row: np.ndarray, column: int) -> np.ndarray:
        """Return (m,): the contribution of each descriptor value to the sum of the margins of a class over all others.

        Args:
            row: (m,) first values of a clip's row, m <= d.
            column: index of the class.
        """
        m = len(row)
        signs = [(i == column) - (j == column) for i, j in combinations(range(self.n_classes), 2)]
        shown = to_unit_length(row[None])[0] if self.record.unit_length else row
        added: np.ndarray = np.array(signs) @ self.coef[:, :m] * (shown - self.mean[:m]) / self.scale[:m]
        return added

    def to_tensors(self) -> dict[str, torch.Tensor]:
        arrays = {"mean": self.mean, "scale": self.scale, "coef": self.coef, "intercept": self.intercept}
        arrays["onset"] = self.onset
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    @classmethod
    def of(
        cls, model: Pipeline, descriptor: str, temperature: float, *, unit_length: bool = False
    ) -> SupportVectorsClassifier:
        """Convert a fitted pipeline of StandardScaler and linear SVC into a classifier, without onset weights."""
        scaler, svc = model[0], model[-1]
        sign = -1.0 if len(svc.classes_) == 2 else 1.0  # for two classes, scikit-learn: > 0 is the second
        record = SupportVectorsRecord(
            descriptor=descriptor, n_features=scaler.mean_.size, temperature=temperature, unit_length=unit_length
        )
        learnt = scaler.mean_, scaler.scale_, sign * svc.coef_, sign * svc.intercept_
        return cls(record, *learnt, len(svc.classes_), np.empty(0))

    @classmethod
    def build(cls, record: MarginsRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> SupportVectorsClassifier:
        read = DESCRIPTORS[record.descriptor]
        d, p = record.n_features, n_classes * (n_classes - 1) // 2
        shapes = {"mean": (d,), "scale": (d,), "coef": (p, d), "intercept": (p,)}
        shapes["onset"] = (read.size if read.signed else 0,)
        return cls(record, **take(tensors, shapes, dict.fromkeys(shapes, torch.float64)), n_classes=n_classes)


COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)  # candidate values of C


@dataclass(frozen=True)
class SupportVectors(DescriptorModel):
    """A linear one-against-one support vector machine on standardised values.

    Inner folds select C and, if the descriptor is a signed one (a change from neutral to apex), whether it is scaled to
    length 1: weak expressions then count as much as strong ones.
    """

    costs: ClassVar[tuple[float, ...]] = COSTS

    @property
    def choices(self) -> tuple[Mapping[str, float], ...]:
        if not self.descriptor.signed:
            return tuple({"cost": cost} for cost in self.costs)
        # unit length first: `select` compares the two halves
        return tuple({"cost": cost, "unit_length": float(unit)} for unit in (True, False) for cost in self.costs)

    def select(self, recalls: Sequence[float], n_clips: int) -> int:
        """Return the position of the best setting.

        Descriptors of length 1 are used unless the plain ones are better by more than one standard error: on ict both
        are equal, but only the direction of a change carries over from renders to real smiles.
        """
        best = int(np.argmax(recalls))
        if not self.descriptor.signed:
            return best
        best_unit = int(np.argmax(recalls[: len(self.costs)]))
        error = float(np.sqrt(recalls[best] * (1 - recalls[best]) / n_clips))
        return best_unit if recalls[best] - recalls[best_unit] <= error else best

    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> SupportVectorsClassifier:
        # a second of import that scoring does without
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC

        unit_length = bool(choice.get("unit_length", False))
        rows = to_unit_length(rows) if unit_length else rows
        svc = SVC(kernel="linear", C=choice["cost"], class_weight=weights, decision_function_shape="ovo")
        model = make_pipeline(StandardScaler(), svc).fit(rows, labels)
        margin = float(np.abs(model.decision_function(rows)).mean())  # a small C gives small margins
        return SupportVectorsClassifier.of(model, self.descriptor.name, margin, unit_length=unit_length)

    def complete(self, classifier: DescriptorClassifier, rows: np.ndarray, seed: int) -> DescriptorClassifier:
        """Add the onset weights, which take longer than a fit."""
        if not self.descriptor.signed:
            return classifier
        assert isinstance(classifier, SupportVectorsClassifier)
        return replace(classifier, onset=onset_weights(rows[:, : self.descriptor.size], seed))


def to_unit_length(rows: np.ndarray) -> np.ndarray:
    """Return (n, d) float64 rows scaled to length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.where(lengths > 0, lengths, 1.0)
    return scaled


def onset_weights(rows: np.ndarray, seed: int) -> np.ndarray:
    """Return (d,) weights of the hyperplane through 0 that separates clips, which start neutral, from their reversals.

    Each clip's descriptor is scaled to length 1, so that weak and strong expressions count equally.

    Args:
        rows: (n, d) signed descriptors of the clips.
    """
    from sklearn.svm import LinearSVC

    unit = to_unit_length(rows[np.any(rows != 0, axis=1)])
    if not len(unit):
        return np.zeros(rows.shape[1])
    svc = LinearSVC(fit_intercept=False, max_iter=5000, random_state=seed)
    svc.fit(np.vstack([unit, -unit]), np.repeat([1, -1], len(unit)))
    weights: np.ndarray = svc.coef_[0]
    return weights
