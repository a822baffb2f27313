"""One fit like in the thesis: trained on the train clips of the manifest, with early stopping on its validation clips.

It runs in its own process and folder, like a trial. The folder contains `fit.json` (specification), `epochs`
(progress), `result.json`, and the fitted head.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from safetensors.torch import load_file, save_file

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest
from fer_core.clips.splits import inner_split
from fer_core.config import Settings, TrainConfig
from fer_core.dataset.table import FeatureTable, load_table
from fer_core.errors import TrainingError
from fer_core.models.base import Fits, FitSplit
from fer_core.models.fc_head import Head
from fer_core.models.registry import model_of
from fer_core.runtime import resolve_device
from fer_core.store import cache_key, publish, read_note, sweep, write_atomic
from fer_core.training.history import Epoch, History

log = logging.getLogger(__name__)

_SPEC, _RESULT, _HEAD, _EPOCHS = "fit.json", "result.json", "head.safetensors", "epochs"
MODEL = "model"  # subfolder with the model made from the head
_POLL_S = 1.0


class HoldoutSpec(Settings):
    """Specification of a fit; the parent writes it, the child process reads it. Clips are rows of the table."""

    train: TrainConfig
    table: Path
    fc: Path | None = None
    fit_clips: tuple[int, ...] = Field(min_length=1)
    stop_clips: tuple[int, ...] = ()


class HoldoutResult(Settings):
    """Result of a fit: `complete`, or `failed` with a reason."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True, ser_json_inf_nan="constants")

    state: Literal["complete", "failed"]
    reason: str = ""
    history: tuple[dict[str, Any], ...] = ()
    steps: int = 0
    pretrained: tuple[int, ...] = ()
    n_weights: int = 0
    threads: int = 0
    device: str = ""

    @property
    def epochs(self) -> History:
        return History.from_rows(list(self.history))


@dataclass(frozen=True)
class HoldoutSplit:
    """Positions of the clips for training and early stopping, and a description of the latter."""

    fit: np.ndarray
    stop: np.ndarray
    stopped_on: str


def holdout_split(table: FeatureTable, manifest: Manifest, cfg: TrainConfig) -> HoldoutSplit:
    """Return the manifest's train and validation clips; without validation clips, hold out some training subjects.

    Raises:
        DataError: there are no validation clips, and only one subject.
    """
    side = {clip.id: clip.split for clip in manifest.clips}
    fitted = np.flatnonzero([side[c] is Split.TRAIN for c in table.clip_ids])
    stopped = np.flatnonzero([side[c] is Split.VALIDATION for c in table.clip_ids])
    if len(stopped):
        people = _people({table.subjects[c] for c in stopped})
        return HoldoutSplit(fitted, stopped, f"stopped on the {len(stopped)} validation clips of {people}")
    kept, taken = inner_split([table.subjects[c] for c in fitted], table.labels[fitted], cfg.inner_share, cfg.seed)
    people = _people({table.subjects[fitted[c]] for c in taken})
    text = f"stopped on {len(taken)} training clips of {people}, as there is no validation side"
    return HoldoutSplit(fitted[kept], fitted[taken], text)


def _people(subjects: set[str]) -> str:
    return f"{len(subjects)} {'person' if len(subjects) == 1 else 'people'}"


def fit_holdout(
    parent: Path,
    table: FeatureTable,
    table_path: Path,
    sides: HoldoutSplit,
    train: TrainConfig,
    executor: Executor,
    fc: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[HoldoutResult, Path]:
    """Run the fit in its own process; return its result and folder. Reuse a finished fit, and resume an interrupted
    one.

    If the fit diverges or its process dies, the result is `failed`.

    Args:
        parent: folder that contains a folder for every fit.
        fc: file of the backbone's FC layers from which the head starts.
        progress: called with (epochs done, largest number of epochs) during the fit.
    """
    places = {"fit": sides.fit.tolist(), "stop": sides.stop.tolist()}
    identity = cache_key(table=table.key, train=train.model_dump(mode="json"), fc=fc.stem if fc else "", **places)
    folder = parent / identity[:12]
    if (result := _done(folder)) is not None:
        return result, folder
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    spec = HoldoutSpec(train=train, table=table_path, fc=fc, fit_clips=places["fit"], stop_clips=places["stop"])
    write_atomic(folder / _SPEC, spec.model_dump_json(indent=1).encode())
    future = executor.submit(run_holdout, folder)
    while progress and not wait([future], timeout=_POLL_S).done:
        progress(_epochs_done(folder), train.epochs)
    if progress:
        progress(_epochs_done(folder), train.epochs)
    try:
        return future.result(), folder
    except Exception as exc:  # for example out of memory; the other implementations continue
        log.warning("the fit's process ended without a result (%s: %s)", type(exc).__name__, exc)
        reason = f"its process ended without a result ({type(exc).__name__})"
        return HoldoutResult(state="failed", reason=reason), folder


def run_holdout(folder: Path) -> HoldoutResult:
    """Run the fit in `folder` and write its result and head there. The child process calls this."""
    spec = HoldoutSpec.model_validate_json((folder / _SPEC).read_text())
    table = load_table(spec.table)
    seen: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> bool:
        seen.append(epoch)
        (folder / _EPOCHS).write_text(str(epoch.number))
        return False

    device = str(resolve_device(spec.train.device))
    fits = Fits(table, checkpoint=folder / "checkpoint", on_epoch=on_epoch)
    side = FitSplit(np.array(spec.fit_clips), np.array(spec.stop_clips, dtype=np.int64), spec.train.seed)
    try:
        fitted = fits.fitted(model_of(spec.train, fc=spec.fc), side)
    except TrainingError as exc:
        rows = tuple(History(seen).to_rows())
        result = HoldoutResult(state="failed", reason=str(exc), history=rows, device=device)
    else:
        with publish(folder / _HEAD) as temporary:
            save_file(fitted.classifier.to_tensors(), temporary)
        result = HoldoutResult(
            state="complete",
            history=tuple(fitted.history.to_rows()) if fitted.history else (),
            steps=round(fitted.selected["steps"]),
            pretrained=fitted.pretrained,
            n_weights=fitted.classifier.n_parameters,
            threads=fitted.threads,
            device=device,
        )
    write_atomic(folder / _RESULT, result.model_dump_json(indent=1).encode())
    return result


def head_of(folder: Path, table: FeatureTable, train: TrainConfig) -> Head:
    """Load the head of a complete fit."""
    with torch.device("meta"):
        head = Head(table.n_features, train.widths, len(table.classes), train.dropout)
    head.load_state_dict(load_file(folder / _HEAD), strict=True, assign=True)
    return head.eval()


def drop_head(folder: Path) -> None:
    """Remove the head's file (up to half a gigabyte), after a model that contains the head was written."""
    (folder / _HEAD).unlink(missing_ok=True)


def _done(folder: Path) -> HoldoutResult | None:
    """Return the result of an earlier fit, if its head or model still exists; else None."""
    result = read_note(folder / _RESULT, HoldoutResult)
    if result is None:
        return None
    kept = result.state == "failed" or (folder / _HEAD).is_file() or (folder / MODEL).is_dir()
    return result if kept else None


def _epochs_done(folder: Path) -> int:
    try:
        return int((folder / _EPOCHS).read_text() or 0)
    except FileNotFoundError:
        return 0
