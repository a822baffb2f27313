"""Pictures that activate a network as faces do, and show nobody: networks are compared and checked on them."""

from __future__ import annotations

import cv2
import numpy as np


def smooth_patterns(n: int, size: int) -> np.ndarray:
    """Return (n, size, size) uint8 smooth random patterns, always the same."""
    coarse = np.random.default_rng(0).uniform(0, 255, (n, 9, 9)).astype(np.float32)
    smooth = [cv2.resize(pattern, (size, size), interpolation=cv2.INTER_CUBIC) for pattern in coarse]
    return np.clip(np.stack(smooth), 0, 255).astype(np.uint8)
