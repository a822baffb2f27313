"""The epoch loop that trains all networks: `fit_epochs`.

Everything random depends on (seed, epoch) only. So a fit that was killed and resumed ends with the same bytes as a fit
without interruption, on a CPU with the same number of threads. The loop does not use MLflow or Optuna.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.errors import TrainingError
from fer_core.runtime import resolve_threads, set_threads
from fer_core.training.checkpoint import Checkpoint
from fer_core.training.history import Epoch, History
from fer_core.training.stopping import stopping_rule

log = logging.getLogger(__name__)

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]  # inputs and labels, on the network's device


@dataclass(frozen=True)
class Length:
    """Length of a refit on all clips, selected by the fits of the folds, whose epochs have fewer steps.

    Args:
        steps: number of optimiser steps after which the refit ends.
        epoch_steps: number of steps in an epoch of the folds; the learning-rate schedule counts epochs of this length.
    """

    steps: int
    epoch_steps: float


@dataclass(frozen=True)
class EpochsFit:
    """Result of a fit.

    Args:
        history: all epochs.
        best_epoch: counted from 1.
        steps: number of optimiser steps up to the end of the best epoch.
        threads: number of torch threads; a fit with another number gives slightly different weights.
        seconds: wall-clock time of the epochs.
    """

    history: History
    best_epoch: int
    steps: int
    threads: int
    seconds: float


@dataclass
class Memory:
    """Whether a batch fits into the memory of the GPU. If not, this and all later batches are computed in two halves.

    The gradients of the halves are added up to those of the whole batch, within rounding. There are two exceptions:
    dropout draws other values, and batch normalisation, which only `c3d` trains with, uses the statistics of each half.
    """

    halved: bool = False


def run_epoch(
    network: nn.Module,
    batches: Batches,
    loss_fn: nn.CrossEntropyLoss,
    optimizer: torch.optim.Optimizer | None,
    max_steps: int = 0,
    memory: Memory | None = None,
) -> tuple[float, float, int]:
    """Train the network for one epoch, or evaluate it if `optimizer` is None.

    Args:
        batches: (inputs, labels) pairs.
        max_steps: stop after this number of batches; 0: use all.
        memory: what the batches before have shown.
    Returns:
        Mean of the batches' losses, accuracy over all rows (for frames, both are defined as in §4.3), number of
        batches.
    Raises:
        TrainingError: the mean loss is NaN or infinite, because the fit has diverged.
    """
    network.train(optimizer is not None)
    memory = memory or Memory()
    losses, right, seen = [], 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for inputs, labels in batches:
            loss, logits = _run_batch(network, loss_fn, inputs, labels, optimizer is not None, memory)
            if optimizer is not None:
                optimizer.step()
            losses.append(loss)
            right += int((logits.argmax(dim=1) == labels).sum())
            seen += len(labels)
            if max_steps and len(losses) >= max_steps:
                break
    mean_loss = float(torch.stack(losses).mean())
    if not np.isfinite(mean_loss):
        raise TrainingError(f"the loss became {mean_loss} and the fit has diverged; try a smaller train.lr")
    return mean_loss, right / seen, len(losses)


def _run_batch(
    network: nn.Module,
    loss_fn: nn.CrossEntropyLoss,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    training: bool,
    memory: Memory,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss and the logits of a batch, without gradients; in training, the parameters get theirs.

    Raises:
        TrainingError: the GPU has too little memory for half the batch, too.
    """

    def part(rows: slice, share: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        logits = network(inputs[rows])
        loss = loss_fn(logits, labels[rows])
        if share is not None:
            loss = share * loss
        if training:
            loss.backward()
        return loss.detach(), logits.detach()

    network.zero_grad(set_to_none=True)
    if not memory.halved:
        try:
            return part(slice(None))
        except torch.OutOfMemoryError as exc:
            log.warning("a batch of %d does not fit into the GPU's memory; it is computed in two halves", len(labels))
            log.debug("%s", exc)
            memory.halved = True
        # after the handler: its error keeps what the first attempt has allocated
        network.zero_grad(set_to_none=True)
        if inputs.is_cuda:
            torch.cuda.empty_cache()
    half = (len(labels) + 1) // 2
    of_class = torch.ones(int(labels.max()) + 1, device=labels.device) if loss_fn.weight is None else loss_fn.weight
    try:
        halves = [
            part(rows, of_class[labels[rows]].sum() / of_class[labels].sum())
            for rows in (slice(0, half), slice(half, None))
            if len(labels[rows])
        ]
    except torch.OutOfMemoryError as exc:
        raise TrainingError(
            f"the GPU's memory does not suffice for {half} of a batch's {len(labels)} rows; lower train.batch_size or "
            "train.widths, or let fewer trials run at a time (search.workers)"
        ) from exc
    losses, logits = zip(*halves, strict=True)
    return torch.stack(losses).sum(), torch.cat(logits)


def fit_epochs(
    network: nn.Module,
    cfg: TrainConfig,
    loss_fn: nn.CrossEntropyLoss,
    training: Callable[[np.random.Generator], Batches],
    validation: Callable[[], Batches] | None,
    *,
    block: nn.Module | None = None,
    length: Length | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], bool] | None = None,
) -> EpochsFit:
    """Train a network in epochs; at the end it has the weights of the best epoch.

    Args:
        network: the network, on the device for training.
        training: function that draws the batches of one epoch with the given random generator.
        validation: function that returns the batches for early stopping; None: all epochs are run.
        block: part of the network that is trained with learning rate `cfg.block_lr`.
        length: length of a refit; None: `cfg` decides.
        checkpoint: folder for the state of the fit, from which a killed fit resumes; removed when the fit ends.
        on_epoch: called after every epoch; the fit stops when it returns True.
    Raises:
        TrainingError: the fit diverged, or there was no epoch to run.
    """
    started = time.monotonic()
    device = next(network.parameters()).device
    threads = resolve_threads(cfg.threads, sum(p.numel() for p in network.parameters()))
    set_threads(threads)
    optimizer = build_optimizer(network, cfg, block)
    rule = stopping_rule(cfg, validated=validation is not None)
    state = Checkpoint(checkpoint, network, optimizer)
    history = state.resume(rule)
    memory = Memory(halved=history.halved)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while len(history) < cfg.epochs and not state.stopped and not (length and state.steps >= length.steps):
            number, before = len(history) + 1, time.monotonic()
            seed = np.random.SeedSequence([cfg.seed, number])
            torch.manual_seed(int(seed.generate_state(1)[0]))
            factor = lr_factor(cfg, 1 + state.steps / length.epoch_steps if length else number)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            batches = training(np.random.default_rng(seed))
            left = length.steps - state.steps if length else 0
            loss, train_accuracy, steps = run_epoch(network, batches, loss_fn, optimizer, left, memory)
            validation_loss, validation_accuracy = float("nan"), float("nan")
            if validation:
                validation_loss, validation_accuracy, _ = run_epoch(network, validation(), loss_fn, None, memory=memory)
            epoch = Epoch(
                number, loss, train_accuracy, validation_loss, validation_accuracy,
                lr=float(optimizer.param_groups[0]["lr"]), seconds=time.monotonic() - before,
                ended_at=int(time.time() * 1000), halved=memory.halved,
            )  # fmt: skip
            history.epochs.append(epoch)
            answer = rule.update(train_accuracy, validation_accuracy)
            asked_to_stop = on_epoch(epoch) if on_epoch else False
            state.after_epoch(history, steps, best=answer.best, stopped=answer.stop or asked_to_stop)

    if not history.epochs:
        raise TrainingError("no epoch was run; train.epochs must be at least 1")
    state.restore_best()
    state.discard()
    return EpochsFit(history, state.best_epoch, state.best_steps, threads, time.monotonic() - started)


