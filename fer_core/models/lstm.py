"""An LSTM that reads the features of a clip's frames in their order (§1.3.2: the CNN-RNN of Kahou et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import nn

from fer_core.dataset.table import FeatureTable
from fer_core.features.descriptors.descriptor import frames_evenly
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClassifierRecord
from fer_core.models.clip_network import CLIPS_AT_ONCE, Batch, ClipNetwork, NetworkClassifier, Standardize, in_chunks

HIDDEN = 64
STEPS = 8  # frames that the LSTM reads from a clip


class LastState(nn.Module):
    """The hidden state of an LSTM after the last frame."""

    def __init__(self, n_features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return (b, hidden) states after the last of (b, n, d) frames."""
        return self.lstm(frames)[1][0][-1]


class LSTMRecord(ClassifierRecord):
    """An LSTM over standardised features."""

    kind: Literal["lstm"] = "lstm"
    n_features: int = Field(ge=1, le=100_000)
    hidden: int = Field(ge=1, le=8192)
    dropout: float = Field(ge=0, lt=1)


class LSTMClassifier(NetworkClassifier):
    """A fitted LSTM."""

    Record = LSTMRecord

    @property
    def reads_features(self) -> bool:
        return True

    @classmethod
    def network(cls, record: ClassifierRecord, n_classes: int) -> nn.Module:
        record = cast(LSTMRecord, record)
        return nn.Sequential(
            Standardize(record.n_features), nn.Dropout(record.dropout), LastState(record.n_features, record.hidden),
            nn.Dropout(record.dropout), nn.Linear(record.hidden, n_classes),
        )  # fmt: skip

    @classmethod
    def batches(cls, inputs: ClipInputs, clips: np.ndarray, size: int = CLIPS_AT_ONCE) -> Iterator[Batch]:
        """Yield eight evenly spaced frames of every clip, from its first frame to its last."""
        for batch in in_chunks(clips, size):
            places = np.stack([frames_evenly(int(n), STEPS) for n in inputs.lengths[batch]])
            yield inputs.features[torch.from_numpy(places + inputs.offsets[batch][:, None])], batch


@dataclass(frozen=True)
class LSTM(ClipNetwork):
    """Standardised features -> LSTM -> its last hidden state -> scores, with dropout before the LSTM and the scores."""

    classifier = LSTMClassifier

    @property
    def reads_features(self) -> bool:
        return True

    def record(self, table: FeatureTable) -> LSTMRecord:
        return LSTMRecord(n_features=table.n_features, hidden=HIDDEN, dropout=self.recipe.dropout)

    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        return self.whole(table, rng.permutation(clips))
