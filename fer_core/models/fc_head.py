"""The thesis's model: FC layers fitted to frames (§4.2), and a rule that combines the frames' scores (§4.1).

Optionally, the backbone's last block is fine-tuned together with the head (§2.8).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from fer_core.config import Relative, Rule, TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.errors import TrainingError, WeightsError
from fer_core.features.inputs import ClipInputs
from fer_core.features.neutral_reference import NEUTRAL, beside_difference
from fer_core.features.store import load_block, load_fc
from fer_core.features.torch_backbone import features_above
from fer_core.models.base import (
    ClassifierRecord,
    ClipClassifier,
    ClipModel,
    Fits,
    FitSplit,
    Fitted,
    FrameView,
)
from fer_core.models.linear import Linear
from fer_core.models.verdict import judge
from fer_core.runtime import resolve_device
from fer_core.training.fit_epochs import Length, build_loss, fit_epochs
from fer_core.training.history import Epoch, History
from fer_core.training.imbalance import class_weights, sample

FullyConnected = Sequence[tuple[torch.Tensor, torch.Tensor]]


class Head(nn.Sequential):
    """VGG16's classifier with any widths: linear, ReLU and dropout for each width, then a linear layer to the classes.

    Dropout p (§2.7; Srivastava et al. 2014): in training, each hidden value is set to 0 with probability p and
    otherwise divided by 1 - p; in evaluation, values are unchanged.
    """

    def __init__(self, n_features: int, widths: Sequence[int], n_classes: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        for width in widths:
            layers += [Linear(n_features, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            n_features = width
        super().__init__(*layers, Linear(n_features, n_classes))

    @property
    def linears(self) -> list[Linear]:
        """The linear layers, first to last."""
        return [layer for layer in self if isinstance(layer, Linear)]

    @property
    def n_weights(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())


def build_head(n_features: int, widths: Sequence[int], n_classes: int, dropout: float, seed: int) -> Head:
    """Build a head with PyTorch's default initialisation, which depends on `seed` only, not on earlier random draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(n_features, widths, n_classes, dropout)


