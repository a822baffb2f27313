"""Frame attention over stored features (the appendix), by the recipe of its published code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fer_core.features.store import FeatureTable
from fer_core.models.clip_network import Batch, in_chunks
from fer_core.models.record import NetworkRecord
from fer_core.rivals.nets import ClipNet

THIRDS = 3  # frames of a clip in training


@dataclass(frozen=True)
class Attention(ClipNet):
    """Self-attention, or self + relation; three frames a clip in training, all of them in evaluation.

    Beside the appendix: the convolutions are frozen there to nothing and here to all, so only q and W learn.
    """

    relation: bool

    @property
    def reads_features(self) -> bool:
        return True

    def network(self, table: FeatureTable) -> NetworkRecord:
        return NetworkRecord(kind="attention", n_features=table.n_features, relation=self.relation)

    def drawn(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        """A clip as often as it has frames."""
        return np.repeat(clips, table.lengths[clips])

    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        """A draw is one frame of a clip's first, second and last third."""
        for chosen in in_chunks(rng.permutation(self.drawn(table, clips)), self.recipe.batch_size):
            first, n = table.offsets[chosen], table.lengths[chosen]
            rows = first[:, None] + thirds(n, rng)
            yield table.features[torch.from_numpy(rows)], chosen


def thirds(n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(b, 3) one random frame of each third of clips with (b,) n frames; thirds of a clip of one or two overlap."""
    edges = np.arange(THIRDS + 1) * n[:, None] // THIRDS
    low, high = edges[:, :-1], np.maximum(edges[:, 1:], edges[:, :-1] + 1)
    return np.minimum(rng.integers(low, high), n[:, None] - 1)
