"""Load the labelled clips of a run, with their classes and split."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest, read_manifest
from fer_core.clips.neutral import with_first_frames
from fer_core.clips.splits import check_split, grouped_folds, split
from fer_core.config import RunConfig, SearchConfig
from fer_core.emotions import Classes, Emotion
from fer_core.errors import ConfigError, DataError, no_manifest
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)


def load_dataset(
    cfg: RunConfig, workspace: Workspace, *, fitted: bool = True, folded: bool = False, complete: bool = False
) -> Manifest:
    """Load the labelled clips of a run, split by subject: by the manifest's split column, or else by `cfg.split`.

    If neutral is a class, the first frames of clips of the databases in `neutral_from` are added as neutral clips.

    Args:
        fitted: True if a model is fitted to the clips. False: they are only predicted, so they may have a single class
            and need no split.
        folded: True if `search.folds` will evaluate the fits: there must be enough subjects for the folds.
        complete: True if every class of the run needs training clips.
    Raises:
        DataError: the manifest is missing, or it, its split or its classes cannot be used for training.
        ConfigError: neutral first frames are needed, but `preprocess.apex` cuts no clip there.
    """
    path = Path(cfg.manifest).expanduser() if cfg.manifest else workspace.manifest
    if not path.is_file():
        raise no_manifest(path)
    manifest = labelled_clips(path, cfg.class_list)
    if fitted or sum(n > 0 for n in manifest.class_counts().values()) > 1:
        manifest = _with_splits(manifest, cfg, path)
    if Emotion.NEUTRAL in manifest.classes:
        manifest = _with_neutral(manifest, cfg)
    if folded:
        check_folds(manifest, cfg.search)
    elif complete:
        check_classes(manifest)
    return manifest


def check_classes(manifest: Manifest) -> None:
    """Check, before preprocessing, that every class has training clips.

    Raises:
        DataError: a class has no train or validation clip.
    """
    counts, everywhere = trained_on(manifest).class_counts(), manifest.class_counts()
    missing = [label for label, n in counts.items() if not n]
    if not missing:
        return
    tested = [f"{everywhere[label]} of {label}" for label in missing if everywhere[label]]
    tested_only = f" (the test set has {', '.join(tested)})" if tested else ""
    neutral = (
        ", or name in neutral_from the databases whose clips begin neutral (here are "
        f"{', '.join(filter(None, manifest.datasets)) or 'none named'})"
        if Emotion.NEUTRAL in missing
        else ""
    )
    raise DataError(
        f"no clip to train on shows {', '.join(missing)}{tested_only}; add clips{neutral}, or train on the classes "
        f"there are: classes=[{', '.join(label for label, n in counts.items() if n)}]"
    )


def check_folds(manifest: Manifest, cfg: SearchConfig) -> None:
    """Check, before preprocessing, that there are enough subjects for the folds and the classes.

    Later there may be fewer subjects, if some clips cannot be used.

    Raises:
        DataError: a class has no training clip; there are fewer subjects than folds; or a fold would have no training
            subject for a class, or none for early stopping.
    """
    check_classes(manifest)
    training = trained_on(manifest)
    subjects, labels = np.array([c.subject for c in training.clips]), training.labels()
    n_people, n_tested = len(training.subjects), len(manifest.subjects) - len(training.subjects)
    people = f"there {'is' if n_people == 1 else 'are'} {n_people} to train on"
    people += f" (and {n_tested} in the test set, who cannot be)" if n_tested else ""
    if n_people < cfg.folds:
        remedy = f"set search.folds to {n_people} or less" if n_people > 2 else "add people"
        remedy += ", or put fewer into the test set (split.test)" if n_tested > 1 else ""
        raise DataError(f"{cfg.folds} subject-disjoint folds need {cfg.folds} people, but {people}; {remedy}")
    for fold, (train, _) in enumerate(grouped_folds(subjects, labels, cfg.folds, cfg.seed), start=1):
        if len(set(subjects[train])) < 2:
            raise DataError(
                f"fold {fold} of {cfg.folds} leaves 1 person to train on, but 2 are needed, one to learn from and one "
                f"to stop on, and {people}; add people" + (", or set search.folds to 3 or more" if n_people > 2 else "")
            )
        missing = np.setdiff1d(np.arange(len(training.classes)), labels[train])
        if not len(missing):
            continue
        column = int(missing[0])
        shown_by = sorted(set(subjects[labels == column].tolist()))
        others = [label for place, label in enumerate(training.classes) if place not in missing]
        raise DataError(
            f"{training.classes[column]} is shown by {len(shown_by)} of the {n_people} people to train on "
            f"({', '.join(shown_by[:5])}), and fold {fold} of {cfg.folds} holds all of them out: nobody is left to "
            f"learn it from. Add people who show it, or leave it out: classes=[{', '.join(others)}]"
        )


def labelled_clips(path: Path, classes: Classes | None) -> Manifest:
    """Read the clips of a manifest that have a label.

    Args:
        classes: labels to keep; None: all.
    Raises:
        DataError: there are no such clips, or the manifest cannot be read.
    """
    manifest = read_manifest(path, classes=classes).labelled()
    if not manifest.clips:
        raise DataError(f"{path}: no labelled clips; it needs rows labelled {', '.join(classes or ('...',))}")
    return manifest


def _with_splits(manifest: Manifest, cfg: RunConfig, path: Path) -> Manifest:
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
    """Add neutral clips from first frames. This follows the split, so no subject changes its split."""
    whole = with_first_frames(manifest, cfg.neutral_from)
    if len(whole) > len(manifest) and cfg.preprocess.apex == "last":
        raise ConfigError(
            "preprocess.apex is 'last', which cuts no clip at its first frames; use 'given' or 'estimate' for neutral "
            "clips of first frames, or set neutral_from=[]"
        )
    return whole


def trained_on(manifest: Manifest) -> Manifest:
    """Return the clips that models are trained on: train and validation clips, never test clips."""
    return manifest.of(Split.TRAIN, Split.VALIDATION)