def start_from(head: Head, fc: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    """Copy pretrained FC layers into the hidden layers at the same index, where the shapes are equal (§4.2.1).

    Args:
        fc: weight and bias of each of the checkpoint's FC layers except the last, in order.
    Returns:
        Indices of the copied layers. The other layers keep their random weights; a run must report this.
    """
    copied = []
    with torch.no_grad():
        for place, (layer, (weight, bias)) in enumerate(zip(head.linears[:-1], fc, strict=False)):
            if layer.weight.shape == weight.shape:
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
                copied.append(place)
    return copied


@torch.inference_mode()
def frame_scores(head: Head, features: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """Return (n, k) float32 softmax scores of (n, d) features of any float type, without dropout.

    Every batch is padded to `batch` rows, so that the score of a frame does not depend on the other frames.
    """
    head.eval()
    first = head.linears[0]
    out = torch.empty((len(features), head.linears[-1].out_features))
    for start in range(0, len(features), batch):
        rows = features[start : start + batch].to(first.weight.device, torch.float32)
        padded = torch.zeros((batch, rows.shape[1]), device=rows.device)
        padded[: len(rows)] = rows
        out[start : start + len(rows)] = head(padded)[: len(rows)].softmax(dim=1).cpu()
    return out


_TIE = 1e-6


def inputs_of(n_features: int, relative: Relative) -> int:
    """Return how many values a head reads for each frame."""
    return 2 * n_features if relative == "neutral" else n_features


def n_features_of(n_inputs: int, relative: Relative) -> int:
    """Return how many features a frame has for a head that reads this many values."""
    return n_inputs // 2 if relative == "neutral" else n_inputs


class HeadRecord(ClassifierRecord):
    """Record of the FC layers: their sizes and the dropout rate.

    `n_features`: number of features of a frame; with `relative: neutral`, the first layer reads twice as many values.
    """

    kind: Literal["head"] = "head"
    n_features: int = Field(ge=1, le=100_000)
    relative: Relative = "none"
    widths: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(max_length=4)
    dropout: float = Field(ge=0, lt=1)


@dataclass(frozen=True)
class HeadClassifier(ClipClassifier):
    """A fitted head with the rule that combines its frame scores.

    Args:
        head: on the CPU, in evaluation mode.
        tuned: the last block that was fine-tuned with the head; the classifier then reads maps. None: it reads
            features.
        rule: how `scores` combines the frame scores of a clip.
        relative: `neutral`: the head reads the features beside their difference to the clip's neutral face.
    """

    Record = HeadRecord

    head: Head
    tuned: nn.Module | None = None
    rule: Rule = "mean_scores"
    relative: Relative = "none"

    @property
    def reads_features(self) -> bool:
        return True

    @property
    def reads_neutral(self) -> bool:
        return self.relative == "neutral"

    @property
    def scores_frames(self) -> bool:
        return True

    @property
    def block(self) -> nn.Module | None:
        return self.tuned

    @property
    def n_parameters(self) -> int:
        return self.head.n_weights + (sum(p.numel() for p in self.tuned.parameters()) if self.tuned else 0)

    def frame_scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        rows = inputs.frames_of(clips)
        if self.tuned is None:
            features = inputs.features[rows]
        else:
            features = torch.from_numpy(features_above(self.tuned, inputs.maps[0][rows]))
        if self.reads_neutral:
            features = beside_difference(features, inputs.neutral_of(clips))
        found: np.ndarray = frame_scores(self.head, features).numpy()
        return found

    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView:
        scores = self.frame_scores(inputs, np.array([clip]))
        return FrameView(scores, np.full(len(scores), 1 / len(scores)))

    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """Clip scores by the rule. On a tie, the score of the predicted class is raised by 1e-6, so it is the
        arg-max."""
        parts = np.split(self.frame_scores(inputs, clips), np.cumsum(inputs.lengths[clips])[:-1])
        verdicts = [judge(frames, self.rule) for frames in parts]
        shares = np.stack([verdict.scores for verdict in verdicts])
        ahead = np.eye(shares.shape[1])[[verdict.index for verdict in verdicts]]
        return (shares + _TIE * ahead) / (1 + _TIE)

    def to_record(self) -> HeadRecord:
        hidden = tuple(layer.out_features for layer in self.head.linears[:-1])
        dropout = next((float(layer.p) for layer in self.head if isinstance(layer, nn.Dropout)), 0.0)
        read = self.head.linears[0].in_features
        return HeadRecord(
            n_features=n_features_of(read, self.relative), relative=self.relative, widths=hidden, dropout=dropout
        )

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().cpu() for key, value in self.head.state_dict().items()}

    @classmethod
    def build(cls, record: HeadRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> HeadClassifier:
        with torch.device("meta"):
            head = Head(inputs_of(record.n_features, record.relative), record.widths, n_classes, record.dropout)
        head.load_state_dict(tensors, strict=True, assign=True)
        if any(p.dtype != torch.float32 for p in head.parameters()):
            raise WeightsError("the head must be float32")
        return cls(head.eval().requires_grad_(False), relative=record.relative)


class BlockAndHead(nn.Module):
    """A backbone's last block followed by a head, fine-tuned together with fixed batch-normalisation statistics.

    A batch has about twenty frames of a few people, so statistics of a batch would depend on these people. The scale
    and shift of batch normalisation are trained, like all other weights of the block.
    """

    def __init__(self, block: nn.Module, head: Head) -> None:
        super().__init__()
        # contiguous weights: optimiser states read back from a checkpoint have this layout
        self.block = copy.deepcopy(block).to(memory_format=torch.contiguous_format).requires_grad_(True)
        self.head = head

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.block(maps.contiguous(memory_format=torch.channels_last)))
        return logits

    def fitted_block(self) -> nn.Module:
        """The fine-tuned block on the CPU, frozen, in the memory layout that `Backbone` uses."""
        block: nn.Module = self.block.cpu().eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return block

    def train(self, mode: bool = True) -> BlockAndHead:
        super().train(mode)
        self.block.eval()  # it has no dropout
        return self


def sources(table: FeatureTable, cfg: TrainConfig, block: nn.Module | None) -> tuple[torch.Tensor, ...]:
    """Return the tensors from which a fit reads its frames: the unaugmented view first, then the augmented views.

    Raises:
        TrainingError: the table was made with other settings and lacks these tensors.
    """
    found = table.maps if cfg.transfer == "last_block" else (table.features, *table.views)
    if cfg.transfer == "last_block" and (block is None or not found):
        raise TrainingError("train.transfer is 'last_block', but the table holds no maps to fine-tune a block on")
    if len(found) < cfg.augment.views:
        raise TrainingError(f"train.augment.views is {cfg.augment.views}, but the table holds {len(found)} views")
    return found[: cfg.augment.views]


@dataclass(frozen=True)
class HeadFit:
    """A fitted head.

    Args:
        head: on the CPU, in evaluation mode, with the weights of `best_epoch`.
        block: the fine-tuned last block, likewise; None if the block was frozen.
        history: all epochs.
        best_epoch: counted from 1.
        steps: optimiser steps up to and including `best_epoch`.
        pretrained: indices of the FC layers that started from the backbone's checkpoint.
        class_weights: (k,) weights of the loss.
        threads: number of torch threads; a fit with another number gives slightly different weights.
        seconds: wall-clock time of the fit.
    """

    head: Head
    history: History
    best_epoch: int
    steps: int
    pretrained: list[int]
    class_weights: np.ndarray
    threads: int
    seconds: float
    block: nn.Module | None = None

    @property
    def n_weights(self) -> int:
        """Number of trained parameters."""
        return self.head.n_weights + (sum(p.numel() for p in self.block.parameters()) if self.block else 0)


@dataclass(frozen=True)
class FrameBatches:
    """The batches of one epoch: frames and labels, on the model's device.

    Args:
        sources: for each view, a tensor with all frames of the table.
        labels: (N,) labels of all frames of the table.
        rows: (n,) indices of the frames in this epoch.
        size: frames per batch.
        views: (n,) index of each frame's view; None: all frames are read from the unaugmented view.
        neutral: (C, d) features of the clips' neutral faces, if the head compares frames with them.
        clips: (N,) index of the clip of each frame of the table, likewise.
    """

    sources: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    rows: np.ndarray
    size: int
    device: torch.device
    views: np.ndarray | None = None
    neutral: torch.Tensor | None = None
    clips: torch.Tensor | None = None

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.rows), self.size):
            rows = torch.from_numpy(self.rows[start : start + self.size])
            if self.views is None:
                frames = self.sources[0][rows]
            else:
                frames = self._by_view(rows, torch.from_numpy(self.views[start : start + self.size]))
            if self.neutral is not None and self.clips is not None:
                frames = beside_difference(frames, self.neutral[self.clips[rows]])
            yield frames.to(self.device).float(), self.labels[rows].to(self.device)

    def _by_view(self, rows: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        frames = self.sources[0].new_empty((len(rows), *self.sources[0].shape[1:]))
        for view in views.unique().tolist():
            here = views == view
            frames[here] = self.sources[view][rows[here]]
        return frames


def fit_head(
    table: FeatureTable,
    fit_clips: np.ndarray,
    stop_clips: np.ndarray,
    cfg: TrainConfig,
    *,
    fc: FullyConnected = (),
    block: nn.Module | None = None,
    length: Length | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], bool] | None = None,
) -> HeadFit:
    """Fit a head to the frames of some clips (§4.2); with `transfer: last_block`, fine-tune the last block too (§2.8).

    In each epoch, each training frame gets a random view. Early stopping evaluates unaugmented frames only.

    Args:
        table: the frames of all clips, with the views and the layer that `cfg` requires.
        fit_clips: positions of the training clips.
        stop_clips: positions of the clips for early stopping, disjoint from `fit_clips`; if empty, the fit runs all
            epochs.
        fc: the backbone's own FC layers; the head starts from those with the same shape.
        block: the backbone's last block, which is copied and fine-tuned; needed for `last_block` only.
        length, checkpoint, on_epoch: see `fit_epochs`.
    Raises:
        TrainingError: the fit diverged, a class has no training frames, or the table lacks features that `cfg`
        requires.
        ConfigError: the device in `cfg` is not available.
    """
    started = time.monotonic()
    device = resolve_device(cfg.device)
    views = sources(table, cfg, block)
    n_inputs = inputs_of(table.n_features, cfg.relative)
    head = build_head(n_inputs, cfg.widths, len(table.classes), cfg.dropout, cfg.seed)
    neutral, clips = _neutral_of(table) if cfg.relative == "neutral" else (None, None)
    pretrained = start_from(head, fc) if cfg.pretrained_fc else []
    tuning = BlockAndHead(block, head) if block is not None and cfg.transfer == "last_block" else None
    all_labels = table.frame_labels()
    labels = torch.from_numpy(all_labels)
    fit_rows, stop_rows = table.frames_of(fit_clips), table.frames_of(stop_clips)
    weights = class_weights(_counts(all_labels[fit_rows], table), cfg.class_weights)

    def training(rng: np.random.Generator) -> FrameBatches:
        rows = rng.permutation(sample(fit_rows, all_labels[fit_rows], cfg.sampling, rng))
        drawn = rng.integers(len(views), size=len(rows)) if len(views) > 1 else None
        return FrameBatches(views, labels, rows, cfg.batch_size, device, drawn, neutral, clips)

    size = max(cfg.batch_size, 64 if tuning else 256)
    validation = FrameBatches(views[:1], labels, stop_rows, size, device, None, neutral, clips)
    found = fit_epochs(
        (tuning or head).to(device), cfg, build_loss(weights, cfg).to(device), training,
        (lambda: validation) if len(stop_rows) else None, block=tuning.block if tuning else None, length=length,
        checkpoint=checkpoint, on_epoch=on_epoch,
    )  # fmt: skip
    return HeadFit(
        head=head.cpu().eval(),
        block=tuning.fitted_block() if tuning else None,
        history=found.history,
        best_epoch=found.best_epoch,
        steps=found.steps,
        pretrained=pretrained,
        class_weights=weights,
        threads=found.threads,
        seconds=time.monotonic() - started,
    )


