"""Frame attention over stored features (the appendix), by the recipe of its published code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.model.attention import FrameAttention
from fer_core.rivals.material import Material
from fer_core.rivals.nets import Batch, ClipNet, Standardize, in_chunks

SHOWN = 3  # frames of a clip in training
# The appendix: SGD, 180 epochs, the best by clip accuracy. Here that is the best 5-epoch mean on clips of the training
# side, and a fit ends early when it has not risen for 30 epochs, half a step of the schedule.
RECIPE = TrainConfig(
    optimizer="sgd", lr=4e-3, momentum=0.9, weight_decay=1e-4, schedule="step", step_epochs=60, step_gamma=0.2,
    batch_size=48, epochs=180, patience=30,
)  # fmt: skip


@dataclass(frozen=True)
class Attention(ClipNet):
    """Self-attention, or self + relation; three frames a clip in training, all of them in evaluation.

    Beside the appendix: the convolutions are frozen there to nothing and here to all, so only q and W learn.
    """

    relation: bool

    @property
    def reads_features(self) -> bool:
        return True

    def build(self, data: Material, fit_clips: np.ndarray) -> nn.Module:
        table = data.table
        attention = FrameAttention(table.n_features, len(table.classes), relation=self.relation)
        return nn.Sequential(Standardize(table, fit_clips), attention)

    def training(self, data: Material, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        """As many draws of a clip as it has frames, each one frame of its first, second and last third."""
        table = data.table
        shown = rng.permutation(np.repeat(clips, np.diff(table.offsets)[clips]))
        for chosen in in_chunks(shown, self.recipe.batch_size):
            first, n = table.offsets[chosen], np.diff(table.offsets)[chosen]
            rows = first[:, None] + thirds(n, rng)
            yield table.features[torch.from_numpy(rows)], chosen

    def whole(self, data: Material, clips: np.ndarray) -> Iterator[Batch]:
        """All frames; clips of the same length go together."""
        table = data.table
        lengths = np.diff(table.offsets)[clips]
        for n in np.unique(lengths):
            for chosen in in_chunks(clips[lengths == n], self.recipe.batch_size):
                rows = table.offsets[chosen][:, None] + np.arange(n)
                yield table.features[torch.from_numpy(rows)], chosen


def thirds(n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(b, 3) one random frame of each third of clips with (b,) n frames; thirds of a clip of one or two overlap."""
    edges = np.arange(SHOWN + 1) * n[:, None] // SHOWN
    low, high = edges[:, :-1], np.maximum(edges[:, 1:], edges[:, :-1] + 1)
    return np.minimum(rng.integers(low, high), n[:, None] - 1)
