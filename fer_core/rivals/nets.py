"""How a network that reads whole clips is fitted: the loop's epochs, stopping and optimisers, on batches of clips."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.model.features import FeatureTable
from fer_core.rivals.material import Material
from fer_core.rivals.rival import Rival
from fer_core.runtime import resolve_device, resolve_threads
from fer_core.training.checkpoint import Checkpoint
from fer_core.training.history import Epoch, History
from fer_core.training.imbalance import class_weights
from fer_core.training.loop import build_optimizer, lr_factor, run_epoch
from fer_core.training.stopping import stopping_rule

log = logging.getLogger(__name__)

_AT_ONCE = 1024  # frames
_CONSTANT = 1e-8  # share of a feature's mean square under which its variance is rounding

Batch = tuple[torch.Tensor, np.ndarray]  # inputs of some clips, the clips' places


@dataclass(frozen=True)
class ClipNet(Rival):
    """A network over whole clips.

    Args:
        recipe: how it is trained; `batch_size` counts clips, `epochs` and `stopping` are as for a head, the fields of
            the FC layers say nothing here.
    """

    recipe: TrainConfig

    @abstractmethod
    def build(self, data: Material, fit_clips: np.ndarray) -> nn.Module:
        """The untrained network: (b, ...) inputs -> (b, k) logits."""

    @abstractmethod
    def training(self, data: Material, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        """One epoch's batches, drawn anew."""

    @abstractmethod
    def whole(self, data: Material, clips: np.ndarray) -> Iterator[Batch]:
        """Batches that show every clip once and whole, the same each time."""

    def fit(self, data: Material, fit_clips: np.ndarray, stop_clips: np.ndarray, seed: int) -> FittedNet:
        started = time.monotonic()
        cfg, labels = self.recipe, data.table.labels
        device = resolve_device(cfg.device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            net = self.build(data, fit_clips).to(device)
            torch.set_num_threads(resolve_threads(cfg.threads, count_parameters(net)))
            counts = np.bincount(labels[fit_clips], minlength=len(data.table.classes))
            weights = torch.tensor(class_weights(counts, cfg.class_weights), dtype=torch.float32, device=device)
            loss_fn = nn.CrossEntropyLoss(weight=weights, label_smoothing=cfg.label_smoothing)
            optimizer = build_optimizer(net, cfg, device)
            rule = stopping_rule(cfg, validated=len(stop_clips) > 0)
            state, history = Checkpoint(None, net, optimizer), History()

            def labelled(batches: Iterable[Batch]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
                for inputs, clips in batches:
                    yield inputs.to(device), torch.from_numpy(labels[clips]).to(device)

            while len(history) < cfg.epochs and not state.stopped:
                number, before = len(history) + 1, time.monotonic()
                rng = np.random.default_rng([seed, number])
                for group in optimizer.param_groups:
                    group["lr"] = cfg.lr * lr_factor(cfg, number)
                shown = labelled(self.training(data, fit_clips, rng))
                loss, train_accuracy, steps = run_epoch(net, shown, loss_fn, optimizer)
                validation_loss, validation_accuracy = float("nan"), float("nan")
                if len(stop_clips):
                    shown = labelled(self.whole(data, stop_clips))
                    validation_loss, validation_accuracy, _ = run_epoch(net, shown, loss_fn, None)
                epoch = Epoch(
                    number, loss, train_accuracy, validation_loss, validation_accuracy,
                    lr=float(optimizer.param_groups[0]["lr"]), seconds=time.monotonic() - before,
                    ended_at=int(time.time() * 1000),
                )  # fmt: skip
                history.epochs.append(epoch)
                answer = rule.update(train_accuracy, validation_accuracy)
                state.after_epoch(history, steps, best=answer.best, stopped=answer.stop)
        state.restore_best()
        log.info("%s: best of %d epochs is %d", self.name, len(history), state.best_epoch)
        return FittedNet(net.eval(), self.whole, history, time.monotonic() - started)


@dataclass(frozen=True)
class FittedNet:
    """A fitted network, with the weights of its best epoch."""

    net: nn.Module
    whole: Callable[[Material, np.ndarray], Iterator[Batch]]
    history: History
    seconds: float

    @property
    def n_parameters(self) -> int:
        return count_parameters(self.net)

    @torch.inference_mode()
    def scores(self, data: Material, clips: np.ndarray) -> np.ndarray:
        device = next(self.net.parameters()).device
        place = {int(clip): i for i, clip in enumerate(clips)}
        found = np.zeros((len(clips), len(data.table.classes)))
        for inputs, shown in self.whole(data, clips):
            logits = self.net(inputs.to(device)).double()
            found[[place[int(c)] for c in shown]] = logits.softmax(dim=1).cpu().numpy()
        return found


class Standardize(nn.Module):
    """Features with mean 0 and standard deviation 1 over the training frames, the constant ones 0.

    The recipes' learning rates suit features of that size; those of VGG16 reach 190.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, table: FeatureTable, clips: np.ndarray) -> None:
        super().__init__()
        rows = torch.from_numpy(table.frames_of(clips))
        total, squares = torch.zeros(2, table.n_features, dtype=torch.float64)
        for some in rows.split(_AT_ONCE):
            features = table.features[some].double()
            total += features.sum(dim=0)
            squares += features.square().sum(dim=0)
        mean, square = total / len(rows), squares / len(rows)
        variance = square - mean.square()
        varies = variance > _CONSTANT * square
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(varies, variance.clamp(min=1e-30).rsqrt(), 0.0).float())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features.float() - self.mean) * self.scale


def count_parameters(net: nn.Module) -> int:
    """Trained numbers of a network."""
    return sum(p.numel() for p in net.parameters())


def in_chunks(clips: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The clips, `size` at a time."""
    return (clips[start : start + size] for start in range(0, len(clips), size))
