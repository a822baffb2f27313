"""The interface of descriptors, and the faces they are computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fer_core.config import PreprocessConfig

Source = Literal["expression", "course"]
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
        source: the faces that it reads: those of the `expression`, like features, or of the whole `course`.
        describe: function from (n, size, size) uint8 faces, n >= 1, to the array.
        version: raised whenever the same faces give another array.
        signed: True if the reversed clip has (nearly) the negated array.
        says_nothing: function from (c, ...) arrays to (c,) bool, True for clips without evidence for any class; None:
            there are no such clips.
    """

    name: str
    source: Source
    describe: Callable[[np.ndarray], np.ndarray]
    version: int = 1
    signed: bool = False
    says_nothing: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def identity(self) -> str:
        """Name and version; part of all keys that depend on the descriptor."""
        return f"{self.name} {self.version}"


def frames_evenly(n: int, wanted: int) -> np.ndarray:
    """Return (wanted,) evenly spaced indices from the first to the last of n frames; indices repeat if n < wanted."""
    return np.rint(np.linspace(0, n - 1, wanted)).astype(np.int64)
