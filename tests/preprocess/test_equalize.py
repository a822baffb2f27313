from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_core.preprocess.equalize import equalize, equalize_by


def transcription(x: np.ndarray) -> np.ndarray:
    """Eq. 3.1-3.4 as they stand in the thesis, pixel by pixel."""
    s, n = 256, x.size
    p = [sum(int(v) == i for v in x.ravel()) / n for i in range(s)]  # 3.1
    cdf = [sum(p[: i + 1]) for i in range(s)]  # 3.2
    low, high = int(x.min()), int(x.max())
    y = [[cdf[int(v)] for v in row] for row in x]  # 3.3
    return np.array([[round(v * (high - low) + low) for v in row] for row in y], dtype=np.uint8)  # 3.4


@pytest.mark.parametrize("low, high", [(0, 256), (80, 120), (0, 2), (250, 256)])
def test_equalize_is_the_thesis_written_out(low: int, high: int) -> None:
    face = np.random.default_rng(low).integers(low, high, (17, 13), dtype=np.uint8)
    assert np.abs(equalize(face).astype(int) - transcription(face)).max() <= 0


def test_equalize_keeps_the_range_where_opencv_stretches_it() -> None:
    face = np.random.default_rng(0).integers(80, 120, (50, 50), dtype=np.uint8)
    ours, theirs = equalize(face), cv2.equalizeHist(face)
    assert ours.min() >= 80 and ours.max() == 119
    assert (theirs.min(), theirs.max()) == (0, 255)
    assert np.array_equal(equalize_by(face, "opencv"), theirs)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_item_60_equalize_of_one_grey_is_the_identity(value: int) -> None:
    face = np.full((9, 9), value, np.uint8)
    assert np.array_equal(equalize(face), face)


def test_equalize_keeps_the_order_of_greys() -> None:
    face = np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8)
    order = np.argsort(face.ravel(), kind="stable")
    assert (np.diff(equalize(face).ravel()[order].astype(int)) >= 0).all()


def test_equalize_flattens_the_histogram() -> None:
    face = np.clip(np.random.default_rng(2).normal(128, 20, (200, 200)), 0, 255).astype(np.uint8)
    shares = np.histogram(equalize(face), bins=8, range=(int(face.min()), int(face.max()) + 1))[0] / face.size
    assert np.abs(shares - 1 / 8).max() < 0.03


def test_none_leaves_the_face_alone() -> None:
    face = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert equalize_by(face, "none") is face
