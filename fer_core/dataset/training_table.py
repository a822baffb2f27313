"""Build the table of a dataset: its features and descriptors, computed once and stored."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial

import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.table import FeatureRequirements, FeatureTable, Part, build_table
from fer_core.features.augment import PLAIN, View
from fer_core.features.backbone import Backbone
from fer_core.features.descriptors.catalogue import DESCRIPTORS
from fer_core.features.neutral_reference import NEUTRAL
from fer_core.features.store import FeatureStore, Layer, feature_key, neutral_key
from fer_core.preprocess.clip_rows import ClipRow, Progress, stored_faces
from fer_core.store import cache_key
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)

_PLAIN: tuple[Layer, View] = ("features", PLAIN)


def store_features(
    rows: Sequence[ClipRow],
    backbone: Backbone,
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    extra: FeatureRequirements = FeatureRequirements(),  # noqa: B008  frozen
    trained: Collection[str] = (),
) -> int:
    """Compute and store the missing features of all rows. Returns the number of frames computed, summed over views.

    Args:
        extra: additional views and maps to store, but only for the clips in `trained`: test clips are not augmented.
        trained: ids of the training clips.
    """
    computed, store = 0, FeatureStore(workspace.store)
    for done, (row, faces) in enumerate(zip(rows, stored_faces(rows, workspace.store), strict=True), 1):
        parts = [*(extra.parts() if row.clip in trained else ()), *([_PLAIN] if extra.plain else ())]
        for layer, view in parts:
            if feature_key(row.key, backbone, view, layer) not in store.entries:
                computed += faces.n_used
                store.take(layer, faces, backbone, view)
        if progress:
            progress(done, len(rows))
    return computed


def training_table(
    dataset: Dataset,
    backbone: Backbone | None,
    cfg: PreprocessConfig,
    workspace: Workspace,
    extra: FeatureRequirements = FeatureRequirements(),  # noqa: B008  frozen
    progress: Progress | None = None,
    *,
    every_clip: bool = False,
) -> FeatureTable:
    """Return the table of the usable train and validation clips, after storing the features of all usable clips.

    Args:
        backbone: None if no features are needed; the table's features are then (N, 0).
        extra: the features and descriptors that the table contains; test clips are not augmented.
        progress: called with (clips done, all clips).
        every_clip: True if the table has all usable clips, whatever their split; no model is trained on it.
    """
    manifest = dataset.manifest if every_clip else dataset.training
    if backbone is not None and extra.backbone:
        trained = {clip.id for clip in manifest.clips}
        computed = store_features(dataset.usable, backbone, workspace, progress, extra=extra, trained=trained)
        log.info("features of %d frames computed", computed)
    rows, store = dataset.usable, FeatureStore(workspace.store)
    by_id, whole = {row.clip: row for row in rows}, {row.clip: row for row in dataset.course}
    clips = [c for c in manifest.clips if c.id in by_id]
    chosen = [by_id[c.id] for c in clips]

    def part(layer: Layer, view: View) -> Part:
        assert backbone is not None
        return Part(
            layer,
            [feature_key(row.key, backbone, view, layer) for row in chosen],
            lambda: (store.take(layer, f, backbone, view) for f in stored_faces(chosen, workspace.store)),
        )

    def described(name: str) -> Part:
        descriptor = DESCRIPTORS[name]
        of = [whole[c.id] for c in clips] if descriptor.of_course else chosen
        keys = [cache_key(faces=row.key, descriptor=descriptor.identity) for row in of]
        faces = partial(stored_faces, of, workspace.store)
        return Part("described", keys, lambda: (descriptor.of(f)[None] for f in faces()), name)

    def neutral() -> Part:
        assert backbone is not None
        of = [whole[c.id] for c in clips]
        keys = [neutral_key(row.key, backbone) for row in of]
        faces = partial(stored_faces, of, workspace.store)
        return Part("described", keys, lambda: (store.neutral(f, backbone)[None] for f in faces()), NEUTRAL)

    note = {
        **(backbone.identity if backbone else {}),
        "preprocess": cfg.model_dump_json(),
        "fingerprint": dataset.fingerprint,
    }
    if extra.plain:
        plain = part(*_PLAIN)
        keys, features = plain.keys, list(plain.rows())
    else:
        keys, features = [row.key for row in chosen], [np.empty((row.n_used, 0), np.float16) for row in chosen]
    parts = [*(part(layer, view) for layer, view in extra.parts()), *map(described, extra.descriptors)]
    if extra.neutral:
        parts.append(neutral())
    return build_table(clips, features, keys, store, note, manifest.classes, parts)
