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
    """Return the settings for 16 faces of a clip's whole course, from neutral to apex.

    The second half of a clip (§3.5.1) begins after the onset of the expression. To measure motion, the neutral face
    before it is needed, so these faces are stored too, under their own keys.
    """
    return cfg.model_copy(update={"selection": "all", "max_frames": COURSE_FRAMES})


@dataclass(frozen=True)
class Descriptor:
    """A function from a clip's faces to an array that has the same shape for every clip.

    Args:
        name: name in model records.
        source: what it reads: the faces of the `expression`, like features, those of the whole `course`, or the
            landmarks (`points`) of the faces of the whole course.
        describe: function from (n, size, size) uint8 faces or (n, 468, 3) landmarks, n >= 1, to the array.
        shape: shape of the array.
        version: raised whenever the same faces give another array.
        signed: True if the reversed clip has (nearly) the negated array.
        says_nothing: function from (c, ...) arrays to (c,) bool, True for clips without evidence for any class; None:
            there are no such clips.
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
        """Number of elements of the array."""
        return math.prod(self.shape)

    @property
    def of_course(self) -> bool:
        """True if it reads the whole course of a clip."""
        return self.source != "expression"

    def of(self, faces: Faces) -> np.ndarray:
        """Return the array of a clip's faces; these are the faces of the whole course if `of_course`.

        Raises:
            WeightsError: the descriptor reads landmarks, and the faces were stored without them.
        """
        return self.describe(faces.points if self.source == "points" else faces.pixels)

    @property
    def identity(self) -> str:
        """Name and version; part of all keys that depend on the descriptor."""
        return f"{self.name} {self.version}"


def frames_evenly(n: int, wanted: int) -> np.ndarray:
    """Return (wanted,) evenly spaced indices from the first to the last of n frames; indices repeat if n < wanted."""
    return np.rint(np.linspace(0, n - 1, wanted)).astype(np.int64)
