"""How a network that reads whole clips is fitted: the loop's epochs, stopping and optimisers, on batches of clips."""

from __future__ import annotations

import logging
import math
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fer_core.config import TrainConfig
from fer_core.features.store import FeatureTable
from fer_core.models.clip_network import SHOWN, Batch, NetworkClassifier, Standardize, build_network
from fer_core.models.record import NetworkRecord
from fer_core.rivals.fits import Fits, Side
from fer_core.rivals.rival import Fitted, Rival
from fer_core.runtime import resolve_device, resolve_threads, set_threads
from fer_core.training.checkpoint import Checkpoint
from fer_core.training.history import Epoch, History
from fer_core.training.imbalance import class_weights
from fer_core.training.loop import build_loss, build_optimizer, lr_factor, run_epoch
from fer_core.training.stopping import stopping_rule

log = logging.getLogger(__name__)

LENGTH = 512  # features whose length a frame may have
_AT_ONCE = 1024  # frames
_CONSTANT = 1e-8  # share of a feature's mean square under which its variance is rounding


@dataclass(frozen=True)
class ClipNet(Rival):
    """A network over whole clips.

    Args:
        recipe: how it is trained; `batch_size` counts clips, `epochs` and `stopping` are as for a head, the fields of
            the FC layers say nothing here.
    """

    recipe: TrainConfig

    @abstractmethod
    def network(self, table: FeatureTable) -> NetworkRecord:
        """Which network it is, for the features of a table."""

    @abstractmethod
    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        """One epoch's batches, drawn anew."""

    def drawn(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        """The clips of one epoch's batches, each as often as it is drawn; class weights are of these counts."""
        return clips

    def whole(self, table: FeatureTable, clips: np.ndarray) -> Iterator[Batch]:
        """Batches that show every clip once and whole, as it is shown to be judged."""
        return SHOWN[self.network(table).kind](table, clips, self.recipe.batch_size)

    def fit(self, fits: Fits, side: Side) -> Fitted:
        started = time.monotonic()
        table, labels, chosen = fits.table, fits.table.labels, side.chosen
        cfg = self.recipe.model_copy(update={"stopping": "never"}) if chosen else self.recipe
        most_steps = max(1, round(chosen["steps"])) if chosen else 0
        epoch_steps = chosen["steps"] / chosen["epochs"] if chosen else 0
        device, record = resolve_device(cfg.device), self.network(table)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(side.seed)
            net = build_network(record, len(table.classes))
            for layer in net.modules():
                if isinstance(layer, Standardize):
                    standardize(layer, table, side.fit)
            net = net.to(device)
            threads = resolve_threads(cfg.threads, sum(p.numel() for p in net.parameters()))
            set_threads(threads)
            counts = np.bincount(labels[self.drawn(table, side.fit)], minlength=len(table.classes))
            loss_fn = build_loss(class_weights(counts, cfg.class_weights), cfg).to(device)
            optimizer = build_optimizer(net, cfg, device)
            rule = stopping_rule(cfg, validated=len(side.stop) > 0)
            state, history = Checkpoint(None, net, optimizer), History()

            def labelled(batches: Iterable[Batch]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
                for inputs, clips in batches:
                    yield inputs.to(device), torch.from_numpy(labels[clips]).to(device)

            while len(history) < cfg.epochs and not state.stopped and not (most_steps and state.steps >= most_steps):
                number, before = len(history) + 1, time.monotonic()
                rng = np.random.default_rng([side.seed, number])
                for group in optimizer.param_groups:
                    group["lr"] = cfg.lr * lr_factor(cfg, 1 + state.steps / epoch_steps if epoch_steps else number)
                shown = labelled(self.training(table, side.fit, rng))
                left = most_steps - state.steps if most_steps else 0
                loss, train_accuracy, steps = run_epoch(net, shown, loss_fn, optimizer, left)
                validation_loss, validation_accuracy = float("nan"), float("nan")
                if len(side.stop):
                    shown = labelled(self.whole(table, side.stop))
                    validation_loss, validation_accuracy, _ = run_epoch(net, shown, loss_fn, None)
                epoch = Epoch(
                    number, loss, train_accuracy, validation_loss, validation_accuracy,
                    lr=float(optimizer.param_groups[0]["lr"]), seconds=time.monotonic() - before,
                    ended_at=int(time.time() * 1000),
                )  # fmt: skip
                history.epochs.append(epoch)
                answer = rule.update(train_accuracy, validation_accuracy)
                asked_to_stop = fits.on_epoch(epoch) if fits.on_epoch else False
                state.after_epoch(history, steps, best=answer.best, stopped=answer.stop or asked_to_stop)
        state.restore_best()
        log.info("%s: best of %d epochs is %d", self.name, len(history), state.best_epoch)
        return Fitted(
            classifier=NetworkClassifier(record, net.cpu().eval().requires_grad_(False)),
            seconds=time.monotonic() - started,
            chosen={"steps": state.best_steps, "epochs": state.best_epoch},
            history=history,
            best_epoch=state.best_epoch,
            threads=threads,
        )


def standardize(layer: Standardize, table: FeatureTable, clips: np.ndarray) -> None:
    """Give a layer mean and scale of the features of some clips' frames; the constant ones become 0."""
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
