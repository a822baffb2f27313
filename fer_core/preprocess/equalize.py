"""Histogram equalisation of a face (thesis §3.5.3, eq. 3.1-3.4)."""

from __future__ import annotations

import cv2
import numpy as np


def equalize(face: np.ndarray) -> np.ndarray:
    """Return the face with a flattened histogram in its own grey range: y' = cdf(x)·(max - min) + min (eq. 3.1-3.4).

    A face of one grey value stays as it is. `cv2.equalizeHist` differs: it always stretches to 0...255, and excludes
    the darkest grey from the CDF.

    Args:
        face: (height, width) uint8, at least one pixel.

    Example:
        >>> equalize(np.array([[10, 10, 10, 20], [20, 20, 30, 50]], dtype=np.uint8)).tolist()
        [[25, 25, 25, 40], [40, 40, 45, 50]]
    """
    counts = np.bincount(face.ravel(), minlength=256)  # eq. 3.1, times the number of pixels
    cdf = np.cumsum(counts) / face.size  # eq. 3.2, 3.3
    low, high = float(face.min()), float(face.max())
    return cv2.LUT(face, np.rint(cdf * (high - low) + low).astype(np.uint8))  # eq. 3.4


def equalize_by(face: np.ndarray, method: str) -> np.ndarray:
    """Return the face equalised by the method of `PreprocessConfig.equalize`: thesis, opencv or none."""
    if method == "thesis":
        return equalize(face)
    return cv2.equalizeHist(face) if method == "opencv" else face
