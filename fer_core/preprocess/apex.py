"""Estimate the apex, the most expressive frame, of clips that go from neutral to an apex and back."""

from __future__ import annotations

import cv2
import numpy as np

from fer_core.config import FaceConfig
from fer_core.preprocess.decode import Media
from fer_core.preprocess.equalize import equalize
from fer_core.preprocess.face import Box, FaceFinder

SIDE = 64  # side of the small faces that are compared, in pixels
MARGIN = 6  # pixels left out at each border, because of hair and background
BLUR = 2.5  # pixels; removes wrinkles and noise
NEUTRAL = 5  # number of first faces whose mean is the neutral face
STEADY = 0.3  # weight of a new box in the moving average, which removes the detector's jitter
SMOOTH = 4.0  # frames; so a blink is not the apex
HELD = 0.95  # share of the largest distance above which the expression is held and differences are noise


def estimate_apex(media: Media, cfg: FaceConfig) -> int | None:
    """Return the index (from 0) of the frame whose face differs most from the first faces; None without any face.

    All frames are read once; only one distance per frame is kept. Every face is aligned to the first by affine ECC,
    blurred and standardised; its distance is the mean absolute difference to the mean of the first five faces.
    Distances are smoothed over time. The apex is the middle of the period with the largest distances.

    Raises:
        ClipError: the clip does not decode.
    """
    finder = FaceFinder(cfg.model_copy(update={"mode": "tracked"}))
    ruler = _Ruler()
    distances = []
    for frame in media.frames(lambda _: True):
        found = None if frame.picture is None else finder.find(frame.picture)
        if frame.picture is None or found is None or found.weight < cfg.min_weight or found.is_rejected(cfg):
            distances.append(np.nan)
        else:
            distances.append(ruler.measure(frame.picture, found.box))
    return farthest(np.array(distances))


def farthest(distances: np.ndarray) -> int | None:
    """Return the middle of the period with the largest smoothed distances; NaN is interpolated; None if all are NaN."""
    known = np.flatnonzero(~np.isnan(distances))
    if len(known) == 0:
        return None
    filled = np.interp(np.arange(len(distances)), known, distances[known])
    smooth = cv2.GaussianBlur(filled[:, None], (1, 0), sigmaX=0, sigmaY=SMOOTH, borderType=cv2.BORDER_REPLICATE)
    peak = int(smooth.argmax())
    lower = np.flatnonzero(smooth[:, 0] < HELD * smooth[peak, 0])
    first, last = lower[lower < peak], lower[lower > peak]
    start = first[-1] + 1 if len(first) else 0
    stop = last[0] if len(last) else len(distances)
    return int(start + stop - 1) // 2


class _Ruler:
    """Measures the distance of each face from the mean of the first faces."""

    def __init__(self) -> None:
        self._box: np.ndarray | None = None
        self._neutral: list[np.ndarray] = []
        self._reference: np.ndarray | None = None
        self._warp: np.ndarray = np.eye(2, 3, dtype=np.float32)

    def measure(self, picture: np.ndarray, box: Box) -> float:
        now = np.array(box, dtype=np.float64)
        self._box = now if self._box is None else (1 - STEADY) * self._box + STEADY * now
        x, y, width, height = self._box
        face = cv2.getRectSubPix(picture, (round(width), round(height)), (x + width / 2, y + height / 2))
        face = equalize(cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        face = cv2.GaussianBlur(face.astype(np.float32), (0, 0), BLUR)
        if self._reference is not None:
            face = self._aligned(face, self._reference)
        if len(self._neutral) < NEUTRAL:
            self._neutral.append(face)
            self._reference = np.mean(self._neutral, axis=0)
        assert self._reference is not None
        return float(np.abs(_standardised(face) - _standardised(self._reference)).mean())

    def _aligned(self, face: np.ndarray, reference: np.ndarray) -> np.ndarray:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-3)
        try:
            _, self._warp = cv2.findTransformECC(reference, face, self._warp.copy(), cv2.MOTION_AFFINE, criteria)
        except cv2.error:  # no alignment found (face turned away or uniform): compare it without
            return face
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(face, self._warp, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _standardised(face: np.ndarray) -> np.ndarray:
    inner = face[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return (inner - inner.mean()) / max(float(inner.std()), 1e-6)
