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
        says_nothing: (c, ...) arrays of clips -> (c,) which of them are no evidence for any class; None: all are.
    """

    name: str
    source: Source
    describe: Callable[[np.ndarray], np.ndarray]
    version: int = 1
    says_nothing: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def identity(self) -> str:
        """Part of the key of whatever is made of it."""
        return f"{self.name} {self.version}"


def frames_evenly(n: int, wanted: int) -> np.ndarray:
    """(wanted,) evenly spaced places among n frames, first to last; some repeat when there are too few frames."""
    return np.rint(np.linspace(0, n - 1, wanted)).astype(np.int64)
