"""Faces: the result of preprocessing a clip, and the ledger of every frame that it read."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

import numpy as np

from fer_core.errors import ShapeError
from fer_core.preprocess.flags import FLAGS
from fer_core.preprocess.landmarks import MEASURES, N_POINTS


class FrameStatus(StrEnum):
    """Result for a selected frame. A frame without a face stays in the ledger."""

    USED = "used"
    NO_FACE = "no_face"
    DECODE_ERROR = "decode_error"
    LOW_WEIGHT = "low_weight"
    NOT_A_FACE = "not_a_face"  # a certain box in which the landmark network finds no face


@dataclass(frozen=True)
class Ledger:
    """One row per selected frame, in order.

    Args:
        frame: (m,) int32, index of the frame in the clip from 0, counted by decoding.
        time_s: (m,) float32, seconds from the start; NaN if the file has no times.
        status: (m,) FrameStatus values.
        box: (m, 4) int32 face box x, y, width, height in frame pixels; zeros without a face.
        brightness: (m,) float32 mean grey of the face as it was filmed, 0 ... 255; NaN without a face, or if a version
            that did not measure it stored the faces. An empty array means that it is unknown for all frames.
        weight: (m,) float32 confidence of the detector (see `Detection`); 0 without a face.
        measures: (m, 8) float32 geometry of the landmarks in the box (see `landmarks.measures`); NaN without a face;
            None if landmarks were not looked for.
    """

    frame: np.ndarray
    time_s: np.ndarray
    status: tuple[FrameStatus, ...]
    box: np.ndarray
    weight: np.ndarray
    measures: np.ndarray | None = None
    brightness: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def __post_init__(self) -> None:
        m = len(self.status)
        if not len(self.brightness):
            object.__setattr__(self, "brightness", np.full(m, np.nan, np.float32))
        shapes = {"frame": (m,), "time_s": (m,), "box": (m, 4), "weight": (m,), "brightness": (m,)}
        if self.measures is not None:
            shapes["measures"] = (m, len(MEASURES))
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(f"ledger {name} must have shape {shape}, but got {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.status)

    @cached_property
    def used(self) -> np.ndarray:
        """(m,) bool: True for the frames whose faces are in `Faces.pixels`, in the same order."""
        return np.array([s is FrameStatus.USED for s in self.status], dtype=bool)

    def part(self, rows: np.ndarray) -> Ledger:
        """Return some rows, given by (r,) indices."""
        status = tuple(self.status[row] for row in rows)
        measures = None if self.measures is None else self.measures[rows]
        return Ledger(
            self.frame[rows], self.time_s[rows], status, self.box[rows], self.weight[rows], measures,
            self.brightness[rows],
        )  # fmt: skip

    def counts(self) -> dict[str, int]:
        """Number of selected frames by status; every status is a key."""
        return {status.value: sum(s is status for s in self.status) for status in FrameStatus}


def no_points() -> np.ndarray:
    """Return the (0, 468, 3) float16 points of faces whose landmarks were not looked for."""
    return np.empty((0, N_POINTS, 3), dtype=np.float16)


@dataclass(frozen=True)
class Faces:
    """The equalised faces of one clip.

    Args:
        key: key of the faces, from the clip's content, the settings and the versions (see `preprocess/store.py`).
        clip_digest: content digest of the clip.
        pixels: (n, size, size) uint8 grey; n >= 0, n = number of `used` frames.
        ledger: one row per selected frame, m >= n.
        n_frames: frames decoded in the whole clip.
        points: (n, 468, 3) float16 landmarks of each face (see `landmarks.in_box`); (0, 468, 3) if not looked for.
        apex: index (from 0) of the frame at which the clip was cut; -1 if it was not cut.
        width, height: size of the upright first frame in pixels.
        duration_s: duration in seconds, from the container or the decoded frames; 0 if unknown.
        flags: words for the report, sorted; each is one of `FLAGS`.
        cuts: numbers of the frames before which the film is cut; only known of all faces of a clip (`EveryFaceConfig`),
            whose ledger has a row for each face of a frame.
    """

    key: str
    clip_digest: str
    pixels: np.ndarray
    ledger: Ledger
    n_frames: int
    apex: int = -1
    width: int = 0
    height: int = 0
    duration_s: float = 0.0
    flags: tuple[str, ...] = ()
    cuts: tuple[int, ...] = ()
    points: np.ndarray = field(default_factory=no_points)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.dtype != np.uint8:
            raise ShapeError(f"faces must be (n, size, size) uint8, but got {self.pixels.shape} {self.pixels.dtype}")
        if len(self.pixels) != int(self.ledger.used.sum()):
            raise ShapeError(f"{len(self.pixels)} faces, but the ledger has {int(self.ledger.used.sum())} used frames")
        if unknown := set(self.flags) - FLAGS:
            raise ShapeError(f"unknown flags: {', '.join(sorted(unknown))}; each must be in preprocess/flags.py")
        if self.points.shape not in ((0, N_POINTS, 3), (len(self.pixels), N_POINTS, 3)):
            raise ShapeError(f"points of {len(self.pixels)} faces must not have shape {self.points.shape}")

    def part(self, rows: np.ndarray) -> Faces:
        """Return the faces of some rows of the ledger; `key` stays that of all faces.

        Args:
            rows: (r,) ascending indices into the ledger.
        """
        places = (np.cumsum(self.ledger.used) - 1)[rows][self.ledger.used[rows]]
        points = self.points[places] if len(self.points) else self.points
        return replace(self, pixels=self.pixels[places], points=points, ledger=self.ledger.part(rows))

    @property
    def n_used(self) -> int:
        return len(self.pixels)

    @property
    def n_selected(self) -> int:
        return len(self.ledger)

    @property
    def low_quality(self) -> bool:
        """True if fewer than half of the selected frames have a face, if the clip has one frame, or if it is flagged
        so."""
        return self.n_frames == 1 or 2 * self.n_used < self.n_selected or "low_quality" in self.flags
