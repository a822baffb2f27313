"""The mean of several models' clip scores: the best trials of a search, averaged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from fer_core.errors import WeightsError
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


class AverageRecord(ClassifierRecord):
    """Records of the classifiers whose scores are averaged."""

    kind: Literal["average"] = "average"
    members: tuple[AnyRecord, ...] = Field(min_length=2, max_length=20)

    @model_validator(mode="after")
    def _flat(self) -> AverageRecord:
        if any(member.kind == "average" for member in self.members):
            raise ValueError("a member of an average cannot be an average itself")
        return self


class _ReadsOfMembers:
    """Reads whatever its members read."""

    members: tuple[Any, ...]

    @property
    def reads_features(self) -> bool:
        return any(member.reads_features for member in self.members)

    @property
    def reads_neutral(self) -> bool:
        return any(member.reads_neutral for member in self.members)

    @property
    def descriptors(self) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(found for member in self.members for found in member.descriptors))


@dataclass(frozen=True)
class AverageClassifier(_ReadsOfMembers, ClipClassifier):
    """Fitted classifiers whose clip scores are averaged with equal weights."""

    Record = AverageRecord

    members: tuple[ClipClassifier, ...]

    @property
    def n_parameters(self) -> int:
        return sum(member.n_parameters for member in self.members)

    @property
    def parts(self) -> tuple[ClipClassifier, ...]:
        return tuple(part for member in self.members for part in member.parts)

    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        return np.mean([member.scores(inputs, clips) for member in self.members], axis=0)

    def flags(self, inputs: ClipInputs, clip: int) -> tuple[str, ...]:
        return tuple(dict.fromkeys(flag for member in self.members for flag in member.flags(inputs, clip)))

    def to_record(self) -> AverageRecord:
        return AverageRecord.model_validate({"members": [m.to_record().model_dump() for m in self.members]})

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {f"{i}.{key}": value for i, m in enumerate(self.members) for key, value in m.to_tensors().items()}

    @classmethod
    def build(cls, record: AverageRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> AverageClassifier:
        own: dict[str, dict[str, torch.Tensor]] = {str(i): {} for i in range(len(record.members))}
        for key, value in tensors.items():
            member, _, name = key.partition(".")
            if member not in own:
                raise WeightsError(f"tensor '{key[:60]}' belongs to no member of an average")
            own[member][name] = value
        pairs = zip(record.members, own.values(), strict=True)
        return cls(tuple(build_classifier(member, found, n_classes) for member, found in pairs))


@dataclass(frozen=True)
class Average(_ReadsOfMembers, ClipModel):
    """The mean of several models' clip scores, with equal weights.

    Args:
        members: the models; their names differ, since each has its own checkpoints.
    """

    members: tuple[ClipModel, ...]

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        started = time.monotonic()
        found = [fits.fitted(member, side.part(str(i))) for i, member in enumerate(self.members)]
        return Fitted(
            classifier=AverageClassifier(tuple(member.classifier for member in found)),
            seconds=time.monotonic() - started,
            selected={f"{i}.{key}": value for i, member in enumerate(found) for key, value in member.selected.items()},
            pretrained=next((member.pretrained for member in found if member.pretrained), ()),
            threads=max(member.threads for member in found),
        )
