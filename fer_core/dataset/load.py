"""The labelled clips of a run: its manifest, classes and split."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest, read_manifest
from fer_core.clips.neutral import with_first_frames
from fer_core.clips.splits import check_split, grouped_folds, split
from fer_core.config import RunConfig, SearchConfig
from fer_core.emotions import Emotion
from fer_core.errors import ConfigError, DataError
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)


def load_dataset(cfg: RunConfig, workspace: Workspace) -> Manifest:
    """The labelled clips of a run, split by subject: as the manifest says, else by `cfg.split`.

    With `classes: seven`, neutral clips are kept, and the first frames of `neutral_from` are more of them.

    Raises:
        DataError: there is no manifest, or it or its split is not fit for training.
        ConfigError: first frames are needed, but clips are not cut.
    """
    path = Path(cfg.manifest).expanduser() if cfg.manifest else workspace.manifest
    if not path.is_file():
        raise DataError(
            f"no manifest at {path}; make one with 'ferflow data scan folder ROOT --out {path}', draw one with "
            f"'ferflow data synth', or name yours with --set manifest=FILE"
        )
    manifest = _sided(labelled_clips(path, cfg), cfg, path)
    return manifest if cfg.classes == "six" else _with_neutral(manifest, cfg)


def check_folds(manifest: Manifest, cfg: SearchConfig) -> None:
    """Refuse now folds that its people are too few for; clips that cannot be used may still leave fewer people.

    Raises:
        DataError: as `grouped_folds`.
    """
    clips = trained_on(manifest).clips
    labels = np.array([c.emotion.column for c in clips if c.emotion])
    grouped_folds([c.subject for c in clips], labels, cfg.folds, cfg.seed)


def labelled_clips(path: Path, cfg: RunConfig) -> Manifest:
    """The clips of a manifest that have one of the run's emotions as label.

    Raises:
        DataError: there are none, or the manifest cannot be read.
    """
    manifest = read_manifest(path, neutral=cfg.classes == "seven").labelled()
    if not manifest.clips:
        raise DataError(f"{path}: no labelled clips; it needs rows with one of the six emotions as label")
    return manifest


def _sided(manifest: Manifest, cfg: RunConfig, path: Path) -> Manifest:
    if all(clip.split is None for clip in manifest.clips):
        return split(manifest, cfg.split)
    unsplit = [clip.id for clip in manifest.clips if clip.split is None]
    if unsplit:
        raise DataError(
            f"{path}: {len(unsplit)} of {len(manifest)} clips have no split, the first is '{unsplit[0]}'; "
            "fill the column, or drop it to have the clips split by subject"
        )
    for warning in check_split(manifest):
        log.warning("%s", warning)
    return manifest


def _with_neutral(manifest: Manifest, cfg: RunConfig) -> Manifest:
    """Neutral clips of first frames added; the sides are given by then, so no subject changes its side."""
    whole = with_first_frames(manifest, cfg.neutral_from)
    if len(whole) > len(manifest) and cfg.preprocess.apex == "last":
        raise ConfigError(
            "preprocess.apex is 'last', which cuts no clip at its first frames; use 'given' or 'estimate' for neutral "
            "clips of first frames, or set neutral_from=[]"
        )
    if not any(c.emotion is Emotion.NEUTRAL for c in trained_on(whole).clips):
        raise DataError(
            "classes is 'seven', but no clip to train on is neutral; label some, name in neutral_from the databases "
            f"whose clips begin neutral (here are {', '.join(filter(None, manifest.datasets)) or 'none named'}), or "
            "use six"
        )
    return whole


def trained_on(manifest: Manifest) -> Manifest:
    """The clips that heads are trained on: train and validation; never those of the test set."""
    return manifest.of(Split.TRAIN, Split.VALIDATION)
