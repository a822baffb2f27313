"""The interface of descriptors, and the faces they are computed from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.preprocess.faces import Faces

Source = Literal["expression", "course", "points"]
COURSE_FRAMES = 16


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
        source: which faces: those of the `expression`, as the features have them, or of the whole `course`; or the
            landmarks' `points` of the faces of the whole course.
        describe: (n, size, size) uint8 faces or (n, 468, 3) points, n >= 1 -> the array.
        shape: of the array.
        signed: whether the reversed course has (nearly) the negated array.
        says_nothing: (c, ...) arrays of clips -> (c,) which of them are no evidence for any class; None: all are.
    """

    name: str
    source: Source
    describe: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, ...]
    version: int = 1
    signed: bool = False
    says_nothing: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def size(self) -> int:
        """How many numbers the array holds."""
        return math.prod(self.shape)

    @property
    def of_course(self) -> bool:
        """True if it is taken of a clip's whole course."""
        return self.source != "expression"

    def of(self, faces: Faces) -> np.ndarray:
        """The array of a clip's faces, which are those of its course where it is taken `of_course`.

        Raises:
            WeightsError: it is taken of landmarks, and the faces were stored without any.
        """
        return self.describe(faces.points if self.source == "points" else faces.pixels)

    @property
    def identity(self) -> str:
        """Part of the key of whatever is made of it."""
        return f"{self.name} {self.version}"


def frames_evenly(n: int, wanted: int) -> np.ndarray:
    """(wanted,) evenly spaced places among n frames, first to last; some repeat when there are too few frames."""
    return np.rint(np.linspace(0, n - 1, wanted)).astype(np.int64)
