"""C3D-small: convolutions in space and time over the faces of a clip's whole course (§1.3.2; Tran et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_core.features.descriptors.catalogue import VOLUME
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.features.descriptors.volume import SIDE
from fer_core.features.store import FeatureTable
from fer_core.models.clip_network import Batch
from fer_core.models.record import NetworkRecord
from fer_core.rivals.nets import ClipNet

_SHIFT = 3  # pixels


@dataclass(frozen=True)
class C3D(ClipNet):
    """Face volumes -> scores. In training a volume is mirrored or not, and shifted by at most three pixels."""

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (VOLUME,)

    def network(self, table: FeatureTable) -> NetworkRecord:
        return NetworkRecord(kind="c3d", dropout=self.recipe.dropout)

    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        for inputs, chosen in self.whole(table, rng.permutation(clips)):
            jittered = torch.stack([_jitter(one, rng) for one in inputs])
            yield jittered.contiguous(memory_format=torch.channels_last_3d), chosen


def _jitter(grey: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A (1, 16, 56, 56) volume mirrored or not and shifted, its edges repeated."""
    if rng.random() < 0.5:
        grey = grey.flip(-1)
    down, right = (int(s) for s in rng.integers(0, 2 * _SHIFT + 1, 2))
    padded = nn.functional.pad(grey, (_SHIFT,) * 4 + (0, 0), mode="replicate")
    return padded[..., down : down + SIDE, right : right + SIDE]
