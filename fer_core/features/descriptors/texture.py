"""Local binary patterns: histograms of the texture in the cells of a face (§1.3.1; Ojala et al. 2002, Shan et al.
2009).

Written here because scikit-image would be a dependency for this only; a test compares the codes with scikit-image.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

SIDE = 112  # side of the face in pixels
GRID = 7  # cells in each direction
BINS = 59  # uniform patterns, and one for all others
_DIAGONAL = round(np.sin(np.pi / 4), 5)  # the eight neighbours lie on a circle of radius 1
_NEIGHBOURS = (
    (0.0, 1.0), (-_DIAGONAL, _DIAGONAL), (-1.0, 0.0), (-_DIAGONAL, -_DIAGONAL),
    (0.0, -1.0), (_DIAGONAL, -_DIAGONAL), (1.0, 0.0), (_DIAGONAL, _DIAGONAL),
)  # fmt: skip


def texture(pixels: np.ndarray) -> np.ndarray:
    """Compute (GRID², 59) float32 histograms of the uniform patterns in each cell of a clip's last face, the apex.

    The values are square roots of shares, so that a linear classifier compares them by the Hellinger distance.

    Args:
        pixels: (n, size, size) uint8 faces; n >= 1.
    """
    face = cv2.resize(pixels[-1], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    bins = _uniform_bins()[pattern_codes(face)]
    cells = [cell for band in np.array_split(bins, GRID) for cell in np.array_split(band, GRID, axis=1)]
    counts = np.stack([np.bincount(cell.ravel(), minlength=BINS) for cell in cells])
    shares: np.ndarray = np.sqrt(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def texture_change(pixels: np.ndarray) -> np.ndarray:
    """(GRID², 59) float32 change of the histograms from a clip's first face, neutral, to its last one, the apex.

    What the skin of a person looks like at rest is in both faces, so it is taken away. One face alone has not changed.

    Args:
        pixels: (n, size, size) uint8 faces of the course; n >= 1.
    """
    change: np.ndarray = texture(pixels) - texture(pixels[:1])
    return change


def has_no_change(changes: np.ndarray) -> np.ndarray:
    """(c,) whether nothing of a clip's texture has changed: there was one face, or the same one all along.

    Args:
        changes: (c, ...) texture changes of clips.
    """
    found: np.ndarray = ~np.any(changes.reshape(len(changes), -1), axis=1)
    return found


def pattern_codes(face: np.ndarray) -> np.ndarray:
    """Return (h - 2, w - 2) uint8 codes of the inner pixels of a (h, w) grey face.

    Bit p is set if neighbour p (on a circle of radius 1, bilinearly interpolated) is at least as bright as the pixel.
    """
    grey = face.astype(np.float64)
    inner = grey[1:-1, 1:-1]
    codes = np.zeros(inner.shape, dtype=np.uint8)
    for bit, (down, right) in enumerate(_NEIGHBOURS):
        codes |= (_shifted(grey, down, right) >= inner).astype(np.uint8) << bit
    return codes


def _shifted(grey: np.ndarray, down: float, right: float) -> np.ndarray:
    """Return the neighbours of the inner pixels at an offset of at most one pixel."""
    top, left = int(np.floor(down)), int(np.floor(right))
    low, across = down - top, right - left
    h, w = grey.shape

    def at(y: int, x: int) -> np.ndarray:
        return grey[1 + y : h - 1 + y, 1 + x : w - 1 + x]

    bottom, far = top + bool(low), left + bool(across)
    upper = (1 - across) * at(top, left) + across * at(top, far)
    lower = (1 - across) * at(bottom, left) + across * at(bottom, far)
    return (1 - low) * upper + low * lower


@cache
def _uniform_bins() -> np.ndarray:
    """Return (256,) bins of the codes: one for each of the 58 codes with at most two changes, the last for all
    others."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    bins = np.full(256, uniform.sum())
    bins[uniform] = np.arange(uniform.sum())
    return bins
