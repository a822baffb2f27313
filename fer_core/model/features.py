"""Features: the frozen convolutions run once a face and view, stored, and joined into the table that trials share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from fer_core.clips.clip import Clip
from fer_core.emotions import SIX, Emotion
from fer_core.errors import DataError, ShapeError, StoreError
from fer_core.model.architectures import ARCHITECTURES
from fer_core.model.augment import PLAIN, View
from fer_core.model.backbone import Backbone
from fer_core.model.inputs import ClipInputs
from fer_core.model.weights import tensors_digest
from fer_core.preprocess.faces import Faces
from fer_core.store import EntryStore, cache_key

Layer = Literal["features", "maps"]
DESCRIBED = "described"


def feature_key(faces_key: str, backbone: Backbone, view: View = PLAIN, layer: Layer = "features") -> str:
    """Key of the features of some faces: what the faces depend on, the view, and the backbone's identity at a layer.

    Batch size, threads and device are not in it: features are taken in padded batches of 8 and rounded to float16.
    """
    identity = backbone.identity if layer == "features" else backbone.maps_identity
    return cache_key(faces=faces_key, **view.identity, **identity)


class FeatureStore:
    """Stored features, and the flat training tables made of them.

    Args:
        store_root: the workspace's `store` folder.
    """

    def __init__(self, store_root: Path) -> None:
        self.entries = EntryStore(store_root, "features")
        self.tables = EntryStore(store_root, "matrix")
        self.fc = EntryStore(store_root, "fc")
        self.blocks = EntryStore(store_root, "block")

    def extract(self, faces: Faces, backbone: Backbone, view: View = PLAIN) -> np.ndarray:
        """(n, d) float16 features of a clip's faces: from the store, else of their stored maps, else of the faces."""
        key = feature_key(faces.key, backbone, view)
        if (stored := self.entries.get(key)) is not None:
            return stored[0]["features"]
        maps = self.entries.get(feature_key(faces.key, backbone, view, "maps"))
        features = backbone.above(maps[0]["maps"]) if maps else backbone.features(view.of(faces))
        self.entries.put(key, {"features": features}, {"faces": faces.key, **view.identity, **backbone.identity})
        return features

    def extract_maps(self, faces: Faces, backbone: Backbone, view: View = PLAIN) -> np.ndarray:
        """(n, c, h, w) float16 maps at the backbone's cut, from the store when they are there."""
        key = feature_key(faces.key, backbone, view, "maps")
        if (stored := self.entries.get(key)) is not None:
            return stored[0]["maps"]
        maps = backbone.maps(view.of(faces))
        self.entries.put(key, {"maps": maps}, {"faces": faces.key, **view.identity, **backbone.maps_identity})
        return maps

    def take(self, layer: Layer, faces: Faces, backbone: Backbone, view: View) -> np.ndarray:
        """`extract` or `extract_maps`, by layer."""
        return (self.extract if layer == "features" else self.extract_maps)(faces, backbone, view)

    def store_fc(self, backbone: Backbone) -> Path | None:
        """Where the backbone's own FC layers lie for trials to start from; None when its checkpoint has none."""
        if not backbone.fc:
            return None
        key = cache_key(
            fc=tensors_digest({str(i): torch.hstack([w, b[:, None]]) for i, (w, b) in enumerate(backbone.fc)})
        )
        if key not in self.fc:
            arrays: dict[str, np.ndarray] = {}
            for place, (weight, bias) in enumerate(backbone.fc):
                arrays |= {f"{place}.weight": weight.numpy(), f"{place}.bias": bias.numpy()}
            self.fc.put(key, arrays, {"layers": len(backbone.fc)})
        return self.fc.path(key)

    def stored_layers(self, backbone: Backbone | None, table: FeatureTable) -> tuple[Path | None, Path | None]:
        """Where the backbone's FC layers and, for a table with maps, its last block lie for fits to start from."""
        if backbone is None:
            return None, None
        return self.store_fc(backbone), self.store_block(backbone) if table.maps else None

    def store_block(self, backbone: Backbone) -> Path:
        """Where the backbone's last block lies for trials to fine-tune."""
        state = {name: value.cpu() for name, value in backbone.block.state_dict().items()}
        key = cache_key(backbone=backbone.name, block=tensors_digest(state))
        if key not in self.blocks:
            arrays = {name: value.numpy() for name, value in state.items()}
            self.blocks.put(key, arrays, {"backbone": backbone.name})
        return self.blocks.path(key)


