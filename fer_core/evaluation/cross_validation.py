"""`fit_fold`: fit a model to some clips and predict others. Every experiment obtains its scores by this function."""

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
from fer_core.evaluation.latency import LatencyOf, ms_per_clip
from fer_core.models.base import MODELS_VERSION, ClipModel, Fits, FitSplit, read_of
from fer_core.store import EntryStore, cache_key, publish

log = logging.getLogger(__name__)

Fold = tuple[np.ndarray, dict[str, Any]]  # scores of the predicted clips, and a note about the fit


class Kept(Protocol):
    """Storage for the result of a fold, so that the fold is not fitted again."""

    def get(self) -> Fold | None: ...

    def put(self, scores: np.ndarray, note: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class FoldFile:
    """A fold stored in one safetensors file."""

    path: Path

    def get(self) -> Fold | None:
        """Return the stored fold; None if there is none, or (with a warning) if the file is damaged."""
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
    """A fold stored in an `EntryStore`, under a key of everything that it depends on."""

    store: EntryStore
    key: str

    def get(self) -> Fold | None:
        stored = self.store.get(self.key)
        return None if stored is None else (stored[0]["scores"], stored[1])

    def put(self, scores: np.ndarray, note: Mapping[str, Any]) -> None:
        self.store.put(self.key, {"scores": scores}, note)


def hold_out(table: FeatureTable, clips: np.ndarray, inner_share: float, seed: int, fit_seed: int) -> FitSplit:
    """Split training clips by subject into clips to fit to and clips for early stopping.

    Args:
        clips: positions of the training clips in the table.
        inner_share: share of the subjects that are held out for early stopping.
        seed: seed of this split.
        fit_seed: seed of everything random in the fit.
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
    latency: LatencyOf | None = None,
    kept: Kept | None = None,
) -> Fold:
    """Fit a model to the training clips and predict other clips; if `kept` has the result, return that instead.

    Args:
        side: training clips and clips for early stopping; see `hold_out`.
        scored: positions of the clips to predict.
        on: the table of these clips; None: the table of `fits`.
        frames: True: predict each frame, (n, k) float32; False: predict each clip, (m, k).
        latency: latency of the model's inputs in ms per clip, for the note; see `measure_latency`.
        kept: storage for the result; None: it is not stored.
    Returns:
        The scores, and a JSON-able note: `selected`, `best_epoch`, `n_weights`, `ms`, `seconds`, `pretrained`,
        `threads`, `history`; see `models.base.Fitted`.
    Raises:
        TrainingError: the fit diverged, or a class has no training clips.
    """
    if kept is not None and (found := kept.get()) is not None:
        return found
    on = on or fits.table
    fitted = fits.fitted(model, side)
    scores = (fitted.classifier.frame_scores if frames else fitted.classifier.scores)(on, scored)
    note = {
        "selected": dict(fitted.selected),
        "best_epoch": fitted.best_epoch,
        "n_weights": fitted.classifier.n_parameters,
        "ms": ms_per_clip(fitted.classifier, on, scored, latency or {}),
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
    """Return the store entry for a fold's clip scores. Its key depends on the model, the clips and the features
    read."""
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
