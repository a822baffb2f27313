"""Keep the faces of frames: their pixels and landmarks in a spool, and a row of the ledger for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.preprocess.decode import Frame
from fer_core.preprocess.equalize import equalize_by
from fer_core.preprocess.face import Box, Detection, crop, level, resize
from fer_core.preprocess.faces import FrameStatus, Ledger
from fer_core.preprocess.landmarks import MEASURES, in_box, measures
from fer_core.preprocess.spool import FacesSpool


class Row(NamedTuple):
    """A row of the ledger; without the picture and the points, so that memory does not grow with the clip."""

    frame: int
    time_s: float
    status: FrameStatus
    box: Box
    weight: float
    measures: tuple[float, ...]
    brightness: float = np.nan

    @classmethod
    def of(cls, frame: Frame, status: FrameStatus, found: Detection | None) -> Row:
        """Return the row of a frame; without a detection its box is zeros."""
        found = found or Detection((0, 0, 0, 0), 0.0)
        known = (np.nan,) * len(MEASURES) if found.landmarks is None else tuple(measures(found.landmarks).tolist())
        return cls(frame.index, frame.time_s, status, found.box, found.weight, known)


class Seen(NamedTuple):
    """What was found in a frame: its row, and if the face is used, (size, size) uint8 pixels and its points, if any."""

    row: Row
    face: np.ndarray | None = None
    points: np.ndarray | None = None


def seen_face(frame: Frame, found: Detection, cfg: PreprocessConfig) -> Seen:
    """Return a face of a grey frame that is used, cut out as the settings say."""
    assert frame.picture is not None
    picture, landmarks = frame.picture, found.landmarks
    if cfg.align == "eyes":
        picture, landmarks = level(picture, found)
    filmed = crop(picture, found.box)
    face = resize(equalize_by(filmed, cfg.equalize), cfg.size)
    row = Row.of(frame, FrameStatus.USED, found)._replace(brightness=float(filmed.mean()))
    return Seen(row, face, None if landmarks is None else in_box(landmarks.points, found.box))


def keep(spool: FacesSpool, seen: Seen) -> None:
    """Add the face to the spool, if there is one, and its points, if there are any."""
    if seen.face is not None:
        spool.pixels.append(seen.face)
        if seen.points is not None:
            spool.points.append(seen.points)


def ledger_of(rows: Sequence[Row], measured: bool) -> Ledger:
    """Return the ledger of some frames.

    Args:
        measured: True if landmarks were looked for.
    """
    return Ledger(
        frame=np.array([row.frame for row in rows], dtype=np.int32),
        time_s=np.array([row.time_s for row in rows], dtype=np.float32),
        status=tuple(row.status for row in rows),
        box=np.array([row.box for row in rows], dtype=np.int32).reshape(len(rows), 4),
        weight=np.array([row.weight for row in rows], dtype=np.float32),
        brightness=np.array([row.brightness for row in rows], dtype=np.float32),
        measures=np.array([row.measures for row in rows], np.float32).reshape(-1, len(MEASURES)) if measured else None,
    )
