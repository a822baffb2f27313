"""Motion descriptors: displacement of points from neutral to apex, and histograms of 3-D gradients (§1.3.1)."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from fer_core.features.descriptors.descriptor import COURSE_FRAMES, frames_evenly

SIDE = 112
GRID = 12  # tracked points in each direction
_MARGIN = 0.14  # share of the side without points, because of hair and background
_WINDOW = (17, 17)
_LEVELS = 2

# Root mean square displacement in face widths below which a face counts as still: 15 neutral faces and 14 of 15
# constant smiles move by up to 0.002, faint smiles of real people by 0.007 or more.
STILL = 0.004

CELLS = 6  # cells of the gradient histograms in each direction
SPANS = 3  # periods of the course


def displacement(pixels: np.ndarray) -> np.ndarray:
    """Compute the (GRID², 2) float32 displacement (right, down) of grid points from first to last face, in face widths.

    Points are tracked from frame to frame by Lucas-Kanade (Bouguet's pyramid). Every frame has its own crop, so the
    best similarity transform between first and last positions, which is motion of head and crop, is subtracted; the
    rest is expression. A lost point has displacement 0.

    Args:
        pixels: (n, size, size) uint8 faces; n >= 1. For n = 1 all displacements are 0.
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
    """Return (c,) True for clips in which the face does not move: always neutral, or not neutral at the start.

    Args:
        ways: (c, GRID², 2) displacements.
    """
    still: np.ndarray = np.sqrt((ways.astype(np.float64) ** 2).sum(axis=-1).mean(axis=-1)) < STILL
    return still


def tracked_points() -> np.ndarray:
    """Return (GRID², 2) float32 positions (right, down) of the points in the first face, in face widths."""
    across = np.linspace(_MARGIN, 1 - _MARGIN, GRID)
    return np.stack(np.meshgrid(across, across), axis=-1).reshape(-1, 2).astype(np.float32)


def _similarity(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return (n, 2) the points `start` after the similarity transform that fits them best to `end` (Umeyama 1991)."""
    a, b = (points.astype(np.float64) @ [1, 1j] for points in (start, end))
    a0, b0 = a.mean(), b.mean()
    spread = np.vdot(a - a0, a - a0).real
    turn = np.vdot(a - a0, b - b0) / spread if spread else 1.0
    there = turn * (a - a0) + b0
    return np.stack([there.real, there.imag], axis=1)


def gradient_histograms(pixels: np.ndarray) -> np.ndarray:
    """Compute (SPANS·CELLS², 12) float32 histograms of 3-D gradient orientations in blocks of space and time.

    The thesis cites Pfister et al. 2011; the descriptor is from Polikovsky et al. 2009 (face regions), computed as in
    Kläser et al. 2008: each gradient (∂x, ∂y, ∂t), weighted by its length, is added to the bins of the nearest vertices
    of an icosahedron; the histogram of each block is scaled to length 1.

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
    """Return (12, 3) unit vectors to the vertices of an icosahedron."""
    golden = (1 + np.sqrt(5)) / 2
    corners = [(0.0, s, t * golden) for s in (-1, 1) for t in (-1, 1)]
    every = np.array([np.roll(corner, shift) for corner in corners for shift in range(3)])
    unit: np.ndarray = every / np.linalg.norm(every, axis=1, keepdims=True)
    return unit


_AXES = _icosahedron()
_NEXT = 1 / np.sqrt(5)  # cosine between neighbouring axes: a gradient along an axis counts for this axis only
