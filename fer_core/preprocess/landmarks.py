"""468 points of a face in 3-D, and the probability that there is one, by the network `face-landmarks`.

Kartynnik, Ablavatski, Grishchenko and Grundmann, "Real-time Facial Surface Geometry from Monocular Video on Mobile
GPUs", arXiv:1907.06724. OpenCV runs the published file.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.errors import WeightsError
from fer_core.preprocess.weights_file import tflite

NAME = "face-landmarks"
FETCH = "'ferflow weights fetch face-landmarks'"
N_POINTS = 468
MIN_PRESENCE = 0.8  # least presence of a face: plain faces have 1.00, face-like textures up to 0.7
_SIDE = 192  # pixels of the network's input
_OUTPUTS = ("conv2d_31", "conv2d_21")  # a face's presence (logit), its points
_OF_BOX = 1.3  # a cascade's box ends at the chin
_OF_POINTS = 1.5  # side of what is looked at, in those of the points' own box

# Places among the points; right and left are the shown person's.
RIGHT_EYE, LEFT_EYE = (33, 133), (263, 362)  # corners
_LIDS = ((159, 145), (386, 374))  # upper and lower
_BROWS = (105, 334)
_LIPS, _MOUTH_CORNERS = (13, 14), (61, 291)
_FOREHEAD, _CHIN = 10, 152
MEASURES = (
    "presence", "yaw", "pitch", "roll", "eye_opening", "mouth_opening", "brow_height", "mouth_corner_height",
)  # fmt: skip

_local = threading.local()


def network_bytes() -> bytes:
    """Return the network's file.

    Raises:
        WeightsError: it is not on this machine, or damaged.
    """
    return tflite(NAME)


def is_there() -> bool:
    """True if the network's file is on this machine, undamaged."""
    try:
        network_bytes()
    except WeightsError:
        return False
    return True


def resolved(cfg: PreprocessConfig) -> PreprocessConfig:
    """Return the settings with `face.landmarks` yes or no; `auto` becomes yes if the network is on this machine.

    Raises:
        WeightsError: the settings need the network, and it is not on this machine.
    """
    if cfg.face.landmarks == "yes" or cfg.align == "eyes":
        network_bytes()
        return with_landmarks(cfg)
    if cfg.face.landmarks == "auto":
        return with_landmarks(cfg, wanted="yes" if is_there() else "no")
    return cfg


def with_landmarks(cfg: PreprocessConfig, wanted: Literal["yes", "no"] = "yes") -> PreprocessConfig:
    """Return the settings with another `face.landmarks`."""
    return cfg.model_copy(update={"face": cfg.face.model_copy(update={"landmarks": wanted})})


@dataclass(frozen=True)
class Landmarks:
    """Points of a face.

    Args:
        points: (468, 3) float32: right and down in pixels of the frame, and away from the camera at the same scale.
        presence: probability that there is a face.
    """

    points: np.ndarray
    presence: float

    @property
    def roll(self) -> float:
        """Angle between the line through the eyes and the horizontal, in radians, clockwise."""
        across, down = (eye_centre(self.points, LEFT_EYE) - eye_centre(self.points, RIGHT_EYE))[:2].tolist()
        return math.atan2(down, across)

    def turned(self, centre: tuple[float, float], angle: float) -> Landmarks:
        """Return the points in the frame after it is rotated counter-clockwise about `centre`, by `angle` radians."""
        cos, sin = math.cos(angle), math.sin(angle)
        from_centre = self.points[:, :2] - np.array(centre, np.float32)
        points = self.points.copy()
        points[:, :2] = from_centre @ np.array([[cos, -sin], [sin, cos]], np.float32) + np.array(centre, np.float32)
        return Landmarks(points, self.presence)


class LandmarkFinder:
    """Finds the points of one person's face in the frames of one clip.

    The first face is searched in the detector's box, enlarged by 1.3. This square is then rotated until the eyes are
    level, and centred on the points. In later frames, the square around the last points is searched first.
    """

    def __init__(self) -> None:
        self._last: Landmarks | None = None

    def find(self, picture: np.ndarray, box: tuple[int, int, int, int]) -> Landmarks:
        """Return the points in a box of a grey frame; their presence is low if the box holds no face.

        Raises:
            WeightsError: the network is not on this machine.
        """
        x, y, width, height = box
        centre, side = (x + width / 2, y + height / 2), max(width, height)
        if self._last is not None:
            found = _around(picture, self._last)
            away = np.abs(found.points[:, :2].mean(axis=0) - centre).max()
            if found.presence >= MIN_PRESENCE and away < side / 2:
                self._last = found
                return found
        first = _predict(picture, centre, _OF_BOX * side, 0.0)
        level = _predict(picture, centre, _OF_BOX * side, first.roll)
        found = _around(picture, level)
        found = Landmarks(found.points, min(first.presence, level.presence, found.presence))
        if found.presence >= MIN_PRESENCE:
            self._last = found
        return found


