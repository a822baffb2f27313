"""The first steps of every flow on labelled clips: dataset, faces, features, in tasks with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.clip import Clip
from fer_core.config import BackboneConfig, RunConfig
from fer_core.dataset.dataset import Dataset, keep_usable, usable_dataset
from fer_core.dataset.load import load_dataset
from fer_core.errors import ConfigError
from fer_core.features.descriptors.descriptor import course_config
from fer_core.preprocess.changes import DESCRIPTIONS, Change
from fer_core.preprocess.clip_rows import ClipRow, store_faces
from fer_core.preprocess.faces import Ledger
from fer_core.preprocess.store import FacesStore
from fer_core.preprocess.weights_file import check_weights
from fer_core.runtime import resolve_device
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar
from flows.support.runner import run_batches

if TYPE_CHECKING:  # torch takes as long to import as all else that `ferflow preprocess` does with stored faces
    from fer_core.dataset.table import FeatureRequirements, FeatureTable
    from fer_core.features.backbone import Backbone

BATCH = 64  # clips per task; Prefect takes some 10 ms per task, preprocessing some 300 ms per clip


@task(task_run_name="faces of clips {first}-{last}", cache_policy=NO_CACHE, persist_result=False)
def faces_of(
    clips: Sequence[Clip], config: RunConfig, first: int, last: int, change: Change | None = None
) -> list[dict[str, Any]]:
    """Store the faces of one batch of clips; return a JSON-able row per clip."""
    store = Workspace.open(config.workspace).store
    rows = store_faces(clips, config.preprocess, config.limits, store, change=change)
    used, selected = sum(r.n_used for r in rows), sum(r.n_selected for r in rows)
    cached = sum(r.cached for r in rows)
    get_run_logger().info(
        "clips %d-%d: %d faces in %d frames, %d clips from the store", first, last, used, selected, cached
    )
    return [row.to_json() for row in rows]


@task(task_run_name="features and table", cache_policy=NO_CACHE, persist_result=False)
def table_task(config: RunConfig, dataset: Dataset, required: FeatureRequirements) -> FeatureTable:
    """Store the features of the usable clips, and return the table that the fits read."""
    from fer_core.dataset.training_table import training_table

    move = progress_bar("features", f"{config.backbone.label} features of {len(dataset.usable)} clips")
    workspace, backbone = Workspace.open(config.workspace), backbone_for(config, required)
    return training_table(dataset, backbone, config.preprocess, workspace, required, move)


@dataclass(frozen=True)
class TrainingData:
    """The stored data of a manifest for all fits.

    Args:
        dataset: the clips and their faces.
        required: the features that the fits read.
        table: features and descriptors of the training clips.
        table_path: file of the table, for other processes.
        backbone: None if no fit reads its features.
        fc, block: files of the backbone's layers that a head starts from.
    """

    dataset: Dataset
    required: FeatureRequirements
    table: FeatureTable
    table_path: Path
    backbone: Backbone | None
    fc: Path | None
    block: Path | None

    def latency(self, config: RunConfig) -> dict[str, float]:
        """Return the measured milliseconds per clip of each part that models read; see `measure_latency`."""
        from fer_core.evaluation.latency import measure_latency

        workspace, dataset = Workspace.open(config.workspace), self.dataset
        return measure_latency(dataset.usable, dataset.course, workspace, self.backbone, self.required)


def prepare(
    config: RunConfig, required: FeatureRequirements, *, folded: bool = False, training_only: bool = False
) -> TrainingData:
    """Return the table that fits read, from a manifest; faces, features and descriptors are computed once and stored.

    Call it inside a flow. Missing weights raise before any work.

    Args:
        required: the features that the fits will read.
        folded: True if `search.folds` will evaluate the fits.
        training_only: True if no test clip is used.
    """
    backbone_for(config, required)
    return prepare_table(config, prepare_faces(config, required, folded=folded, training_only=training_only), required)


def prepare_backbones(config: RunConfig, required: FeatureRequirements) -> dict[str, TrainingData]:
    """Return label -> data for every backbone that a search may try; faces are computed once. Call it inside a flow."""
    backbones_for(config, required)
    dataset = prepare_faces(config, required, folded=True)
    return {
        label: prepare_table(config.model_copy(update={"backbone": cfg}), dataset, required)
        for label, cfg in config.searched_backbones.items()
    }


def prepare_table(config: RunConfig, dataset: Dataset, required: FeatureRequirements) -> TrainingData:
    """Return the table of a dataset whose faces are stored."""
    from fer_core.features.store import FeatureStore

    table: FeatureTable = table_task(config, dataset, required)
    backbone, features = backbone_for(config, required), FeatureStore(Workspace.open(config.workspace).store)
    fc, block = features.stored_layers(backbone, block=bool(table.maps))
    return TrainingData(dataset, required, table, features.tables.path(table.key), backbone, fc, block)


def prepare_faces(
    config: RunConfig,
    required: FeatureRequirements | None = None,
    *,
    folded: bool = False,
    complete: bool = False,
    fitted: bool = True,
    training_only: bool = False,
) -> Dataset:
    """Store the faces of a run's clips batch by batch, and return the dataset; call it inside a flow.

    Args:
        required: the features that the fits will read; None: there are no fits. If they read a clip's whole course, a
            clip whose course has no face is unusable too.
        folded, complete, fitted: see `load_dataset`.
        training_only: see `usable_dataset`.
    Raises:
        WeightsError: a network of preprocessing was not fetched, or is damaged.
    """
    check_weights(config.preprocess, points=required is not None and required.points)
    workspace = Workspace.open(config.workspace)
    manifest = load_dataset(config, workspace, folded=folded, complete=complete, fitted=fitted)
    rows = face_rows(manifest.clips, config)
    move = progress_bar("looks", f"One recording under two names, among {len(manifest.clips)} clips")
    return usable_dataset(
        manifest, rows, config, workspace, course_rows=course_of(config, required), training_only=training_only,
        progress=move,
    )  # fmt: skip


def plain_faces(dataset: Dataset, config: RunConfig) -> Dataset:
    """Return the usable clips of a dataset with faces made by other settings; clips without a face then are left out.

    Args:
        config: all settings, with those of the faces.
    """
    kept = {row.clip for row in dataset.usable}
    manifest = dataset.manifest.with_clips(clip for clip in dataset.manifest.clips if clip.id in kept)
    return Dataset.of(manifest, keep_usable(face_rows(manifest.clips, config), config.limits))


def changed_faces(dataset: Dataset, config: RunConfig, required: FeatureRequirements, change: Change) -> Dataset | None:
    """Return the usable clips of a dataset after a change; clips without a face then are left out.

    Args:
        config: all settings, with those of the faces.
        required: the features that will be read of them.
    Returns:
        None if no clip has a face.
    """
    kept = {row.clip for row in dataset.usable}
    rows = face_rows([clip for clip in dataset.manifest.clips if clip.id in kept], config, change)
    usable = {row.clip: row for row in rows if row.status.scored}
    clips = [clip for clip in dataset.manifest.clips if clip.id in usable]
    course: list[ClipRow] = []
    if required.course:
        whole = config.model_copy(update={"preprocess": course_config(config.preprocess)})
        course = [row for row in face_rows(clips, whole, change) if row.status.scored]
        with_course = {row.clip for row in course}
        clips = [clip for clip in clips if clip.id in with_course]
    if not clips:
        return None
    return Dataset.of(dataset.manifest.with_clips(clips), [usable[clip.id] for clip in clips], course)


def course_of(
    config: RunConfig, required: FeatureRequirements | None
) -> Callable[[Sequence[Clip]], list[ClipRow]] | None:
    """Return the function that stores the faces of clips' whole course; None if no model reads it."""
    if required is None or not required.course:
        return None
    whole = config.model_copy(update={"preprocess": course_config(config.preprocess)})
    return lambda clips: face_rows(clips, whole)


