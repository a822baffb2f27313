"""The feature table: labelled clips with features and descriptors, stored once and read by all trials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from fer_core.clips.clip import Clip
from fer_core.emotions import SIX, Classes
from fer_core.errors import DataError, ShapeError, StoreError
from fer_core.features.augment import View
from fer_core.features.descriptors.catalogue import of_course, of_points
from fer_core.features.inputs import ClipInputs
from fer_core.features.store import FeatureStore, Layer
from fer_core.store import EntryStore, cache_key

DESCRIBED = "described"


@dataclass(frozen=True, kw_only=True)
class FeatureTable(ClipInputs):
    """The inputs of models for many clips, with labels, subjects and other columns for training and evaluation.

    Args:
        key: key of the whole table.
        labels: (C,) int64 true classes, as indices in `classes`.
        clip_ids, subjects, datasets: C strings each.
        classes: emotions, in the order of the scores' columns.
        groups: name of a `group_*` column of the manifest -> C values.
        note: identity of backbone and preprocessing, for the model record.
        views: (N, d) float16 features of the same frames, one tensor for each augmented view; for training only.
        part_keys: key of each part: `people` (clips, labels, subjects), `features` (with views and maps), and each
            descriptor by name.
    """

    key: str
    labels: np.ndarray
    clip_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    datasets: tuple[str, ...]
    classes: Classes = SIX
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    note: Mapping[str, str] = field(default_factory=dict)
    views: tuple[torch.Tensor, ...] = ()
    part_keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.features.dtype != torch.float16:
            raise ShapeError(f"features must be (N, d) float16, but got {tuple(self.features.shape)}")
        if len(self.offsets) != self.n_clips + 1 or self.offsets[-1] != len(self.features):
            raise ShapeError(f"offsets must be ({self.n_clips + 1},) ending at {len(self.features)}")
        if (np.diff(self.offsets) < 1).any():
            raise ShapeError("every clip of a table needs at least one frame")
        for what, tensors in (("views", self.views), ("maps", self.maps)):
            if any(len(t) != len(self.features) or t.dtype != torch.float16 for t in tensors):
                raise ShapeError(f"{what} must be float16 of {len(self.features)} frames")
        for name, array in self.described.items():
            if len(array) != self.n_clips:
                raise ShapeError(f"descriptor {name} must be of {self.n_clips} clips, but is of {len(array)}")

    @property
    def n_clips(self) -> int:
        return len(self.clip_ids)

    @property
    def n_features(self) -> int:
        return int(self.features.shape[1])

    @property
    def synthetic(self) -> bool:
        """True if the faces of any clip are drawn or rendered."""
        return any("synthetic" in name.lower() for name in self.datasets)

    def frame_labels(self) -> np.ndarray:
        """Return (N,) int64 labels of the frames; each frame has the label of its clip."""
        return np.repeat(self.labels, np.diff(self.offsets))


@dataclass(frozen=True)
class Part:
    """An additional part of a table: another layer or view of its frames, or a descriptor of its clips.

    Args:
        layer: layer of the frames' features; `described`: the descriptor `name`, one row per clip.
        keys: for each clip, the key of the part: its feature key, or the key of its faces with the descriptor's.
        rows: function that returns one array per clip, in order; not called if the part is stored already.
        name: name of the descriptor.
    """

    layer: Layer | Literal["described"]
    keys: Sequence[str]
    rows: Callable[[], Iterable[np.ndarray]]
    name: str = ""


def build_table(
    clips: Sequence[Clip],
    features: Sequence[np.ndarray],
    keys: Sequence[str],
    store: FeatureStore,
    note: Mapping[str, str],
    classes: Classes = SIX,
    parts: Sequence[Part] = (),
) -> FeatureTable:
    """Build and store the table of labelled clips; all trials read it memory-mapped.

    Args:
        clips: labelled clips.
        features: one (n, d) float16 array per clip; n >= 1.
        keys: feature keys of the clips.
        note: identity of backbone and preprocessing, for the model record.
        parts: additional views, maps (in the order of the views) and descriptors.
    Raises:
        DataError: there are no clips, or one has no frames or no label.
    """
    if not clips:
        raise DataError("no clip is left to train on; 'ferflow preprocess' tells what became of each")
    for clip, rows in zip(clips, features, strict=True):
        if not len(rows) or clip.emotion not in classes:
            raise DataError(f"clip '{clip.id}': {_unfit(clip, rows)}; it cannot be trained on")
    people = {
        "clips": [c.id for c in clips],
        "subjects": [c.subject for c in clips],
        "labels": [classes.index(c.emotion) for c in clips if c.emotion],
        "classes": list(classes),
    }
    n_frames = sum(map(len, features))
    stored: dict[str, list[str]] = {"features": [], "maps": []}
    descriptors: dict[str, str] = {}
    for part in parts:
        key = cache_key(matrix=part.layer, keys=list(part.keys))
        if key not in store.tables:
            n_rows = len(clips) if part.layer == DESCRIBED else n_frames
            note_of = {**people, "part": part.name or part.layer}
            store.tables.put_rows(key, {part.layer: (n_rows, part.rows())}, note_of)
        if part.layer == DESCRIBED:
            descriptors[part.name] = key
        else:
            stored[part.layer].append(key)
    described = {
        **people,
        "datasets": [c.dataset for c in clips],
        "groups": {
            name: [c.groups.get(name, "") for c in clips] for name in sorted({g for c in clips for g in c.groups})
        },
        "note": dict(note),
        "parts": stored,
        DESCRIBED: descriptors,
        "part_keys": {"people": cache_key(**people), "features": cache_key(keys=list(keys)), **descriptors},
    }
    key = cache_key(features=list(keys), **described)
    if key not in store.tables:
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in features])]).astype(np.int64)
        store.tables.put(key, {"features": np.concatenate(list(features)), "offsets": offsets}, described)
    return load_table(store.tables.path(key))


def _unfit(clip: Clip, rows: np.ndarray) -> str:
    if not len(rows):
        return "no faces"
    return f"'{clip.emotion}' is none of the classes" if clip.emotion else "no label"


def load_table(path: Path) -> FeatureTable:
    """Load a stored table with memory-mapped features, so that all trials share one copy in memory.

    Raises:
        StoreError: the table or a part of it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads(file.metadata()["note"])
            features, offsets = file.get_tensor("features"), file.get_tensor("offsets").numpy()
        tables = EntryStore(path.parents[2], path.parents[1].name)
        parts: dict[str, tuple[torch.Tensor, ...]] = {}
        for layer, keys in note["parts"].items():
            parts[layer] = tuple(_read_part(tables.path(key), layer) for key in keys)
        described = {n: _read_part(tables.path(key), DESCRIBED).numpy() for n, key in note[DESCRIBED].items()}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as exc:
        raise StoreError(f"training table {path} cannot be read ({exc}); remove it and run again") from exc
    return FeatureTable(
        key=path.stem,
        features=features,
        offsets=offsets,
        labels=np.array(note["labels"], dtype=np.int64),
        clip_ids=tuple(note["clips"]),
        subjects=tuple(note["subjects"]),
        datasets=tuple(note["datasets"]),
        classes=tuple(note["classes"]),
        groups={name: tuple(values) for name, values in note["groups"].items()},
        note=note["note"],
        views=parts["features"],
        maps=parts["maps"],
        described=described,
        part_keys=note["part_keys"],
    )


def _read_part(path: Path, layer: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: torch.Tensor = file.get_tensor(layer)
        return tensor


@dataclass(frozen=True)
class FeatureRequirements:
    """The features and descriptors that models need.

    Args:
        plain: True if features of the unaugmented faces are needed.
        features: augmented views for which features are needed.
        maps: views for which maps at the backbone's cut are needed.
        descriptors: names of descriptors.
        neutral: True if features of the clips' neutral faces are needed.
    """

    plain: bool = True
    features: tuple[View, ...] = ()
    maps: tuple[View, ...] = ()
    descriptors: tuple[str, ...] = ()
    neutral: bool = False

    def parts(self) -> Iterator[tuple[Layer, View]]:
        """Yield (layer, view) pairs; maps come first, because features are computed from stored maps."""
        yield from (("maps", view) for view in self.maps)
        yield from (("features", view) for view in self.features)

    @property
    def backbone(self) -> bool:
        """True if the convolutions are needed."""
        return self.plain or bool(self.maps)

    @property
    def course(self) -> bool:
        """True if the whole-course faces of the clips are needed."""
        return self.neutral or of_course(self.descriptors)

    @property
    def points(self) -> bool:
        """True if the faces' landmarks are needed."""
        return of_points(self.descriptors)