def build_loss(weights: np.ndarray, cfg: TrainConfig) -> nn.CrossEntropyLoss:
    """Build the weighted cross-entropy of a batch with softmax scores s and labels y: Σᵢ Lᵢ / Σᵢ w_yᵢ.

    Without smoothing Lᵢ = -w_yᵢ log sᵢ,yᵢ (§4.2; w from `class_weights`). With label smoothing ε (Szegedy et al. 2016)
    the target is (1 - ε) one-hot + ε / k: Lᵢ = -(1 - ε) w_yᵢ log sᵢ,yᵢ - (ε / k) Σᶜ wᶜ log sᵢ,c.

    Args:
        weights: (k,) class weights.
    """
    return nn.CrossEntropyLoss(torch.tensor(weights, dtype=torch.float32), label_smoothing=cfg.label_smoothing)


def build_optimizer(network: nn.Module, cfg: TrainConfig, block: nn.Module | None = None) -> torch.optim.Optimizer:
    """Build the optimiser (§2.5), with rate `lr` for the weights and `block_lr` for `block`. With gradient g and step
    t:

    - sgd: v ← μ v + g, θ ← θ - η v (momentum: Polyak 1964); Nesterov's steps along g + μ v (Sutskever et al. 2013);
    - adagrad: s ← s + g², θ ← θ - η g / (√s + ε) (Duchi et al. 2011);
    - adadelta: s ← ρ s + (1 - ρ) g², Δ = g √(u + ε) / √(s + ε), u ← ρ u + (1 - ρ) Δ², θ ← θ - η Δ, ρ = 0.9
      (Zeiler 2012, whose η is 1);
    - adam: m ← β₁ m + (1 - β₁) g, s ← β₂ s + (1 - β₂) g², θ ← θ - η m̂ / (√ŝ + ε), a hat means division by
      1 - βᵗ, β = (0.9, 0.999) (Kingma and Ba 2015). PyTorch's fused version is more than twice as fast for a head of
      widths 4096-4096.

    `weight_decay` λ is the L2 penalty of §2.7: g ← g + λ θ before anything else, not AdamW's decoupled decay.
    """
    tuned = {id(p) for p in block.parameters()} if block else set()
    groups: list[tuple[Sequence[nn.Parameter], float]] = [
        ([p for p in network.parameters() if id(p) not in tuned], cfg.lr),
        ([p for p in network.parameters() if id(p) in tuned], cfg.block_lr),
    ]
    parameters = [{"params": params, "lr": lr, "initial_lr": lr} for params, lr in groups if params]
    fused = next(network.parameters()).device.type != "mps"
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
    """Return the factor of the learning rates in epoch e = 1 ... E; `epoch` may be fractional.

    constant: 1; step: γ^⌊(e - 1) / step_epochs⌋ (the appendix's StepLR); cosine: (1 + cos(π (e - 1) / E)) / 2, half a
    cosine wave down to zero (Loshchilov and Hutter 2017, without restarts).
    """
    if cfg.schedule == "step":
        return cfg.step_gamma ** ((epoch - 1) // cfg.step_epochs)
    if cfg.schedule == "cosine":
        return (1 + math.cos(math.pi * (epoch - 1) / cfg.epochs)) / 2
    return 1.0
