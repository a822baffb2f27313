"""Motion: how far points of a face move from neutral to apex, and which way its grey values flow (§1.3.1)."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from fer_core.features.descriptors.descriptor import COURSE_FRAMES, frames_evenly

SIDE = 112
GRID = 12  # tracked points across and down
_MARGIN = 0.14  # of the side without points: hair and background
_WINDOW = (17, 17)
_LEVELS = 2

# Root mean square way, in face widths, under which a face has not moved: 15 neutral faces and 14 of 15 smiles held all
# along move by up to 0.002, faint smiles of real people by 0.007 and more.
STILL = 0.004

CELLS = 6  # of the gradient histograms, across and down
SPANS = 3  # of the course


def displacement(pixels: np.ndarray) -> np.ndarray:
    """(GRID², 2) float32 way of each point of a grid from the first face to the last, right and down, in face widths.

    Lucas-Kanade (Bouguet's pyramid) from frame to frame. A face is cropped anew in each frame, so the best similarity
    between first and last places (head and crop moving as one) is taken away; what is left is expression. A point that
    is lost on its way counts as not moved.

    Args:
        pixels: (n, size, size) uint8 faces; n >= 1. One face alone has not moved.
    """
    faces = [cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for face in pixels]
    start = SIDE * tracked_points()[:, None]
    points: np.ndarray = start
    kept = np.ones(len(start), dtype=bool)
    for before, after in pairwise(faces):
        points, status, _ = cv2.calcOpticalFlowPyrLK(
            before, after, points, np.empty_like(points), winSize=_WINDOW, maxLevel=_LEVELS
        )
        kept &= status.ravel().astype(bool)
    moved = np.zeros((len(start), 2), dtype=np.float32)
    if kept.sum() >= 2:
        expected = _similarity(start[kept, 0], points[kept, 0])
        moved[kept] = (points[kept, 0] - expected) / SIDE
    return moved


def is_still(ways: np.ndarray) -> np.ndarray:
    """(c,) whether nothing of a face has moved: it was neutral all along, or did not start neutral.

    Args:
        ways: (c, GRID², 2) displacements of clips.
    """
    still: np.ndarray = np.sqrt((ways.astype(np.float64) ** 2).sum(axis=-1).mean(axis=-1)) < STILL
    return still


def tracked_points() -> np.ndarray:
    """(GRID², 2) float32 where the points lie in the first face, right and down, in face widths."""
    across = np.linspace(_MARGIN, 1 - _MARGIN, GRID)
    return np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2).astype(np.float32)


def _similarity(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(n, 2) where the points of `start` lie after the similarity that brings them nearest to `end` (Umeyama 1991)."""
    a, b = (points.astype(np.float64) @ [1, 1j] for points in (start, end))
    a0, b0 = a.mean(), b.mean()
    spread = np.vdot(a - a0, a - a0).real
    turn = np.vdot(a - a0, b - b0) / spread if spread else 1.0
    there = turn * (a - a0) + b0
    return np.stack([there.real, there.imag], axis=1)


def gradient_histograms(pixels: np.ndarray) -> np.ndarray:
    """(SPANS·CELLS², 12) float32 histograms of 3-D gradient orientation in blocks of space and time.

    The thesis names Pfister et al. 2011; the descriptor is of Polikovsky et al. 2009 (face regions) in the form of
    Kläser et al. 2008: a gradient (∂x, ∂y, ∂t) votes, by its length, for the axes of an icosahedron's corners that it
    is nearest to; a block's votes are scaled to length 1.

    Args:
        pixels: (n, size, size) uint8 faces of the course; n >= 1.
    """
    chosen = pixels[frames_evenly(len(pixels), COURSE_FRAMES)]
    faces = np.stack([cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for face in chosen])
    smooth = np.stack([cv2.GaussianBlur(face, (0, 0), 1.0) for face in faces.astype(np.float32)])
    dt, dy, dx = np.gradient(smooth)
    gradient = np.stack([dx, dy, dt], axis=-1)
    length = np.linalg.norm(gradient, axis=-1, keepdims=True)
    toward = gradient / np.maximum(length, 1e-6) @ _AXES.T
    votes = np.maximum(toward - _NEXT, 0)
    votes *= length / np.maximum(np.linalg.norm(votes, axis=-1, keepdims=True), 1e-6)
    blocks = [
        cell.sum(axis=(0, 1, 2))
        for span in np.array_split(votes, SPANS)
        for band in np.array_split(span, CELLS, axis=1)
        for cell in np.array_split(band, CELLS, axis=2)
    ]
    histograms = np.stack(blocks)
    scaled: np.ndarray = histograms / np.maximum(np.linalg.norm(histograms, axis=1, keepdims=True), 1e-6)
    return scaled.astype(np.float32)


def _icosahedron() -> np.ndarray:
    """(12, 3) unit vectors to the corners of an icosahedron."""
    golden = (1 + np.sqrt(5)) / 2
    corners = [(0.0, s, t * golden) for s in (-1, 1) for t in (-1, 1)]
    every = np.array([np.roll(corner, shift) for corner in corners for shift in range(3)])
    unit: np.ndarray = every / np.linalg.norm(every, axis=1, keepdims=True)
    return unit


_AXES = _icosahedron()
_NEXT = 1 / np.sqrt(5)  # cosine between an axis and the next: a gradient along one votes for that one alone
