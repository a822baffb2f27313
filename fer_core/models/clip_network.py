"""Fitting and prediction shared by all networks over whole clips; each network has its own file."""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.errors import WeightsError
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClassifierRecord, ClipClassifier, ClipModel, Fits, FitSplit, Fitted
from fer_core.runtime import resolve_device
from fer_core.training.fit_epochs import build_loss, fit_epochs
from fer_core.training.imbalance import class_weights

log = logging.getLogger(__name__)

Batch = tuple[torch.Tensor, np.ndarray]  # inputs of some clips, and the positions of these clips in the table
CLIPS_AT_ONCE = 16
LENGTH = 512  # number of features that the recipes were made for
_AT_ONCE = 1024  # frames per step of the statistics
_CONSTANT = 1e-8  # a variance below this share of the mean square is only rounding error


@dataclass(frozen=True)
class NetworkClassifier(ClipClassifier):
    """A fitted network in evaluation mode."""

    record: ClassifierRecord
    net: nn.Module

    @classmethod
    @abstractmethod
    def network(cls, record: ClassifierRecord, n_classes: int) -> nn.Module:
        """Build the network of a record, with random weights. It maps (b, ...) inputs to (b, k) logits."""

    @classmethod
    @abstractmethod
    def batches(cls, inputs: ClipInputs, clips: np.ndarray, size: int = CLIPS_AT_ONCE) -> Iterator[Batch]:
        """Yield the inputs of whole clips, each clip once, in batches of at most `size` clips."""

    @property
    def n_parameters(self) -> int:
        """Number of weights, with the means and scales of standardisation and batch normalisation."""
        return sum(t.numel() for t in self.net.state_dict().values() if t.is_floating_point())

    @torch.inference_mode()
    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        device = next(self.net.parameters()).device
        place = {int(clip): i for i, clip in enumerate(clips)}
        found: dict[int, np.ndarray] = {}
        for read, batch in self.batches(inputs, clips):
            logits = self.net(read.to(device)).double()
            found |= dict(zip((place[int(c)] for c in batch), logits.softmax(dim=1).cpu().numpy(), strict=True))
        return np.stack([found[i] for i in range(len(clips))])

    def to_record(self) -> ClassifierRecord:
        return self.record

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().cpu() for key, value in self.net.state_dict().items()}

    @classmethod
    def build(cls, record: ClassifierRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> Self:
        net = cls.network(record, n_classes)
        net.load_state_dict(tensors, strict=True)
        if any(tensors[key].dtype != value.dtype for key, value in net.state_dict().items()):
            raise WeightsError("a network's tensors must be float32")
        return cls(record, net.eval().requires_grad_(False))


@dataclass(frozen=True)
class ClipNetwork(ClipModel):
    """A network over whole clips.

    Args:
        recipe: its training settings. `batch_size` counts clips; `epochs` and `stopping` work as for a head; the fields
            of the FC layers are ignored.
    """

    classifier: ClassVar[type[NetworkClassifier]]
    recipe: TrainConfig

    @abstractmethod
    def record(self, table: FeatureTable) -> ClassifierRecord:
        """Return the record of the network that is built for the features of a table."""

    @abstractmethod
    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch, drawn with `rng`."""

    def drawn(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        """Return the clips of one epoch, repeated as often as they are drawn; these counts give the class weights."""
        return clips

    def whole(self, table: FeatureTable, clips: np.ndarray) -> Iterator[Batch]:
        """Yield batches for prediction, which contain every clip once and completely."""
        return self.classifier.batches(table, clips, self.recipe.batch_size)

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        started = time.monotonic()
        table, labels = fits.table, fits.table.labels
        cfg = self.recipe.model_copy(update={"seed": side.seed} | ({"stopping": "never"} if side.selected else {}))
        device, record = resolve_device(cfg.device), self.record(table)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(side.seed)
            net = self.classifier.network(record, len(table.classes))
        for layer in net.modules():
            if isinstance(layer, Standardize):
                standardize(layer, table, side.fit)
        counts = np.bincount(labels[self.drawn(table, side.fit)], minlength=len(table.classes))

        def labelled(batches: Iterable[Batch]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for inputs, clips in batches:
                yield inputs.to(device), torch.from_numpy(labels[clips]).to(device)

        found = fit_epochs(
            net.to(device), cfg, build_loss(class_weights(counts, cfg.class_weights), cfg).to(device),
            lambda rng: labelled(self.training(table, side.fit, rng)),
            (lambda: labelled(self.whole(table, side.stop))) if len(side.stop) else None,
            length=side.length, checkpoint=fits.checkpoint_of(self), on_epoch=fits.on_epoch,
        )  # fmt: skip
        log.info("%s: best of %d epochs is %d", self.name, len(found.history), found.best_epoch)
        return Fitted(
            classifier=self.classifier(record, net.cpu().eval().requires_grad_(False)),
            seconds=time.monotonic() - started,
            selected={"steps": found.steps, "epochs": found.best_epoch},
            history=found.history,
            best_epoch=found.best_epoch,
            threads=found.threads,
        )


class Standardize(nn.Module):
    """Standardise features: mean 0 over the training frames and standard deviation min(1, √(512 / d)) for d features.

    The recipes were made for the 512 features of a ResNet18. VGG16's 25,088 features reach 190 if they are not scaled;
    with standard deviation 1 they make attention diverge and saturate an LSTM's gates.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features.float() - self.mean) * self.scale


def standardize(layer: Standardize, table: FeatureTable, clips: np.ndarray) -> None:
    """Set the mean and scale of a layer from the frames of some clips; constant features become 0."""
    rows = torch.from_numpy(table.frames_of(clips))
    total, squares = torch.zeros(2, table.n_features, dtype=torch.float64)
    for some in rows.split(_AT_ONCE):
        features = table.features[some].double()
        total += features.sum(dim=0)
        squares += features.square().sum(dim=0)
    mean, square = total / len(rows), squares / len(rows)
    variance = square - mean.square()
    varies = variance > _CONSTANT * square
    layer.mean.copy_(mean)
    deviation = min(1.0, math.sqrt(LENGTH / table.n_features))
    layer.scale.copy_(torch.where(varies, deviation * variance.clamp(min=1e-30).rsqrt(), 0.0))


def in_chunks(clips: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the clips in chunks of `size`."""
    return (clips[start : start + size] for start in range(0, len(clips), size))
