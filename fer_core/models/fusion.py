"""Two classifiers' scores joined into one (§1.3.2): LSTM and C3D (Khan and Reeshad), appearance and motion (Käding)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClipClassifier
from fer_core.models.record import FusedRecord


@dataclass(frozen=True)
class FusedClassifier(ClipClassifier):
    """Two classifiers, and the share of the first; `learned` says whether that was learnt."""

    first: ClipClassifier
    second: ClipClassifier
    share: float
    learned: bool

    @property
    def reads_features(self) -> bool:
        return self.first.reads_features or self.second.reads_features

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

    def to_record(self) -> FusedRecord:
        first, second = (part.to_record().model_dump() for part in (self.first, self.second))
        return FusedRecord.model_validate(
            {"first": first, "second": second, "share": self.share, "learned": self.learned}
        )

    def to_tensors(self) -> dict[str, torch.Tensor]:
        parts = {"first": self.first, "second": self.second}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.to_tensors().items()}
