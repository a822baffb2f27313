"""C3D-small: convolutions in space and time over the faces of a clip's whole course (§1.3.2; Tran et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import nn

from fer_core.dataset.table import FeatureTable
from fer_core.features.descriptors.catalogue import VOLUME
from fer_core.features.descriptors.descriptor import COURSE_FRAMES, Descriptor
from fer_core.features.descriptors.volume import SIDE
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClassifierRecord
from fer_core.models.clip_network import CLIPS_AT_ONCE, Batch, ClipNetwork, NetworkClassifier, in_chunks

CHANNELS = (8, 16, 32, 64)
_SHIFT = 3  # pixels, in each direction
_LAYOUT = torch.channels_last_3d  # this memory layout is a third faster on a CPU


def c3d_small(n_classes: int, dropout: float) -> nn.Sequential:
    """Build a narrow C3D (Tran et al. 2015): 3×3×3 convolutions, each followed by pooling in space and time.

    The first pooling is in space only. Unlike C3D, it has batch normalisation, so that it learns from a few hundred
    clips without pretraining.
    """
    layers: list[nn.Module] = []
    before = 1
    for place, channels in enumerate(CHANNELS):
        layers += [
            nn.Conv3d(before, channels, 3, padding=1, bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 2, 2) if place == 0 else (2, 2, 2)),
        ]
        before = channels
    n = before * (COURSE_FRAMES // 8) * (SIDE // 16) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(n, n_classes))


class C3DRecord(ClassifierRecord):
    """C3D-small."""

    kind: Literal["c3d"] = "c3d"
    dropout: float = Field(ge=0, lt=1)


class C3DClassifier(NetworkClassifier):
    """A fitted C3D-small."""

    Record = C3DRecord

    @property
    def descriptors(self) -> tuple[str, ...]:
        return (VOLUME.name,)

    @classmethod
    def network(cls, record: ClassifierRecord, n_classes: int) -> nn.Module:
        return c3d_small(n_classes, cast(C3DRecord, record).dropout).to(memory_format=_LAYOUT)

    @classmethod
    def batches(cls, inputs: ClipInputs, clips: np.ndarray, size: int = CLIPS_AT_ONCE) -> Iterator[Batch]:
        """Yield (b, 1, t, h, w) face volumes: the faces of each clip's whole course."""
        faces = inputs.described[VOLUME.name]
        for batch in in_chunks(clips, size):
            grey = torch.from_numpy(faces[batch]).float()
            yield ((grey.unsqueeze(1) - 127.5) / 64).contiguous(memory_format=_LAYOUT), batch


@dataclass(frozen=True)
class C3D(ClipNetwork):
    """Face volumes -> scores. Training mirrors half of the volumes at random and shifts all by up to three pixels."""

    classifier = C3DClassifier

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (VOLUME,)

    def record(self, table: FeatureTable) -> C3DRecord:
        return C3DRecord(dropout=self.recipe.dropout)

    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        for inputs, batch in self.whole(table, rng.permutation(clips)):
            jittered = torch.stack([_jitter(one, rng) for one in inputs])
            yield jittered.contiguous(memory_format=_LAYOUT), batch


def _jitter(grey: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Mirror a (1, 16, 56, 56) volume with probability 1/2 and shift it; edge pixels are repeated into the gap."""
    if rng.random() < 0.5:
        grey = grey.flip(-1)
    down, right = (int(s) for s in rng.integers(0, 2 * _SHIFT + 1, 2))
    padded = nn.functional.pad(grey, (_SHIFT,) * 4 + (0, 0), mode="replicate")
    return padded[..., down : down + SIDE, right : right + SIDE]
