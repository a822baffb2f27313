"""Material: what every rival is fitted to and judged on: the clips of one feature table, and their stored faces."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.corpus import ClipRow, stored_faces
from fer_core.model.backbone import Backbone
from fer_core.model.features import FeatureTable
from fer_core.store import cache_key
from fer_core.workspace import Workspace

if TYPE_CHECKING:
    from fer_core.rivals.rival import Fitted, Rival

Source = Literal["expression", "course"]
Pixels = Callable[[int], np.ndarray]
COURSE_FRAMES = 16
_TIMED_CLIPS = 5


def course_config(cfg: PreprocessConfig) -> PreprocessConfig:
    """Settings for the faces of a clip's whole course, neutral to apex, at 16 frames.

    The second half (§3.5.1) begins when the expression is already there. Whoever measures motion needs the neutral face
    before it, so these faces are stored beside the others, under their own keys.
    """
    return cfg.model_copy(update={"selection": "all", "max_frames": COURSE_FRAMES})


@dataclass(frozen=True)
class Descriptor:
    """A function from a clip's faces to an array, which has the same shape for every clip.

    Args:
        name: for the record. version: raised whenever the same faces give another array.
        source: which faces: those of the `expression`, as the features have them, or of the whole `course`.
        describe: (n, size, size) uint8 faces, n >= 1 -> the array.
    """

    name: str
    source: Source
    describe: Callable[[np.ndarray], np.ndarray]
    version: int = 1


@dataclass(frozen=True)
class Material:
    """The clips of a table and a way to their faces; descriptors are taken once and kept.

    Args:
        table: frame features, labels, subjects.
        faces: source -> the (n, size, size) uint8 faces of the clip at a place of the table; n >= 1.
        keys: source -> identity of all those faces.
        features_ms: time of the backbone for the features of a median clip, milliseconds.
    """

    table: FeatureTable
    faces: Mapping[Source, Pixels]
    keys: Mapping[Source, str] = field(default_factory=dict)
    features_ms: float = 0.0
    _described: dict[Descriptor, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)
    _ms: dict[Descriptor, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _fits: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def described(self, descriptor: Descriptor) -> np.ndarray:
        """(C, ...) the descriptor of every clip of the table."""
        if descriptor not in self._described:
            read = self.faces[descriptor.source]
            rows, seconds = [], []
            for clip in range(self.table.n_clips):
                pixels = read(clip)
                started = time.perf_counter()
                rows.append(descriptor.describe(pixels))
                seconds.append(time.perf_counter() - started)
            self._described[descriptor] = np.stack(rows)
            self._ms[descriptor] = 1000 * float(np.median(seconds))
        return self._described[descriptor]

    def ms(self, descriptor: Descriptor) -> float:
        """Median time to take the descriptor of a clip's faces, milliseconds."""
        self.described(descriptor)
        return self._ms[descriptor]

    def fitted(self, rival: Rival, fit_clips: np.ndarray, stop_clips: np.ndarray, seed: int) -> Fitted:
        """The rival fitted to these clips; the last side's fits are kept, so that rivals can share parts."""
        side = (fit_clips.tobytes(), stop_clips.tobytes(), seed)
        if side not in self._fits:
            self._fits.clear()
            self._fits[side] = {}
        fits: dict[Rival, Fitted] = self._fits[side]
        if rival not in fits:
            fits[rival] = rival.fit(self, fit_clips, stop_clips, seed)
        return fits[rival]


def gather(
    table: FeatureTable, rows: Sequence[ClipRow], course: Sequence[ClipRow], workspace: Workspace, backbone: Backbone
) -> Material:
    """The material of a table.

    Args:
        rows: of its clips, among others. course: the same by `course_config`; none if no rival asks for it.
        backbone: of the table, to time it.
    Raises:
        DataError: the store has lost faces (when they are read).
    """
    faces: dict[Source, Pixels] = {}
    keys: dict[Source, str] = {}
    found: tuple[tuple[Source, Sequence[ClipRow]], ...] = (("expression", rows), ("course", course))
    for source, given in found:
        by_id = {row.clip: row for row in given}
        chosen = [by_id[clip] for clip in table.clip_ids] if by_id else []
        if chosen:
            faces[source] = _reader(chosen, workspace)
            keys[source] = cache_key(faces=[row.key for row in chosen])
    return Material(table, faces, keys, _features_ms(faces["expression"], table, backbone))


def _reader(rows: Sequence[ClipRow], workspace: Workspace) -> Pixels:
    return lambda clip: next(iter(stored_faces([rows[clip]], workspace))).pixels


def _features_ms(read: Pixels, table: FeatureTable, backbone: Backbone) -> float:
    """Time of the backbone for clips of about median length."""
    lengths = np.diff(table.offsets)
    nearest = np.argsort(np.abs(lengths - np.median(lengths)), kind="stable")[:_TIMED_CLIPS]
    seconds = []
    for clip in nearest:
        pixels = read(int(clip))
        started = time.perf_counter()
        backbone.features(pixels)
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def frames_evenly(n: int, wanted: int) -> np.ndarray:
    """(wanted,) places among n frames, from the first to the last, evenly; some repeat when there are too few."""
    return np.rint(np.linspace(0, n - 1, wanted)).astype(np.int64)
