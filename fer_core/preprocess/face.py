"""Detect the face in a frame by Viola-Jones (thesis §3.5.2) or BlazeFace.

The most certain box is taken first, then the box that stays in the same place; the size of a box does not matter.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from fer_core.config import FaceConfig
from fer_core.preprocess import blazeface
from fer_core.preprocess.landmarks import MIN_PRESENCE, LandmarkFinder, Landmarks

Box = tuple[int, int, int, int]  # x, y, width, height

CASCADE = "haarcascade_frontalface_default.xml"
SECOND_CASCADE = "haarcascade_frontalface_alt_tree.xml"  # trained on other data, so it makes other errors
WINDOW = 24  # side of the cascade's window in pixels
SEARCH = 36  # the smallest face is resized to this: same boxes (IoU 0.96) in 3/4 of the time
SERIOUS = 0.5  # share of the best weight from which a box at the last position is preferred
NEAR = 0.3  # `tracked` first searches this far around the last box, in sides of the box
SAME_SIZE = 1.25  # factor of the box size that it searches, larger and smaller
REFRESH = 16  # frames after which `tracked` searches the whole frame, in case it follows a wrong box
CONTRAST, TILES = 4.0, (4, 4)  # local equalisation (CLAHE) of frames without a certain face, for example dark skin
CONFIRMED_SIDE, CONFIRMED_BORDER = 48, 12  # pixels: size of the face for the second cascade, and its border
# Convert a BlazeFace box to a Viola-Jones box, so that both cut out the same part of the face: means over ict, london
# (`python -m benchmarks detectors` prints them), in sides of BlazeFace's box.
ENLARGED, RAISED = 1.13, 0.15
GRID = 8  # a cut-out starts on this grid, so that the cascade tests the same positions as in the whole frame

_local = threading.local()


def cascade(name: str = CASCADE) -> cv2.CascadeClassifier:
    """Return the classifier of this thread; a shared one gives wrong boxes.

    Raises:
        RuntimeError: the installed OpenCV has no cascade file (5.x has none).
    """
    found = getattr(_local, name, None)
    if found is None:
        path = Path(cv2.__file__).parent / "data" / name
        found = cv2.CascadeClassifier(str(path))
        if found.empty():
            raise RuntimeError(f"no face cascade at {path}; install opencv-python-headless>=4.12,<5")
        setattr(_local, name, found)
    return found


@dataclass(frozen=True)
class Detection:
    """A face box inside its frame, with its confidence (the weight of the cascade, or the log odds of BlazeFace), and
    its landmarks if they were looked for."""

    box: Box
    weight: float
    landmarks: Landmarks | None = field(default=None, compare=False)

    def is_rejected(self, cfg: FaceConfig) -> bool:
        """True if a detected box holds no face. Without a detector, the whole frame is the face."""
        return cfg.detector != "none" and not self.is_face

    @property
    def is_face(self) -> bool:
        """False if landmarks were looked for, and the box holds no face."""
        return self.landmarks is None or self.landmarks.presence >= MIN_PRESENCE


def smallest_face(shape: tuple[int, ...], cfg: FaceConfig) -> float:
    """Return the side in pixels of the smallest face that is searched in pictures of `shape` (height, width)."""
    return max(WINDOW, cfg.min_size * min(shape))


def detect(picture: np.ndarray, cfg: FaceConfig, near: Box | None = None) -> list[Detection]:
    """Detect face boxes in a grey picture, the most certain first, clipped to the picture.

    Args:
        picture: (height, width) uint8.
        near: search only around this box and for about its size; None: search the whole picture. BlazeFace always
            searches the whole picture, in the same time.
    Raises:
        WeightsError: the weights of BlazeFace were not fetched or are damaged.
    """
    return _blazeface(picture, cfg) if cfg.detector == "blazeface" else _viola_jones(picture, cfg, near)


def _blazeface(picture: np.ndarray, cfg: FaceConfig) -> list[Detection]:
    """Detect boxes by BlazeFace, then enlarge and move them to match Viola-Jones boxes of the same faces."""
    found = []
    for (x, y, width, height), weight in zip(*blazeface.boxes(picture), strict=True):
        side = ENLARGED * (width + height) / 2
        left, top = x + width / 2 - side / 2, y + height / 2 - RAISED * height - side / 2
        box = clamp((round(left), round(top), round(side), round(side)), picture.shape)
        if side >= smallest_face(picture.shape, cfg) and min(box[2:]) > 0:
            found.append(Detection(box, float(weight)))
    return found


def _viola_jones(picture: np.ndarray, cfg: FaceConfig, near: Box | None) -> list[Detection]:
    smallest = smallest_face(picture.shape, cfg)
    scale = min(1.0, SEARCH / smallest)
    search = picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    sizes, left, top = (round(smallest * scale), 0), 0, 0
    if near is not None:
        x, y, width, height = (v * scale for v in near)
        side = max(width, height)
        left, top = (max(0, int(v - NEAR * side)) // GRID * GRID for v in (x, y))
        right, bottom = int(x + width + NEAR * side) + 1, int(y + height + NEAR * side) + 1
        search = np.ascontiguousarray(search[top:bottom, left:right])
        sizes = max(WINDOW, round(side / SAME_SIZE)), round(side * SAME_SIZE)
    boxes, _, weights = cascade().detectMultiScale3(
        search,
        scaleFactor=cfg.scale_factor,
        minNeighbors=cfg.min_neighbors,
        minSize=(sizes[0], sizes[0]),
        maxSize=(sizes[1], sizes[1]),
        outputRejectLevels=True,
    )
    found = []
    for (x, y, width, height), weight in zip(np.reshape(boxes, (-1, 4)).tolist(), np.ravel(weights), strict=True):
        box = tuple(round(v / scale) for v in (x + left, y + top, width, height))
        found.append(Detection(clamp(box, picture.shape), float(weight)))
    return sorted(found, key=lambda d: (-d.weight, d.box))


def clamp(box: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    """Clip a box to a picture of `shape` (height, width)."""
    x, y = max(0, box[0]), max(0, box[1])
    return x, y, min(shape[1], box[0] + box[2]) - x, min(shape[0], box[1] + box[3]) - y


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 ... 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (a[2] * a[3] + b[2] * b[3] - common)


def choose(found: list[Detection], last: Box | None) -> Detection:
    """Select a face: of the boxes with at least half the best weight, the one that overlaps most with the last box.

    Args:
        found: at least one detection, the most certain first. Weights may be negative, because the cascade also reports
            boxes that fail one of its last stages.
        last: box in the frame before; None: the most certain box is selected.
    """
    best = found[0].weight
    serious = [d for d in found if d.weight >= min(best, SERIOUS * best)]
    return max(serious, key=lambda d: (overlap(d.box, last), d.weight)) if last else serious[0]


class FaceFinder:
    """Finds the face of one person in all frames of one clip.

    Args:
        cfg: with `per_frame`, every frame is searched completely (the thesis); with `tracked`, first the region around
            the last box is searched, then the whole frame if the face is not there. With `landmarks`, landmarks are
            found in each box.
        searched: boxes of whole frames by number of the frame, shared by finders of the same frames, so that a frame is
            searched once; None: nothing is remembered.
    """

    def __init__(self, cfg: FaceConfig, searched: dict[int, list[Detection]] | None = None) -> None:
        self._cfg = cfg
        self._searched = searched
        self._points = LandmarkFinder() if cfg.landmarks == "yes" else None
        self._last: Box | None = None
        self._shape: tuple[int, ...] = ()
        self._followed = 0
        self.flags: set[str] = set()

    def find(self, picture: np.ndarray, number: int | None = None) -> Detection | None:
        """Return the face in the next grey frame. A face with a weight below `min_weight` is returned, but not tracked.

        A frame without a certain face is searched again with increased local contrast, because on dark skin or in poor
        light the contrast of eyes and brows is too low for the cascade. Of several certain boxes, one without the
        landmarks of a face is skipped. Without a detector, the whole frame is the face.

        Args:
            number: number of the frame, for `searched`.
        """
        if self._cfg.detector == "none":
            whole = Detection((0, 0, picture.shape[1], picture.shape[0]), self._cfg.min_weight)
            return self._with_points(picture, whole)
        if picture.shape != self._shape:  # the frame size changed, so the last box is not valid
            self._last, self._shape = None, picture.shape
        found = self._follow(picture) or self._search(picture, number)
        if not found:
            return None
        best = self._with_points(picture, choose(found, self._last))
        sure = [d for d in found if d.weight >= self._cfg.min_weight]
        rejected = best
        while not best.is_face and (sure := [d for d in sure if d.box != best.box]):
            best = self._with_points(picture, choose(sure, self._last))
        if not best.is_face:
            return rejected
        if best.weight < self._cfg.min_weight:
            return best
        if any(d.weight >= self._cfg.min_weight and overlap(d.box, best.box) == 0 for d in found):
            self.flags.add("several_faces")
        self._last = best.box
        return best

    def _with_points(self, picture: np.ndarray, found: Detection) -> Detection:
        if self._points is None or found.weight < self._cfg.min_weight:
            return found
        return replace(found, landmarks=self._points.find(picture, found.box))

    def _search(self, picture: np.ndarray, number: int | None) -> list[Detection]:
        if self._searched is not None and number in self._searched:
            return self._searched[number]
        found = detect(picture, self._cfg)
        if not found or found[0].weight < self._cfg.min_weight:
            found = detect(cv2.createCLAHE(CONTRAST, TILES).apply(picture), self._cfg) or found
        if self._searched is not None and number is not None:
            self._searched[number] = found
        return found

    def find_all(self, picture: np.ndarray, number: int | None = None) -> list[Detection]:
        """Return all certain faces of a grey frame that do not overlap, the most certain first.

        A box without the landmarks of a face is left out, if they are looked for.
        """
        found = [d for d in self._search(picture, number) if d.weight >= self._cfg.min_weight]
        kept: list[Detection] = []
        for face in found:
            if any(overlap(face.box, other.box) for other in kept):
                continue
            face = self._with_points(picture, face)
            if face.is_face:
                kept.append(face)
        if len(kept) > 1:
            self.flags.add("several_faces")
        return kept

    def _follow(self, picture: np.ndarray) -> list[Detection]:
        if (
            self._cfg.mode != "tracked"
            or self._cfg.detector == "blazeface"
            or self._last is None
            or self._followed >= REFRESH
        ):
            self._followed = 0
            return []
        found = [d for d in detect(picture, self._cfg, self._last) if d.weight >= self._cfg.min_weight]
        self._followed = self._followed + 1 if found else 0
        if not found:
            self.flags.add("tracked_lost")
        return found


def confirmed(face: np.ndarray) -> bool:
    """True if the second cascade also detects a face in an equalised (size, size) face."""
    small = cv2.resize(face, (CONFIRMED_SIDE, CONFIRMED_SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.copyMakeBorder(small, *(CONFIRMED_BORDER,) * 4, cv2.BORDER_REPLICATE)
    least = round(0.6 * CONFIRMED_SIDE)
    return len(cascade(SECOND_CASCADE).detectMultiScale(small, 1.05, 1, minSize=(least, least))) > 0


def level(picture: np.ndarray, found: Detection) -> tuple[np.ndarray, Landmarks]:
    """Return a frame rotated about its face's box until the eyes are level, and the points in it."""
    assert found.landmarks is not None
    x, y, width, height = found.box
    centre, angle = (x + width / 2, y + height / 2), found.landmarks.roll
    turn = cv2.getRotationMatrix2D(centre, math.degrees(angle), 1.0)
    turned = cv2.warpAffine(picture, turn, picture.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    return turned, found.landmarks.turned(centre, angle)


def crop(picture: np.ndarray, box: Box) -> np.ndarray:
    """Return a contiguous copy of the box in a frame."""
    x, y, width, height = box
    return np.ascontiguousarray(picture[y : y + height, x : x + width])


def resize(face: np.ndarray, size: int) -> np.ndarray:
    """Resize a face to (size, size): area averages if it gets smaller, else bilinear interpolation."""
    shrinks = face.shape[0] > size or face.shape[1] > size
    return cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
