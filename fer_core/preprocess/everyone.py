"""Find all faces of a clip, and the main one among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.preprocess.decode import Media
from fer_core.preprocess.face import Detection, FaceFinder
from fer_core.preprocess.faces import FrameStatus, Ledger
from fer_core.preprocess.frame_rows import Row, keep, ledger_of, seen_face
from fer_core.preprocess.spool import FacesSpool
from fer_core.preprocess.tracks import CutFinder, main_track, of_person


def find_everyone(
    media: Media,
    chosen: np.ndarray,
    cfg: PreprocessConfig,
    spool: FacesSpool,
    searched: dict[int, list[Detection]] | None = None,
) -> tuple[Ledger, set[str], list[int]]:
    """Put all faces of some frames into a spool.

    Args:
        chosen: numbers of the frames.
        searched: see `FaceFinder`.
    Returns:
        A ledger with a row for each face, and one for each frame without a face; flags; and the numbers of the frames
        before which the film is cut.
    """
    finder, cutter, wanted = FaceFinder(cfg.face, searched), CutFinder(), frozenset(chosen.tolist())
    rows: list[Row] = []
    cuts: list[int] = []
    for frame in media.frames(wanted.__contains__):
        if frame.index not in wanted:
            continue
        if frame.picture is None:
            rows.append(Row.of(frame, FrameStatus.DECODE_ERROR, None))
            continue
        if cutter.cut(frame.picture):
            cuts.append(frame.index)
        found = finder.find_all(frame.picture, frame.index)
        for face in found:
            seen = seen_face(frame, face, cfg)
            keep(spool, seen)
            rows.append(seen.row)
        if not found:
            rows.append(Row.of(frame, FrameStatus.NO_FACE, None))
    return ledger_of(rows, measured=cfg.face.landmarks == "yes"), set(finder.flags), cuts


def find_main(
    media: Media,
    chosen: np.ndarray,
    cfg: PreprocessConfig,
    folder: Path | None,
    searched: dict[int, list[Detection]] | None = None,
) -> tuple[Ledger, FacesSpool] | None:
    """Return ledger and spool of the main face of a clip with several faces; None if no face stays long enough.

    Args:
        chosen, folder, searched: see `find_everyone` and `FacesSpool`.
    """
    every = FacesSpool(cfg.size, folder)
    ledger, _, cuts = find_everyone(media, chosen, cfg, every, searched)
    rows = main_track(ledger, cuts)
    if not len(rows):
        return None
    own, places = of_person(ledger, rows, whole=True)
    spool = FacesSpool(cfg.size, folder)
    spool.take(every.pixels.rows(), every.points.rows(), places)
    return own, spool
