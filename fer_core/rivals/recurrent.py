"""An LSTM over the features of a clip's frames, in order (§1.3.2: the CNN-RNN of Kahou et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.rivals.material import Material, frames_evenly
from fer_core.rivals.nets import Batch, ClipNet, Standardize, in_chunks

STEPS = 8  # frames a clip is resampled to, first and last kept
HIDDEN = 64
RECIPE = TrainConfig(optimizer="adam", lr=1e-3, weight_decay=1e-4, batch_size=16, epochs=60, dropout=0.5)


@dataclass(frozen=True)
class Recurrent(ClipNet):
    """Standardised features -> LSTM -> its last state -> scores, dropout before each."""

    @property
    def reads_features(self) -> bool:
        return True

    def build(self, data: Material, fit_clips: np.ndarray) -> nn.Module:
        table = data.table
        return nn.Sequential(
            Standardize(table, fit_clips),
            nn.Dropout(self.recipe.dropout),
            LastState(table.n_features, HIDDEN),
            nn.Dropout(self.recipe.dropout),
            nn.Linear(HIDDEN, len(table.classes)),
        )

    def training(self, data: Material, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        return self.whole(data, rng.permutation(clips))

    def whole(self, data: Material, clips: np.ndarray) -> Iterator[Batch]:
        table = data.table
        for chosen in in_chunks(clips, self.recipe.batch_size):
            n = np.diff(table.offsets)[chosen]
            rows = np.stack([frames_evenly(int(m), STEPS) for m in n]) + table.offsets[chosen][:, None]
            yield table.features[torch.from_numpy(rows)], chosen


class LastState(nn.Module):
    """The hidden state of an LSTM after the last frame."""

    def __init__(self, n_features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(b, hidden) of (b, n, d) frames."""
        return self.lstm(frames)[1][0][-1]
