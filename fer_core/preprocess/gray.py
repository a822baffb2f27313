"""Convert a decoded frame to the picture that a viewer sees: grey, full range, upright, with square pixels."""

from __future__ import annotations

import re
from functools import cache

import av
import cv2
import numpy as np

from fer_core.errors import ClipError, ClipStatus

FULL_RANGE = 2  # AVCOL_RANGE_JPEG
LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG
PQ, HLG = 16, 18  # SMPTE ST 2084 and ARIB STD-B67 transfer curves
MAX_STRETCH = 4  # a pixel aspect ratio beyond this is an error in the file

_LUMA_PLANE = re.compile(r"yuv(j?)(a?)4\d\dp(9|10|12|14|16)?(le)?|(gray)(9|10|12|14|16)?(le)?|nv12|nv21")


@cache
def _expansion(bits: int, full: bool) -> np.ndarray:
    """Return a table from luma codes to 0...255, (2**bits,) uint8.

    In limited range, 16...235 (for 8 bits) are black...white.
    """
    codes = np.arange(1 << bits, dtype=np.float64)
    low, high = (0.0, float((1 << bits) - 1)) if full else (16.0 * 2 ** (bits - 8), 235.0 * 2 ** (bits - 8))
    return np.clip(np.rint((codes - low) * 255.0 / (high - low)), 0, 255).astype(np.uint8)


def gray(frame: av.VideoFrame) -> np.ndarray:
    """Return the grey picture of a frame as stored, (height, width) uint8: its luma at full range, alpha over black.

    Formats without a luma plane of their own (RGB, packed YUV) are converted by swscale, whose `gray` is full range.
    """
    name = frame.format.name
    match = _LUMA_PLANE.fullmatch(name)
    if match is None:
        if any(component.is_alpha for component in frame.format.components):
            rgba = frame.to_ndarray(format="rgba", threads=1)
            return _over_black(cv2.cvtColor(rgba, cv2.COLOR_RGBA2GRAY), rgba[..., 3])
        return frame.to_ndarray(format="gray", threads=1)
    bits = frame.format.components[0].bits
    tagged = frame.color_range
    full = tagged != LIMITED_RANGE if match[5] else tagged == FULL_RANGE or bool(match[1])
    picture = _expand(_plane(frame, 0, bits), bits, full)
    return _over_black(picture, _expand(_plane(frame, 3, bits), bits, True)) if match[2] else picture


def _plane(frame: av.VideoFrame, index: int, bits: int) -> np.ndarray:
    plane = frame.planes[index]
    kind = np.dtype("u1") if bits == 8 else np.dtype("<u2")
    rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
    return rows[: frame.height, : frame.width]


def _expand(codes: np.ndarray, bits: int, full: bool) -> np.ndarray:
    if bits == 8:
        return np.ascontiguousarray(codes) if full else cv2.LUT(np.ascontiguousarray(codes), _expansion(8, False))
    return _expansion(bits, full)[np.minimum(codes, (1 << bits) - 1)]


def _over_black(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return cv2.multiply(picture, alpha, scale=1 / 255)


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """Return the 2x2 part (a, b, c, d) of a frame's display matrix; None if the frame has none.

    It is in 16.16 fixed point: x' = ax + cy, y' = bx + dy.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(memoryview(data), "<i4")[:5].tolist()  # type: ignore[arg-type]
    return a, b, c, d


def right_angled(matrix: tuple[int, int, int, int]) -> bool:
    """Return True if a display matrix is one of the eight rotations and reflections that map pixels onto pixels."""
    a, b, c, d = matrix
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    return max(abs(b), abs(c)) * 16 < straight or max(abs(a), abs(d)) * 16 < crossed


def upright(picture: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """Return the picture rotated and mirrored by its display matrix; other matrices leave it as it is."""
    if matrix is None or not right_angled(matrix):
        return picture
    a, b, c, d = matrix
    if abs(a) < abs(b):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def square_pixels(picture: np.ndarray, aspect: float, max_pixels: int) -> np.ndarray:
    """Return the picture stretched so that its pixels become square; no side is shrunk.

    `aspect` is the width of a pixel divided by its height.

    Raises:
        ClipError: the stretched picture has more than `max_pixels` (too_large).
    """
    height, width = picture.shape[:2]
    if aspect >= 1:
        width = round(width * aspect)
    else:
        height = round(height / aspect)
    check_pixels(width, height, max_pixels)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a frame that is too large, before it is decoded or converted.

    Raises:
        ClipError: the frame has more than `max_pixels` (too_large).
    """
    if width * height > max_pixels:
        raise ClipError(
            ClipStatus.TOO_LARGE,
            f"frames of {width}x{height} = {width * height} pixels; at most {max_pixels} are accepted "
            "(limits.max_pixels)",
        )