def load_block(path: Path) -> nn.Module:
    """A stored last block, in evaluation mode; see `Backbone`."""
    with safe_open(path, framework="pt") as file:
        name = json.loads(file.metadata()["note"])["backbone"]
        state = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    with torch.device("meta"):  # the rest of the network is not needed
        _, block = ARCHITECTURES[name].split(ARCHITECTURES[name].build())
    block.load_state_dict(state, strict=True, assign=True)
    return block.eval()


def load_fc(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight and bias of stored FC layers, first to last but one, memory-mapped."""
    with safe_open(path, framework="pt") as file:
        layers = json.loads(file.metadata()["note"])["layers"]
        return [(file.get_tensor(f"{i}.weight"), file.get_tensor(f"{i}.bias")) for i in range(layers)]


@dataclass(frozen=True, kw_only=True)
class FeatureTable(ClipInputs):
    """Many clips as models see them, with what training and evaluation need to know of them.

    Args:
        key: identity of the whole table.
        part_keys: `people`, `features` (of which views and maps follow), and the name of each descriptor -> identity of
            that part of it.
        labels: (C,) int64 columns in `classes` order.
        clip_ids, subjects, datasets: C texts each.
        classes: the emotions, in column order.
        groups: name -> C values, of the manifest's `group_*` columns.
        note: identity of backbone and preprocessing, for the record.
        views: more (N, d) float16 features of the same frames, one tensor an augmented view; for training only.
    """

    key: str
    labels: np.ndarray
    clip_ids: tuple[str, ...]
    subjects: tuple[str, ...]
    datasets: tuple[str, ...]
    classes: tuple[Emotion, ...] = SIX
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
        """Whether any clip's faces are drawn or rendered."""
        return any("synthetic" in name.lower() for name in self.datasets)

    def frame_labels(self) -> np.ndarray:
        """(N,) int64 label of every frame: its clip's."""
        return np.repeat(self.labels, np.diff(self.offsets))


@dataclass(frozen=True)
class Part:
    """Another layer or view of a table's frames, or a descriptor of its clips, stored beside it.

    Args:
        layer: what it is of the frames; `described`: one row a clip of the descriptor `name`.
        keys: of what each clip's rows are made: feature keys, or the faces' keys and the descriptor's identity.
        rows: one array a clip, in the clips' order; not asked for when the part is stored already.
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
    classes: tuple[Emotion, ...] = SIX,
    parts: Sequence[Part] = (),
) -> FeatureTable:
    """The table of labelled clips, written once and memory-mapped by every trial that uses it.

    Args:
        clips: labelled clips.
        features: one (n, d) float16 array a clip; n >= 1.
        keys: the clips' feature keys.
        note: identity of backbone and preprocessing, for the record.
        parts: more views of the features, and maps, in the views' order, and descriptors.
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
        "labels": [c.emotion.column for c in clips if c.emotion],
        "classes": list(classes),
    }
    n_frames = sum(map(len, features))
    stored: dict[str, list[str]] = {"features": [], "maps": []}
    descriptors: dict[str, str] = {}
    for part in parts:
        key = cache_key(matrix=part.layer, keys=list(part.keys))
        if key not in store.tables:
            n_rows = len(clips) if part.layer == DESCRIBED else n_frames
            store.tables.put_rows(key, part.layer, part.rows(), n_rows, {**people, "part": part.name or part.layer})
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
    """A stored table, its features memory-mapped: many trials share one copy in memory.

    Raises:
        StoreError: it is missing or damaged, or a part of it is.
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
        classes=tuple(Emotion(name) for name in note["classes"]),
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
