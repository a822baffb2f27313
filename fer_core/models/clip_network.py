"""Networks over whole clips: frame attention (appendix), LSTM and C3D (§1.3.2); what each is shown of a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_core.errors import WeightsError
from fer_core.features.descriptors.catalogue import VOLUME
from fer_core.features.descriptors.descriptor import COURSE_FRAMES, frames_evenly
from fer_core.features.descriptors.volume import SIDE
from fer_core.features.inputs import ClipInputs
from fer_core.models.attention import FrameAttention
from fer_core.models.base import ClipClassifier, FrameView
from fer_core.models.record import NetworkRecord

Batch = tuple[torch.Tensor, np.ndarray]  # inputs of some clips, the clips' places
STEPS = 8  # frames an LSTM reads of a clip
CHANNELS = (8, 16, 32, 64)  # of C3D-small
CLIPS_AT_ONCE = 16
_LAYOUT = torch.channels_last_3d  # a third faster on a CPU


class Standardize(nn.Module):
    """Features with mean 0 over the training frames, and a deviation that makes a frame no longer than 512 of 1.

    The recipes suit the 512 features of a ResNet18. Unscaled, VGG16's reach 190; and 25,088 of deviation 1 make
    attention diverge and saturate an LSTM's gates.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features.float() - self.mean) * self.scale


class LastState(nn.Module):
    """The hidden state of an LSTM after the last frame."""

    def __init__(self, n_features: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(b, hidden) of (b, n, d) frames."""
        return self.lstm(frames)[1][0][-1]


def c3d_small(n_classes: int, dropout: float) -> nn.Sequential:
    """C3D's plan (Tran et al. 2015), narrow: 3×3×3 convolutions, pooled in space, all but the first in time too.

    Batch normalisation, which C3D did without, lets it learn from a few hundred clips and no pretraining.
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


def build_network(record: NetworkRecord, n_classes: int) -> nn.Module:
    """The network with random weights: (b, ...) of what it is shown -> (b, k) logits."""
    d = record.n_features
    if record.kind == "attention":
        return nn.Sequential(Standardize(d), FrameAttention(d, n_classes, relation=record.relation))
    if record.kind == "lstm":
        return nn.Sequential(
            Standardize(d), nn.Dropout(record.dropout), LastState(d, record.hidden), nn.Dropout(record.dropout),
            nn.Linear(record.hidden, n_classes),
        )  # fmt: skip
    return c3d_small(n_classes, record.dropout).to(memory_format=_LAYOUT)


def all_frames(inputs: ClipInputs, clips: np.ndarray, size: int = CLIPS_AT_ONCE) -> Iterator[Batch]:
    """Every clip once by all its frames; clips of the same length go together."""
    lengths = inputs.lengths[clips]
    for n in np.unique(lengths):
        for chosen in in_chunks(clips[lengths == n], size):
            rows = inputs.offsets[chosen][:, None] + np.arange(n)
            yield inputs.features[torch.from_numpy(rows)], chosen


def frames_in_steps(inputs: ClipInputs, clips: np.ndarray, size: int = CLIPS_AT_ONCE) -> Iterator[Batch]:
    """Every clip once, by eight frames from its first to its last."""
    for chosen in in_chunks(clips, size):
        places = np.stack([frames_evenly(int(n), STEPS) for n in inputs.lengths[chosen]])
        yield inputs.features[torch.from_numpy(places + inputs.offsets[chosen][:, None])], chosen


def volumes(inputs: ClipInputs, clips: np.ndarray, size: int = CLIPS_AT_ONCE) -> Iterator[Batch]:
    """Every clip once, by the faces of its course."""
    faces = inputs.described[VOLUME.name]
    for chosen in in_chunks(clips, size):
        grey = torch.from_numpy(faces[chosen]).float()
        yield ((grey.unsqueeze(1) - 127.5) / 64).contiguous(memory_format=_LAYOUT), chosen


SHOWN: dict[str, Callable[[ClipInputs, np.ndarray, int], Iterator[Batch]]] = {
    "attention": all_frames,
    "lstm": frames_in_steps,
    "c3d": volumes,
}


@dataclass(frozen=True)
class NetworkClassifier(ClipClassifier):
    """A fitted network, in evaluation mode."""

    record: NetworkRecord
    net: nn.Module

    @property
    def reads_features(self) -> bool:
        return self.record.kind != "c3d"

    @property
    def descriptors(self) -> tuple[str, ...]:
        return (VOLUME.name,) if self.record.kind == "c3d" else ()

    @property
    def n_parameters(self) -> int:
        """Weights, and the means and scales of standardisation and batch normalisation; counters of batches are not."""
        return sum(t.numel() for t in self.net.state_dict().values() if t.is_floating_point())

    @torch.inference_mode()
    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        device = next(self.net.parameters()).device
        place = {int(clip): i for i, clip in enumerate(clips)}
        found: dict[int, np.ndarray] = {}
        for shown, chosen in SHOWN[self.record.kind](inputs, clips, CLIPS_AT_ONCE):
            logits = self.net(shown.to(device)).double()
            found |= dict(zip((place[int(c)] for c in chosen), logits.softmax(dim=1).cpu().numpy(), strict=True))
        return np.stack([found[i] for i in range(len(clips))])

    @torch.inference_mode()
    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView | None:
        """Of attention: the clip's logits are the mean of its frames' by their weights."""
        if not isinstance(self.net, nn.Sequential) or not isinstance(self.net[-1], FrameAttention):
            return None
        [(shown, _)] = all_frames(inputs, np.array([clip]))
        logits, shares = self.net[-1].by_frame(self.net[:-1](shown))
        return FrameView(logits[0].double().softmax(dim=1).numpy(), shares[0].double().numpy())

    def to_record(self) -> NetworkRecord:
        return self.record

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().cpu() for key, value in self.net.state_dict().items()}

    @classmethod
    def build(cls, record: NetworkRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> NetworkClassifier:
        net = build_network(record, n_classes)
        net.load_state_dict(tensors, strict=True)
        if any(tensors[key].dtype != value.dtype for key, value in net.state_dict().items()):
            raise WeightsError("a network's tensors must be float32")
        return cls(record, net.eval().requires_grad_(False))


def in_chunks(clips: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The clips, `size` at a time."""
    return (clips[start : start + size] for start in range(0, len(clips), size))
