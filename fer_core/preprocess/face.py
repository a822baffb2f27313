"""The face in a frame, by Viola-Jones (thesis §3.5.2): the surest box, then the one that stays; never the biggest."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fer_core.config import FaceConfig

Box = tuple[int, int, int, int]  # x, y, width, height

CASCADE = "haarcascade_frontalface_default.xml"
SERIOUS = 0.5  # of the best weight: a box this sure may be preferred for being where the face was
NEAR = 0.5  # of the last box's side: how far around it `tracked` looks first
SAME_SCALE = 1.25  # and between which sizes

_local = threading.local()


def cascade() -> cv2.CascadeClassifier:
    """This thread's classifier: a shared one gives wrong boxes.

    Raises:
        RuntimeError: the installed OpenCV has no cascade file (5.x has none).
    """
    found = getattr(_local, "cascade", None)
    if found is None:
        path = Path(cv2.__file__).parent / "data" / CASCADE
        found = cv2.CascadeClassifier(str(path))
        if found.empty():
            raise RuntimeError(f"no face cascade at {path}; install opencv-python-headless>=4.12,<5")
        _local.cascade = found
    return found


@dataclass(frozen=True)
class Detection:
    """A face box inside its frame, and how sure the cascade is of it."""

    box: Box
    weight: float


def detect(picture: np.ndarray, cfg: FaceConfig, sizes: tuple[int, int] | None = None) -> list[Detection]:
    """All face boxes in a grey picture, surest first, clamped to it.

    Args:
        picture: (height, width) uint8.
        sizes: smallest and largest side, pixels; None: from `cfg.min_size` of the height up.
    """
    smallest, largest = sizes or (max(24, round(cfg.min_size * picture.shape[0])), 0)
    boxes, _, weights = cascade().detectMultiScale3(
        picture,
        scaleFactor=cfg.scale_factor,
        minNeighbors=cfg.min_neighbors,
        minSize=(smallest, smallest),
        maxSize=(largest, largest),
        outputRejectLevels=True,
    )
    if len(boxes) == 0:
        return []
    found = [
        Detection(clamp(tuple(int(v) for v in box), picture.shape), float(weight))
        for box, weight in zip(boxes, np.ravel(weights), strict=True)
    ]
    return sorted(found, key=lambda d: (-d.weight, d.box))


def clamp(box: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    """The part of a box that lies inside a picture of `shape` (height, width)."""
    x, y = max(0, box[0]), max(0, box[1])
    return x, y, min(shape[1], box[0] + box[2]) - x, min(shape[0], box[1] + box[3]) - y


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 ... 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def choose(found: list[Detection], last: Box | None) -> Detection:
    """The face among boxes (surest first): of those at least half as sure as the best, the one where the face was."""
    serious = [d for d in found if d.weight >= SERIOUS * found[0].weight]
    return max(serious, key=lambda d: (overlap(d.box, last), d.weight)) if last else serious[0]


class FaceFinder:
    """Finds one person's face through a clip, frame after frame; one finder a clip.

    Args:
        cfg: `per_frame` searches every frame whole (the thesis); `tracked` looks near the last box at about its size
            first, and in the whole frame when it is not there.
    """

    def __init__(self, cfg: FaceConfig) -> None:
        self._cfg = cfg
        self._last: Box | None = None
        self._shape: tuple[int, ...] = ()
        self.flags: set[str] = set()

    def find(self, picture: np.ndarray) -> Detection | None:
        """The face in a grey frame; one less sure than `min_weight` is given back, but not followed."""
        if picture.shape != self._shape:  # the stream changed its size: the last box means nothing here
            self._last, self._shape = None, picture.shape
        found = self._near(picture) if self._cfg.mode == "tracked" and self._last else []
        if not found:
            if self._cfg.mode == "tracked" and self._last:
                self.flags.add("tracked_lost")
            found = detect(picture, self._cfg)
            if not found:
                return None
        best = choose(found, self._last)
        if best.weight < self._cfg.min_weight:
            return best
        if any(d.weight >= self._cfg.min_weight and overlap(d.box, best.box) == 0 for d in found):
            self.flags.add("several_faces")
        self._last = best.box
        return best

    def _near(self, picture: np.ndarray) -> list[Detection]:
        assert self._last is not None
        x, y, width, height = self._last
        side = max(width, height)
        margin = round(NEAR * side)
        left, top = max(0, x - margin), max(0, y - margin)
        window = picture[top : y + height + margin, left : x + width + margin]
        sizes = max(24, round(side / SAME_SCALE)), round(side * SAME_SCALE)
        found = [
            Detection((d.box[0] + left, d.box[1] + top, d.box[2], d.box[3]), d.weight)
            for d in detect(window, self._cfg, sizes)
        ]
        return [d for d in found if d.weight >= self._cfg.min_weight]


def crop(picture: np.ndarray, box: Box) -> np.ndarray:
    """The face cut out of its frame, contiguous."""
    x, y, width, height = box
    return np.ascontiguousarray(picture[y : y + height, x : x + width])


def resize(face: np.ndarray, size: int) -> np.ndarray:
    """(size, size) uint8 face: pixel areas averaged when it shrinks, bilinear when it grows."""
    shrinks = face.shape[0] > size or face.shape[1] > size
    return cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