def _around(picture: np.ndarray, last: Landmarks) -> Landmarks:
    """Return the points in the square around known points."""
    low, high = last.points[:, :2].min(axis=0), last.points[:, :2].max(axis=0)
    x, y = ((low + high) / 2).tolist()
    return _predict(picture, (x, y), _OF_POINTS * float((high - low).max()), last.roll)


def _predict(picture: np.ndarray, centre: tuple[float, float], side: float, angle: float) -> Landmarks:
    """Return the network's points in a rotated square of a frame; beyond the frame, its border is repeated."""
    scale = max(side, 1.0) / _SIDE
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    half = _SIDE / 2
    there = np.array(
        [[cos, -sin, centre[0] - half * (cos - sin)], [sin, cos, centre[1] - half * (sin + cos)]]
    )  # from the square to the frame
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    square = cv2.warpAffine(picture, there, (_SIDE, _SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    net = _network()
    net.setInput(np.repeat(square.astype(np.float32)[None, None] / 255, 3, axis=1))
    logit, found = net.forward(_OUTPUTS)
    points = found.reshape(N_POINTS, 3).astype(np.float64)
    points[:, :2] = points[:, :2] @ there[:, :2].T + there[:, 2]
    points[:, 2] *= scale
    return Landmarks(points.astype(np.float32), 1 / (1 + math.exp(-min(max(float(logit.item()), -60.0), 60.0))))


def _network() -> cv2.dnn.Net:
    """Return the network of this thread; a shared one would mix up the inputs of threads."""
    found = getattr(_local, "network", None)
    if found is None:
        found = _local.network = cv2.dnn.readNetFromTFLite(np.frombuffer(network_bytes(), np.uint8))
    return found


def in_box(points: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return (468, 3) float16 points relative to the centre of a face's box, in widths of the box: right, down, and
    away from the camera.

    Rounding moves a point by up to 0.0003 eye distances, a tenth of the network's own noise.

    Args:
        points: (468, 3) in pixels of the frame.
    """
    x, y, width, height = box
    middle = np.array([x + width / 2, y + height / 2, 0])
    found: np.ndarray = ((points - middle) / width).astype(np.float16)
    return found


def eye_centre(points: np.ndarray, corners: tuple[int, int]) -> np.ndarray:
    """Return the (..., 3) centre of an eye from (..., 468, 3) points."""
    centre: np.ndarray = points[..., corners, :].mean(axis=-2)
    return centre


def measures(found: Landmarks) -> np.ndarray:
    """Return the (8,) float32 measures of a face, in the order of `MEASURES`.

    Angles are in degrees: yaw > 0 turns the nose to the right of the picture, pitch > 0 throws the head back, roll > 0
    tips the head clockwise. Lengths are in distances between the centres of the eyes: gap between the lids (mean of
    both eyes), gap between the lips, height of the brows over the eyes (mean of both), and height of the corners of the
    mouth over the middle of the lips (mean of both). This is the geometry of one frame, not action units: a person with
    low brows has them in every frame.
    """
    points = found.points.astype(np.float64)
    right, left = eye_centre(points, RIGHT_EYE), eye_centre(points, LEFT_EYE)
    apart = float(np.linalg.norm(left - right))
    across = (left - right) / apart
    long = points[_CHIN] - points[_FOREHEAD]
    long -= across * (long @ across)
    down = long / np.linalg.norm(long)

    def gap(a: int, b: int) -> float:
        return float(np.linalg.norm(points[a] - points[b]))

    def height(place: int, over: np.ndarray) -> float:
        return float((over - points[place]) @ down)

    lips = points[list(_LIPS)].mean(axis=0)
    angles = math.atan2(across[2], across[0]), math.atan2(-down[2], down[1]), found.roll
    lengths = (
        (gap(*_LIDS[0]) + gap(*_LIDS[1])) / 2,
        gap(*_LIPS),
        (height(_BROWS[0], right) + height(_BROWS[1], left)) / 2,
        (height(_MOUTH_CORNERS[0], lips) + height(_MOUTH_CORNERS[1], lips)) / 2,
    )
    return np.array([found.presence, *np.degrees(angles), *(v / apart for v in lengths)], dtype=np.float32)