def face_rows(clips: Sequence[Clip], config: RunConfig, change: Change | None = None) -> list[ClipRow]:
    """Store the faces of all clips batch by batch; return one row per clip, in order, also for clips that failed.

    Args:
        change: change applied to every clip before its faces are looked for.
    """
    name, what = (f"faces-{change}", f", {DESCRIPTIONS[change]}") if change else ("faces", "")
    move = progress_bar(name.replace("_", "-"), f"Faces of {len(clips)} clips{what}")
    starts = range(0, len(clips), BATCH)
    batches = [(clips[i : i + BATCH], config, i + 1, min(i + BATCH, len(clips)), change) for i in starts]
    rows: list[ClipRow] = []
    for made in run_batches(faces_of, batches, config.runner):
        rows += map(ClipRow.from_json, made)
        move(len(rows), len(clips))
    return rows


def backbone_of(config: RunConfig) -> Backbone:
    """Return the backbone of a run, loaded once per process."""
    return _load(config.backbone, str(resolve_device(config.train.device)))


def backbone_for(config: RunConfig, required: FeatureRequirements) -> Backbone | None:
    """Return the backbone of a run if a model reads its features or maps, otherwise None."""
    if not required.backbone:
        return None
    from fer_core.features.torch_backbone import one_network

    backbone = backbone_of(config)
    return one_network(backbone) if required.maps else backbone


def backbones_for(config: RunConfig, wanted: FeatureRequirements) -> dict[str, Backbone | None]:
    """Return label -> backbone for every backbone that a search may try.

    Raises:
        ConfigError: backbones are searched, but no model reads their features, or one has no block to be tuned.
        WeightsError: weights of a backbone are missing.
    """
    if config.search.backbones and not wanted.backbone:
        raise ConfigError("search.backbones is set, but none of the models reads features; leave it out")
    return {
        label: backbone_for(config.model_copy(update={"backbone": cfg}), wanted)
        for label, cfg in config.searched_backbones.items()
    }


@lru_cache(maxsize=8)
def _load(cfg: BackboneConfig, device: str) -> Backbone:
    import torch

    from fer_core.features.load_backbone import load_backbone

    return load_backbone(cfg, torch.device(device))


def ledgers_of(dataset: Dataset, clips: Collection[str], workspace: Workspace) -> Iterator[Ledger]:
    """Yield the frames of some clips of a dataset, by clip id; clips whose faces are gone are left out."""
    store = FacesStore(workspace.store)
    for row in dataset.usable:
        if row.clip in clips and (faces := store.get(row.key)) is not None:
            yield faces.ledger
