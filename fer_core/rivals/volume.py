"""C3D-small: convolutions in space and time over the faces of a clip's whole course (§1.3.2; Tran et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.rivals.material import COURSE_FRAMES, Descriptor, Material, frames_evenly
from fer_core.rivals.nets import Batch, ClipNet, in_chunks

SIDE = 56
CHANNELS = (8, 16, 32, 64)
_SHIFT = 3  # pixels
_LAYOUT = torch.channels_last_3d  # a third faster on a CPU
RECIPE = TrainConfig(optimizer="adam", lr=1e-3, weight_decay=1e-4, batch_size=16, epochs=40, dropout=0.5)


def volume(pixels: np.ndarray) -> np.ndarray:
    """(16, 56, 56) uint8 faces, evenly from the first to the last, of (n, size, size) uint8 ones."""
    chosen = pixels[frames_evenly(len(pixels), COURSE_FRAMES)]
    return np.stack([cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for face in chosen])


VOLUME = Descriptor("volume", "course", volume)


def c3d_small(n_classes: int, dropout: float) -> nn.Sequential:
    """C3D's plan, narrow: 3×3×3 convolutions, the first pooling in space only, the others in space and time.

    Batch normalisation, which C3D did without, lets it learn from a few hundred clips and no pretraining.
    """
    layers: list[nn.Module] = []
    before = 1
    for place, channels in enumerate(CHANNELS):
        pool = (1, 2, 2) if place == 0 else (2, 2, 2)
        layers += [
            nn.Conv3d(before, channels, 3, padding=1, bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(pool),
        ]
        before = channels
    n = before * (COURSE_FRAMES // 8) * (SIDE // 16) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(n, n_classes))


@dataclass(frozen=True)
class C3D(ClipNet):
    """Face volumes -> scores. In training a volume is mirrored or not, and shifted by at most three pixels."""

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (VOLUME,)

    def build(self, data: Material, fit_clips: np.ndarray) -> nn.Module:
        net = c3d_small(len(data.table.classes), self.recipe.dropout)
        return net.to(memory_format=_LAYOUT)

    def training(self, data: Material, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        for inputs, chosen in self.whole(data, rng.permutation(clips)):
            yield torch.stack([_jitter(one, rng) for one in inputs]).contiguous(memory_format=_LAYOUT), chosen

    def whole(self, data: Material, clips: np.ndarray) -> Iterator[Batch]:
        volumes = data.described(VOLUME)
        for chosen in in_chunks(clips, self.recipe.batch_size):
            grey = torch.from_numpy(volumes[chosen]).float()
            yield ((grey.unsqueeze(1) - 127.5) / 64).contiguous(memory_format=_LAYOUT), chosen


def _jitter(grey: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A (1, 16, 56, 56) volume mirrored or not and shifted, its edges repeated."""
    if rng.random() < 0.5:
        grey = grey.flip(-1)
    down, right = (int(s) for s in rng.integers(0, 2 * _SHIFT + 1, 2))
    padded = nn.functional.pad(grey, (_SHIFT,) * 4 + (0, 0), mode="replicate")
    return padded[..., down : down + SIDE, right : right + SIDE]
