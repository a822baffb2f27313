"""The weighted mean of two models' scores (§1.3.2): LSTM and C3D (Khan and Reeshad), appearance and motion (Käding)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from fer_core.errors import WeightsError
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import (
    AnyRecord,
    ClassifierRecord,
    ClipClassifier,
    ClipModel,
    Fits,
    FitSplit,
    Fitted,
    build_classifier,
)

_SHARES = np.linspace(0, 1, 21)
_TINY = 1e-7


class FusionRecord(ClassifierRecord):
    """Record of two classifiers and the weight of the first in the mean."""

    kind: Literal["fused"] = "fused"
    first: AnyRecord
    second: AnyRecord
    share: float = Field(ge=0, le=1)
    learned: bool

    @model_validator(mode="after")
    def _of_two(self) -> FusionRecord:
        if "fused" in (self.first.kind, self.second.kind):
            raise ValueError("a part of a fused model cannot be a fused model itself")
        return self


@dataclass(frozen=True)
class FusionClassifier(ClipClassifier):
    """Two fitted classifiers and the weight `share` of the first; `learned` is True if this weight was learnt."""

    Record = FusionRecord

    first: ClipClassifier
    second: ClipClassifier
    share: float
    learned: bool

    @property
    def reads_features(self) -> bool:
        return self.first.reads_features or self.second.reads_features

    @property
    def reads_neutral(self) -> bool:
        return self.first.reads_neutral or self.second.reads_neutral

    @property
    def descriptors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.first.descriptors, *self.second.descriptors)))

    @property
    def block(self) -> nn.Module | None:
        return self.first.block or self.second.block

    @property
    def n_parameters(self) -> int:
        return self.first.n_parameters + self.second.n_parameters + self.learned

    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        return self.share * self.first.scores(inputs, clips) + (1 - self.share) * self.second.scores(inputs, clips)

    @property
    def parts(self) -> tuple[ClipClassifier, ...]:
        return (*self.first.parts, *self.second.parts)

    def to_record(self) -> FusionRecord:
        first, second = (part.to_record().model_dump() for part in (self.first, self.second))
        return FusionRecord.model_validate(
            {"first": first, "second": second, "share": self.share, "learned": self.learned}
        )

    def to_tensors(self) -> dict[str, torch.Tensor]:
        parts = {"first": self.first, "second": self.second}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.to_tensors().items()}

    @classmethod
    def build(cls, record: FusionRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> FusionClassifier:
        parts: dict[str, dict[str, torch.Tensor]] = {"first": {}, "second": {}}
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            if part not in parts:
                raise WeightsError(f"tensor '{key[:60]}' belongs to neither part of a fused model")
            parts[part][name] = value
        first = build_classifier(record.first, parts["first"], n_classes)
        second = build_classifier(record.second, parts["second"], n_classes)
        return cls(first, second, record.share, record.learned)


@dataclass(frozen=True)
class Fusion(ClipModel):
    """The mean of two models' scores, with equal weights or with a weight that is learnt during the fit.

    Args:
        first, second: the two models; `Fits` fits them once, also when other models use them.
        learned: True: the first model's weight is learnt (`learned_share`) on the clips for early stopping, from scores
            of fits without these clips. False: it is 1/2.
    """

    first: ClipModel
    second: ClipModel
    learned: bool

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return tuple(dict.fromkeys((*self.first.descriptors, *self.second.descriptors)))

    @property
    def reads_features(self) -> bool:
        return self.first.reads_features or self.second.reads_features

    @property
    def reads_neutral(self) -> bool:
        return self.first.reads_neutral or self.second.reads_neutral

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        first, second = fits.fitted(self.first, side.part("first")), fits.fitted(self.second, side.part("second"))
        started = time.monotonic()
        share = 0.5 if side.selected is None else side.selected["share"]
        if self.learned and side.selected is None and len(side.stop):
            apart = (p if m.stops_early else m.fit(fits, side) for m, p in ((self.first, first), (self.second, second)))
            ours, theirs = (part.classifier.scores(fits.table, side.stop) for part in apart)
            share = learned_share(ours, theirs, fits.table.labels[side.stop])
        parts = {"first": first, "second": second}
        decided = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.selected.items()}
        return Fitted(
            classifier=FusionClassifier(first.classifier, second.classifier, share, self.learned),
            seconds=first.seconds + second.seconds + time.monotonic() - started,
            selected={"share": share, **decided},
            pretrained=first.pretrained or second.pretrained,
            threads=max(first.threads, second.threads),
        )


def learned_share(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """Select the weight of the first model by the one-standard-error rule.

    Of all weights whose cross-entropy is within one standard error of the smallest, return the one nearest to 1/2: a
    few dozen clips show whether a part is useless or good, but not more.

    Args:
        first, second: (n, k) scores of the same clips.
        labels: (n,) indices of the true classes.
    """
    a, b = (scores[np.arange(len(labels)), labels] for scores in (first, second))
    shares = _SHARES[:, None]
    losses = -np.log(np.maximum(shares * a + (1 - shares) * b, _TINY))  # (shares, n)
    behind = losses - losses[losses.mean(axis=1).argmin()]
    near = behind.mean(axis=1) <= behind.std(axis=1) / np.sqrt(len(labels))
    return float(min(_SHARES[near], key=lambda share: abs(share - 0.5)))
