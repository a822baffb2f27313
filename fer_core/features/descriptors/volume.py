"""Face volumes: small copies of the faces of a clip's course, which C3D reads (§1.3.2)."""

from __future__ import annotations

import cv2
import numpy as np

from fer_core.features.descriptors.descriptor import COURSE_FRAMES, frames_evenly

SIDE = 56


def volume(pixels: np.ndarray) -> np.ndarray:
    """Return (16, 56, 56) uint8 faces, evenly spaced from the first to the last of (n, size, size) uint8 faces."""
    chosen = pixels[frames_evenly(len(pixels), COURSE_FRAMES)]
    return np.stack([cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for face in chosen])
