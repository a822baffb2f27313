"""The state of a fit between epochs: the best weights so far, and a file from which a killed fit resumes."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fer_core.store import publish
from fer_core.training.history import History

if TYPE_CHECKING:
    from fer_core.training.stopping import StoppingRule

log = logging.getLogger(__name__)

EVERY_S = 60.0  # not after every epoch: the state of a head of width 4096 has 1.4 GB


class Checkpoint:
    """Best weights and progress of a fit, saved to `folder` after an epoch, but at most once in 60 s.

    One safetensors file holds the weights, the best weights and the optimiser state; its metadata holds the history. A
    single file is replaced atomically, so the saved state is always complete.
    """

    def __init__(self, folder: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.path = folder / "checkpoint.safetensors" if folder else None
        self.model, self.optimizer = model, optimizer
        self.steps = self.best_epoch = self.best_steps = 0
        self.stopped = False
        self._best: dict[str, torch.Tensor] = {}
        self._saved_at = time.monotonic()

    def after_epoch(self, history: History, steps: int, *, best: bool, stopped: bool) -> None:
        """Record an epoch that had `steps` optimiser steps, and save the state if it is due.

        Args:
            best: keep the weights of this epoch. stopped: the fit ends with this epoch.
        """
        self.steps += steps
        self.stopped = stopped
        if best:
            self.best_epoch, self.best_steps = len(history), self.steps
            self._best = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        if self.path and not stopped and time.monotonic() - self._saved_at >= EVERY_S:
            self._save(history)
            self._saved_at = time.monotonic()

    def restore_best(self) -> None:
        """Load the best epoch's weights into the model."""
        self.model.load_state_dict(self._best)

    def discard(self) -> None:
        """Remove the checkpoint folder, after the fit has ended."""
        if self.path:
            shutil.rmtree(self.path.parent, ignore_errors=True)

    def resume(self, rule: StoppingRule) -> History:
        """Load the saved state, replay its epochs to `rule`, and return its history; empty without a readable
        checkpoint."""
        if self.path is None or not self.path.is_file():
            return History()
        try:
            tensors, note = load_file(self.path), _note(self.path)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as exc:
            log.warning("checkpoint %s is damaged (%s); the fit starts again", self.path, exc)
            return History()
        self.model.load_state_dict(_under("model.", tensors))
        self._best = _under("best.", tensors)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for key, value in _under("optimizer.", tensors).items():
            place, name = key.split(".", 1)
            parameter = parameters[int(place)]
            if value.shape == parameter.shape:  # fused optimisers need the memory layout of the parameter
                value = torch.empty_like(parameter).copy_(value)
            state.setdefault(int(place), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.steps, self.best_epoch, self.best_steps = note["steps"], note["best_epoch"], note["best_steps"]
        history = History.from_rows(note["history"])
        for epoch in history.epochs:
            rule.update(epoch.train_accuracy, epoch.validation_accuracy)
        log.info("fit resumed after epoch %d", len(history))
        return history

    def _save(self, history: History) -> None:
        assert self.path is not None
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self._best.items()}
        for place, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{place}.{name}": torch.as_tensor(v) for name, v in values.items()}
        note = {
            "steps": self.steps,
            "best_epoch": self.best_epoch,
            "best_steps": self.best_steps,
            "history": history.to_rows(),
        }
        with publish(self.path) as temporary:
            save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"note": json.dumps(note)})


def _note(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        note: dict[str, Any] = json.loads(file.metadata()["note"])
        return note


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