def _neutral_of(table: FeatureTable) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (C, d) features of the clips' neutral faces, and (N,) the index of each frame's clip.

    Raises:
        TrainingError: the table was made with other settings and lacks these features.
    """
    if NEUTRAL not in table.described:
        raise TrainingError("train.relative is 'neutral', but the table holds no neutral faces to compare with")
    places = np.repeat(np.arange(table.n_clips), table.lengths)
    return torch.from_numpy(table.described[NEUTRAL]), torch.from_numpy(places)


def _counts(labels: np.ndarray, table: FeatureTable) -> np.ndarray:
    """Return (k,) numbers of training frames per class. Raises TrainingError if one is 0."""
    counts = np.bincount(labels, minlength=len(table.classes))
    if (counts == 0).any():
        missing = ", ".join(str(c) for c, n in zip(table.classes, counts, strict=True) if n == 0)
        raise TrainingError(f"no training frames of {missing}; every class needs clips on the training side")
    return counts


@dataclass(frozen=True)
class FCHead(ClipModel):
    """FC layers fitted to frames, which predict a clip by mean scores.

    Args:
        train: the settings.
        fc, block: files of the backbone's FC layers and last block from which the fit starts.
    """

    train: TrainConfig
    fc: Path | None = None
    block: Path | None = None

    @property
    def reads_features(self) -> bool:
        return True

    @property
    def reads_neutral(self) -> bool:
        return self.train.relative == "neutral"

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        cfg = self.train.model_copy(update={"seed": side.seed} | ({"stopping": "never"} if side.selected else {}))
        found = fit_head(
            fits.table, side.fit, side.stop, cfg,
            fc=load_fc(self.fc) if self.fc else (), block=load_block(self.block) if self.block else None,
            length=side.length, checkpoint=fits.checkpoint_of(self), on_epoch=fits.on_epoch,
        )  # fmt: skip
        return Fitted(
            classifier=HeadClassifier(found.head, found.block, relative=cfg.relative),
            seconds=found.seconds,
            selected={"steps": found.steps, "epochs": found.best_epoch},
            history=found.history,
            best_epoch=found.best_epoch,
            pretrained=tuple(found.pretrained),
            threads=found.threads,
        )


@dataclass(frozen=True)
class FCHeadRule(ClipModel):
    """A head with one rule. In a comparison, all rules share one fit of the head."""

    head: FCHead
    rule: Rule

    @property
    def reads_features(self) -> bool:
        return True

    @property
    def reads_neutral(self) -> bool:
        return self.head.reads_neutral

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        fitted = fits.fitted(self.head, side)
        assert isinstance(fitted.classifier, HeadClassifier)
        return replace(fitted, classifier=replace(fitted.classifier, rule=self.rule))
