"""fit: stored features in, a fitted head (and last block) and its history out. It knows neither MLflow nor Optuna.

Everything random is a function of (seed, epoch), so a fit that was killed and resumed ends in the same bytes as one
that was not (CPU, same thread count).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.errors import TrainingError
from fer_core.features.store import FeatureTable
from fer_core.models.fc_head import Head, build_head, start_from
from fer_core.runtime import resolve_device, resolve_threads, set_threads
from fer_core.training.checkpoint import Checkpoint
from fer_core.training.history import Epoch, History
from fer_core.training.imbalance import class_weights, sample
from fer_core.training.stopping import stopping_rule
from fer_core.training.tuned import BlockAndHead, sources

log = logging.getLogger(__name__)

FullyConnected = Sequence[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class FitResult:
    """A fitted head.

    Args:
        head: on the CPU, in evaluation mode, with the weights of `best_epoch`.
        block: the fine-tuned last block, likewise; None when it stayed frozen.
        history: every epoch run.
        best_epoch: counted from 1.
        steps: optimiser steps up to and including `best_epoch`.
        pretrained: places of the FC layers that started from the backbone's checkpoint.
        class_weights: (k,) of the loss.
        threads: torch threads used; the same number is needed for the same bytes.
        seconds: wall clock of the fit.
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
        """Trained numbers."""
        return self.head.n_weights + (sum(p.numel() for p in self.block.parameters()) if self.block else 0)


