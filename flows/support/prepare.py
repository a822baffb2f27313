"""The first steps of every flow on labelled clips: dataset, faces, features, each in tasks over batches of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest
from fer_core.config import BackboneConfig, RunConfig
from fer_core.dataset.leak_gate import refuse_leaks
from fer_core.dataset.load import check_classes, check_folds, load_dataset, trained_on
from fer_core.dataset.prepare import ClipRow, data_fingerprint, keep_usable, prepare_clips
from fer_core.dataset.table import FeatureRequirements, FeatureTable, store_features, training_table
from fer_core.evaluation.latency import measure_latency
from fer_core.features.backbone import Backbone, load_backbone, one_network
from fer_core.features.descriptors.descriptor import course_config
from fer_core.preprocess.landmarks import require_landmarks
from fer_core.runtime import resolve_device
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar
from flows.support.runner import run_batches

BATCH = 64  # clips per task; Prefect takes some 10 ms per task, preprocessing some 300 ms per clip


@dataclass(frozen=True)
class Prepared:
    """A dataset with its faces in the store.

    Args:
        manifest: labelled and split.
        rows: one per clip.
        usable: rows of the clips that can be used for training or tests.
        fingerprint: fingerprint of the usable clips and their split.
        course: rows of the usable clips' whole course, if a model reads it.
    """

    manifest: Manifest
    rows: list[ClipRow]
    usable: list[ClipRow]
    fingerprint: str
    course: tuple[ClipRow, ...] = ()


@task(task_run_name="faces of clips {first}-{last}", cache_policy=NO_CACHE, persist_result=False)
def faces_of(clips: Sequence[Clip], config: RunConfig, first: int, last: int) -> list[dict[str, Any]]:
    """Store the faces of one batch of clips; return a JSON-able row per clip."""
    rows = prepare_clips(clips, config.preprocess, config.limits, Workspace.open(config.workspace))
    used, selected = sum(r.n_used for r in rows), sum(r.n_selected for r in rows)
    cached = sum(r.cached for r in rows)
    get_run_logger().info(
        "clips %d-%d: %d faces in %d frames, %d clips from the store", first, last, used, selected, cached
    )
    return [row.to_json() for row in rows]


@task(task_run_name="features of clips {first}-{last}", cache_policy=NO_CACHE, persist_result=False)
def features_of(
    rows: Sequence[ClipRow],
    config: RunConfig,
    extra: FeatureRequirements,
    trained: frozenset[str],
    first: int,
    last: int,
) -> int:
    """Store the features of one batch of clips; return the number of frames that had to be computed."""
    workspace = Workspace.open(config.workspace)
    computed = store_features(rows, backbone_of(config), workspace, extra=extra, trained=trained)
    get_run_logger().info("clips %d-%d: features of %d frames computed", first, last, computed)
    return computed


@dataclass(frozen=True)
class TrainingData:
    """The stored data of a manifest for all fits.

    Args:
        prepared: the clips and their faces.
        required: the features that the fits read.
        table: features and descriptors of the training clips.
        table_path: file of the table, for other processes.
        backbone: None if no fit reads its features.
        fc, block: files of the backbone's layers that a head starts from.
    """

    prepared: Prepared
    required: FeatureRequirements
    table: FeatureTable
    table_path: Path
    backbone: Backbone | None
    fc: Path | None
    block: Path | None

    def latency(self, config: RunConfig) -> dict[str, float]:
        """Return the measured milliseconds per clip of each part that models read; see `measure_latency`."""
        workspace, prepared = Workspace.open(config.workspace), self.prepared
        return measure_latency(prepared.usable, prepared.course, workspace, self.backbone, self.required)


def prepare(
    config: RunConfig,
    required: FeatureRequirements,
    *,
    folded: bool = False,
    narrow: Callable[[Prepared], Prepared] | None = None,
) -> TrainingData:
    """Return the table that fits read, from a manifest; faces, features and descriptors are computed once and stored.

    Call it inside a flow. Missing weights raise before any work.

    Args:
        required: the features that the fits will read.
        folded: True if `search.folds` will evaluate the fits.
        narrow: removes some clips before features are computed, and adds the whole course of the others.
    """
    backbone = backbone_for(config, required)
    if required.points:
        require_landmarks(config.preprocess)
    prepared = prepare_faces(config, FeatureRequirements() if narrow else required, folded=folded)
    return prepare_table(config, narrow(prepared) if narrow else prepared, required, backbone)


def prepare_table(
    config: RunConfig, prepared: Prepared, required: FeatureRequirements, backbone: Backbone | None
) -> TrainingData:
    """Return the table of clips whose faces are stored."""
    prepare_features(config, prepared, required)
    table, features = table_of(config, prepared, required), Workspace.open(config.workspace).features
    fc, block = features.stored_layers(backbone, block=bool(table.maps))
    return TrainingData(prepared, required, table, features.tables.path(table.key), backbone, fc, block)


def prepare_faces(
    config: RunConfig,
    wanted: FeatureRequirements = FeatureRequirements(),  # noqa: B008  frozen
    *,
    folded: bool = False,
    complete: bool = False,
    fitted: bool = True,
) -> Prepared:
    """Store the faces of a run's dataset batch by batch, and return the dataset; call it inside a flow.

    Args:
        wanted: the features that the fits will read. If they read a clip's whole course, a clip whose course has no
            face is unusable too.
        folded: True if `search.folds` will evaluate the fits.
        complete: True if the fits need every class of the run.
        fitted: see `load_dataset`.
    """
    workspace = Workspace.open(config.workspace)
    manifest = load_dataset(config, workspace, fitted=fitted)
    if folded:
        check_folds(manifest, config.search)
    elif complete:
        check_classes(manifest)
    rows = face_rows(manifest.clips, config)
    move = progress_bar("looks", f"One recording under two names, among {len(manifest.clips)} clips")
    refuse_leaks(manifest, rows, config, workspace, move)
    usable, course = with_course(manifest.clips, keep_usable(rows, config.limits), config, wanted)
    return Prepared(manifest, rows, usable, data_fingerprint(manifest, usable), tuple(course))


def with_course(
    clips: Sequence[Clip], usable: list[ClipRow], config: RunConfig, wanted: FeatureRequirements
) -> tuple[list[ClipRow], list[ClipRow]]:
    """Return the usable rows and, if a model reads it, the rows of the same clips' whole course.

    A clip is in both lists or, if its course cannot be used, in neither.
    """
    if not wanted.course:
        return usable, []
    whole = config.model_copy(update={"preprocess": course_config(config.preprocess)})
    known = {row.clip for row in usable}
    course = keep_usable(face_rows([clip for clip in clips if clip.id in known], whole), config.limits)
    kept = {row.clip for row in course}
    return [row for row in usable if row.clip in kept], course


def face_rows(clips: Sequence[Clip], config: RunConfig) -> list[ClipRow]:
    """Store the faces of all clips batch by batch; return one row per clip, in order, also for clips that failed."""
    move = progress_bar("faces", f"Faces of {len(clips)} clips")
    batches = [(clips[i : i + BATCH], config, i + 1, min(i + BATCH, len(clips))) for i in range(0, len(clips), BATCH)]
    rows: list[ClipRow] = []
    for made in run_batches(faces_of, batches, config.runner):
        rows += map(ClipRow.from_json, made)
        move(len(rows), len(clips))
    return rows


def prepare_features(config: RunConfig, prepared: Prepared, extra: FeatureRequirements = FeatureRequirements()) -> int:  # noqa: B008  frozen
    """Store the features of the usable clips batch by batch; return the number of frames that had to be computed.

    Args:
        extra: the features that the fits will read; views and maps are computed for the training side only.
    """
    if not extra.backbone:
        return 0
    rows, trained = prepared.usable, frozenset(c.id for c in trained_on(prepared.manifest).clips)
    move = progress_bar("features", f"{config.backbone.label} features of {len(rows)} clips")
    computed = 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        computed += features_of(batch, config, extra, trained, start + 1, start + len(batch))
        move(start + len(batch), len(rows))
    return computed


def table_of(config: RunConfig, prepared: Prepared, extra: FeatureRequirements) -> FeatureTable:
    """Return the table that the fits read; see `training_table`."""
    workspace = Workspace.open(config.workspace)
    return training_table(
        prepared.manifest, prepared.usable, backbone_for(config, extra), config.preprocess, workspace,
        course=prepared.course, extra=extra,
    )  # fmt: skip


def backbone_of(config: RunConfig) -> Backbone:
    """Return the backbone of a run, loaded once per process."""
    return _load(config.backbone, str(resolve_device(config.train.device)))


def backbone_for(config: RunConfig, wanted: FeatureRequirements) -> Backbone | None:
    """Return the backbone of a run if a model reads its features or maps, otherwise None."""
    if not wanted.backbone:
        return None
    backbone = backbone_of(config)
    return one_network(backbone) if wanted.maps else backbone


@lru_cache(maxsize=1)
def _load(cfg: BackboneConfig, device: str) -> Backbone:
    import torch

    return load_backbone(cfg, torch.device(device))
