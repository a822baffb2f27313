"""Frames that a program holds in memory (a webcam, another decoder) as a clip."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from fer_core.errors import ShapeError
from fer_core.preprocess.decode import Frame
from fer_core.preprocess.frame_count import Report


class FramesInMemory:
    """Decoded frames of one clip; see `decode.Media`.

    Args:
        frames: frames in order, each as `gray_picture` takes it.
        rate: frames per second; 0: unknown.
    Raises:
        ShapeError: there are no frames, or one has another shape or type.
    """

    def __init__(self, frames: Sequence[np.ndarray], rate: float = 0.0) -> None:
        if len(frames) == 0:
            raise ShapeError("there are no frames to score; give at least one")
        self._pictures = [gray_picture(frame) for frame in frames]
        self.fps = rate
        self.n_expected = len(self._pictures)
        digest = hashlib.blake2b(digest_size=16)
        for picture in self._pictures:
            digest.update(str(picture.shape).encode() + picture.tobytes())
        self.digest = digest.hexdigest()

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """Yield every place in order, with its picture if it is wanted."""
        for index, picture in enumerate(self._pictures):
            yield Frame(index, index / self.fps if self.fps else math.nan, picture if wanted(index) else None)

    def report(self) -> Report:
        """Return the report; no frame is ever lost."""
        height, width = self._pictures[0].shape
        duration_s = self.n_expected / self.fps if self.fps else 0.0
        return Report(self.n_expected, 0, 1.0, duration_s, width, height, frozenset())


def gray_picture(frame: np.ndarray) -> np.ndarray:
    """Return a frame as (height, width) uint8 grey.

    Args:
        frame: (height, width) grey or (height, width, 3) RGB, uint8. OpenCV's cameras give BGR: reverse the last axis.
    Raises:
        ShapeError: it has another shape or type.
    """
    picture = np.asarray(frame)
    if picture.dtype != np.uint8 or picture.size == 0 or not (
        picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    ):  # fmt: skip
        raise ShapeError(
            f"a frame must be (height, width) or (height, width, 3) RGB, uint8, but got {picture.shape} {picture.dtype}"
        )
    picture = np.ascontiguousarray(picture)
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