@dataclass(frozen=True)
class _Batches:
    """Frames of one epoch, in batches, on the device of the model.

    Args:
        sources: one tensor of all frames a view.
        rows, views: (n,) which frames, and each one's view; None: all by the plain one.
    """

    sources: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    rows: np.ndarray
    size: int
    device: torch.device
    views: np.ndarray | None = None

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, len(self.rows), self.size):
            rows = torch.from_numpy(self.rows[start : start + self.size])
            if self.views is None:
                frames = self.sources[0][rows]
            else:
                frames = self._by_view(rows, torch.from_numpy(self.views[start : start + self.size]))
            yield frames.to(self.device).float(), self.labels[rows].to(self.device)

    def _by_view(self, rows: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        frames = self.sources[0].new_empty((len(rows), *self.sources[0].shape[1:]))
        for view in views.unique().tolist():
            here = views == view
            frames[here] = self.sources[view][rows[here]]
        return frames


def run_epoch(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    max_steps: int = 0,
) -> tuple[float, float, int]:
    """One pass over `batches`, inputs and labels: training with an optimiser, evaluation without.

    Returns:
        Mean of the batches' losses, share of right rows (frames: both as §4.3 has them), number of batches.
    Raises:
        TrainingError: a loss is NaN or infinite; the fit has diverged.
    """
    model.train(optimizer is not None)
    losses, right, seen = [], 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for features, labels in batches:
            logits = model(features)
            loss = loss_fn(logits, labels)
            if optimizer is not None:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            losses.append(loss.detach())
            right += int((logits.detach().argmax(dim=1) == labels).sum())
            seen += len(labels)
            if max_steps and len(losses) >= max_steps:
                break
    mean_loss = float(torch.stack(losses).mean())
    if not np.isfinite(mean_loss):
        raise TrainingError(f"the loss became {mean_loss} and the fit has diverged; try a smaller train.lr")
    return mean_loss, right / seen, len(losses)


def fit(
    table: FeatureTable,
    fit_clips: np.ndarray,
    stop_clips: np.ndarray,
    cfg: TrainConfig,
    *,
    fc: FullyConnected = (),
    block: nn.Module | None = None,
    max_steps: int = 0,
    epoch_steps: float = 0,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], bool] | None = None,
) -> FitResult:
    """Fit a head to the frames of some clips (§4.2), with `transfer: last_block` the block under it too (§2.8).

    An epoch shows each training frame by a view drawn anew; stopping looks at plain frames only.

    Args:
        table: the frames of all clips, by the views and at the layer that `cfg` asks for.
        fit_clips, stop_clips: places of the clips trained on and stopped on; disjoint; the latter may be empty, then
            all epochs are run.
        fc: the backbone's own FC layers, to start from where the shapes match.
        block: the backbone's last block, copied and fine-tuned; needed for `last_block` only.
        max_steps: stop after so many optimiser steps; 0: epochs only. How a refit repeats the length of its folds.
        epoch_steps: steps of an epoch by which schedules go; 0: of its own. How a refit, whose epochs are longer,
            repeats the rates of its folds.
        checkpoint: a folder to save a long fit's state in, and to resume from; removed when the fit ends.
        on_epoch: told every epoch; the fit stops when it answers True.
    Raises:
        TrainingError: the fit has diverged, a class has no training frames, or the table lacks what `cfg` asks for.
        ConfigError: the device asked for is not there.
    """
    started = time.monotonic()
    device = resolve_device(cfg.device)
    views = sources(table, cfg, block)
    head = build_head(table.n_features, cfg.widths, len(table.classes), cfg.dropout, cfg.seed)
    pretrained = start_from(head, fc) if cfg.pretrained_fc else []
    tuning = BlockAndHead(block, head) if block is not None and cfg.transfer == "last_block" else None
    model = (tuning or head).to(device)
    threads = resolve_threads(cfg.threads, sum(p.numel() for p in model.parameters()))
    set_threads(threads)

    all_labels = table.frame_labels()
    labels = torch.from_numpy(all_labels)
    fit_rows, stop_rows = table.frames_of(fit_clips), table.frames_of(stop_clips)
    counts = np.bincount(all_labels[fit_rows], minlength=len(table.classes))
    if (counts == 0).any():
        missing = ", ".join(str(c) for c, n in zip(table.classes, counts, strict=True) if n == 0)
        raise TrainingError(f"no training frames of {missing}; every class needs clips on the training side")
    weights = class_weights(counts, cfg.class_weights)
    loss_fn = build_loss(weights, cfg).to(device)
    optimizer = build_optimizer(model, cfg, device)
    rule = stopping_rule(cfg, validated=len(stop_rows) > 0)
    state = Checkpoint(checkpoint, model, optimizer)
    history = state.resume(rule)

    validation = _Batches(views[:1], labels, stop_rows, max(cfg.batch_size, 64 if tuning else 256), device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while len(history) < cfg.epochs and not state.stopped and not (max_steps and state.steps >= max_steps):
            number, before = len(history) + 1, time.monotonic()
            seed = np.random.SeedSequence([cfg.seed, number])
            torch.manual_seed(int(seed.generate_state(1)[0]))
            rng = np.random.default_rng(seed)
            rows = rng.permutation(sample(fit_rows, all_labels[fit_rows], cfg.sampling, rng))
            drawn = rng.integers(len(views), size=len(rows)) if len(views) > 1 else None
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * lr_factor(
                    cfg, 1 + state.steps / epoch_steps if epoch_steps else number
                )
            lr = float(optimizer.param_groups[0]["lr"])
            left = max_steps - state.steps if max_steps else 0
            training = _Batches(views, labels, rows, cfg.batch_size, device, drawn)
            loss, train_accuracy, steps = run_epoch(model, training, loss_fn, optimizer, left)
            validation_loss, validation_accuracy = float("nan"), float("nan")
            if len(stop_rows):
                validation_loss, validation_accuracy, _ = run_epoch(model, validation, loss_fn, None)
            epoch = Epoch(
                number, loss, train_accuracy, validation_loss, validation_accuracy, lr,
                seconds=time.monotonic() - before, ended_at=int(time.time() * 1000),
            )  # fmt: skip
            history.epochs.append(epoch)
            answer = rule.update(train_accuracy, validation_accuracy)
            asked_to_stop = on_epoch(epoch) if on_epoch else False
            state.after_epoch(history, steps, best=answer.best, stopped=answer.stop or asked_to_stop)

    if not history.epochs:
        raise TrainingError("no epoch was run; train.epochs must be at least 1")
    state.restore_best()
    state.discard()
    return FitResult(
        head=head.cpu().eval(),
        block=tuning.fitted_block() if tuning else None,
        history=history,
        best_epoch=state.best_epoch,
        steps=state.best_steps,
        pretrained=pretrained,
        class_weights=weights,
        threads=threads,
        seconds=time.monotonic() - started,
    )


def build_loss(weights: np.ndarray, cfg: TrainConfig) -> nn.Module:
    """Weighted cross-entropy of a batch with softmax scores s and labels y: Σᵢ Lᵢ / Σᵢ w_yᵢ.

    Without smoothing Lᵢ = -w_yᵢ log sᵢ,yᵢ (§4.2; w from `class_weights`). With label smoothing ε (Szegedy et al. 2016)
    the target is (1 - ε) one-hot + ε / k: Lᵢ = -(1 - ε) w_yᵢ log sᵢ,yᵢ - (ε / k) Σᶜ wᶜ log sᵢ,c.

    Args:
        weights: (k,) of the classes.
    """
    return nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32), label_smoothing=cfg.label_smoothing)


