"""fit_fold: a model fitted to some clips and asked about others. Every experiment comes to its scores this way."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fer_core.clips.splits import inner_split
from fer_core.dataset.table import FeatureTable
from fer_core.evaluation.latency import Costs, ms_per_clip
from fer_core.models.base import MODELS_VERSION, ClipModel, Fits, FitSplit, read_of
from fer_core.store import EntryStore, cache_key, publish

log = logging.getLogger(__name__)

Fold = tuple[np.ndarray, dict[str, Any]]  # scores of the clips asked about, and the note of the fit


class Kept(Protocol):
    """A place that stores a fold's result, so that the fold is not fitted again."""

    def get(self) -> Fold | None: ...

    def put(self, scores: np.ndarray, note: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class FoldFile:
    """A fold in a file of its own."""

    path: Path

    def get(self) -> Fold | None:
        """The fold; None where there is none, or (with a warning) none that can be read."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="numpy") as file:
                return file.get_tensor("scores"), json.loads(file.metadata()["detail"])
        except (SafetensorError, KeyError, TypeError, ValueError) as exc:
            log.warning("%s is damaged (%s); its fold is fitted again", self.path, exc)
            return None

    def put(self, scores: np.ndarray, note: Mapping[str, Any]) -> None:
        with publish(self.path) as temporary:
            save_file({"scores": scores}, temporary, metadata={"detail": json.dumps(note)})


@dataclass(frozen=True)
class FoldEntry:
    """A fold in a store, under a key of all that it depends on."""

    store: EntryStore
    key: str

    def get(self) -> Fold | None:
        stored = self.store.get(self.key)
        return None if stored is None else (stored[0]["scores"], stored[1])

    def put(self, scores: np.ndarray, note: Mapping[str, Any]) -> None:
        self.store.put(self.key, {"scores": scores}, note)


def hold_out(table: FeatureTable, clips: np.ndarray, inner_share: float, seed: int, fit_seed: int) -> FitSplit:
    """Some clips to fit to, `inner_share` of their subjects held out to stop on.

    Args:
        clips: places in the table. seed: of who is held out. fit_seed: of all that is random in the fit.
    """
    subjects = [table.subjects[c] for c in clips]
    kept, stopped_on = inner_split(subjects, table.labels[clips], inner_share, seed)
    return FitSplit(clips[kept], clips[stopped_on], fit_seed)


def fit_fold(
    model: ClipModel,
    fits: Fits,
    side: FitSplit,
    scored: np.ndarray,
    *,
    on: FeatureTable | None = None,
    frames: bool = False,
    costs: Costs | None = None,
    kept: Kept | None = None,
) -> Fold:
    """Scores of some clips by a model fitted to others, and a note of the fit; both read back where they are kept.

    Args:
        side: clips fitted to and stopped on; see `hold_out`.
        scored: places of the clips to score.
        on: the table they are in; None: that of the fits.
        frames: whether each frame is scored, (n, k) float32; else each clip, (m, k).
        costs: milliseconds a clip of what models read; part of the note.
    Returns:
        The scores, and a JSON-able note: `chosen`, `best_epoch`, `n_weights`, `ms`, `seconds`, `pretrained`, `threads`,
        `history`; see `models.base.Fitted`.
    Raises:
        TrainingError: the fit diverged, or a class has no clips to be fitted to.
    """
    if kept is not None and (found := kept.get()) is not None:
        return found
    on = on or fits.table
    fitted = fits.fitted(model, side)
    scores = (fitted.classifier.frame_scores if frames else fitted.classifier.scores)(on, scored)
    note = {
        "chosen": dict(fitted.chosen),
        "best_epoch": fitted.best_epoch,
        "n_weights": fitted.classifier.n_parameters,
        "ms": ms_per_clip(fitted.classifier, on, scored, costs or {}),
        "seconds": fitted.seconds,
        "pretrained": list(fitted.pretrained),
        "threads": fitted.threads,
        "history": fitted.history.to_rows() if fitted.history else [],
    }
    if kept is not None:
        kept.put(scores, note)
    return scores, note


def fold_entry(
    store: EntryStore | None, model: ClipModel, fits: Fits, side: FitSplit, scored: np.ndarray, on: FeatureTable | None
) -> FoldEntry | None:
    """The store entry of a fold's clip scores; its key holds the model, the clips and the features it reads."""
    if store is None:
        return None
    key = cache_key(
        version=MODELS_VERSION,
        model=model.setting,
        tables=[read_of(table, model) for table in (fits.table, on or fits.table)],
        clips=[places.tolist() for places in (side.fit, side.stop, scored)],
        seed=side.seed,
    )
    return FoldEntry(store, key)