def build_optimizer(model: nn.Module, cfg: TrainConfig, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser (§2.5), the head's weights at `lr`, a tuned block's at `block_lr`. With gradient g, step t:

    - sgd: v ← μ v + g, θ ← θ - η v (momentum: Polyak 1964); Nesterov's steps along g + μ v (Sutskever et al. 2013);
    - adagrad: s ← s + g², θ ← θ - η g / (√s + ε) (Duchi et al. 2011);
    - adadelta: s ← ρ s + (1 - ρ) g², Δ = g √(u + ε) / √(s + ε), u ← ρ u + (1 - ρ) Δ², θ ← θ - η Δ, ρ = 0.9
      (Zeiler 2012, whose η is 1);
    - adam: m ← β₁ m + (1 - β₁) g, s ← β₂ s + (1 - β₂) g², θ ← θ - η m̂ / (√ŝ + ε), hats for the division by 1 - βᵗ,
      β = (0.9, 0.999) (Kingma and Ba 2015). Fused: one pass over the weights, more than twice as fast at 4096-4096.

    `weight_decay` λ is the L2 penalty of §2.7: g ← g + λ θ before anything else, not AdamW's decoupled decay.
    """
    if isinstance(model, BlockAndHead):
        groups = [(model.head, cfg.lr), (model.block, cfg.block_lr)]
    else:
        groups = [(model, cfg.lr)]
    parameters = [{"params": list(part.parameters()), "lr": lr, "initial_lr": lr} for part, lr in groups]
    fused = device.type != "mps"
    if cfg.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, momentum=cfg.momentum, nesterov=cfg.nesterov, weight_decay=cfg.weight_decay, fused=fused
        )
    if cfg.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, weight_decay=cfg.weight_decay)
    if cfg.optimizer == "adadelta":
        return torch.optim.Adadelta(parameters, weight_decay=cfg.weight_decay)
    return torch.optim.Adam(parameters, weight_decay=cfg.weight_decay, fused=fused)


def lr_factor(cfg: TrainConfig, epoch: float) -> float:
    """What the learning rates are multiplied by in an epoch e = 1 ... E, or from within one.

    constant: 1; step: γ^⌊(e - 1) / step_epochs⌋ (the appendix's StepLR); cosine: (1 + cos(π (e - 1) / E)) / 2, half a
    wave down to zero (Loshchilov and Hutter 2017, without restarts).
    """
    if cfg.schedule == "step":
        return cfg.step_gamma ** ((epoch - 1) // cfg.step_epochs)
    if cfg.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - 1) / cfg.epochs)) / 2
    return 1.0
