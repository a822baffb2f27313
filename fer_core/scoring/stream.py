"""Verdicts over a film that goes on, for example a webcam: one every few frames, over the latest frames."""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.config import PreprocessConfig
from fer_core.errors import ConfigError
from fer_core.features.descriptors.descriptor import course_config
from fer_core.preprocess.arrays import gray_picture
from fer_core.preprocess.batch import ClipFaces, faceless
from fer_core.preprocess.decode import Frame
from fer_core.preprocess.face import FaceFinder
from fer_core.preprocess.faces import Faces
from fer_core.preprocess.frame_rows import Seen, ledger_of
from fer_core.preprocess.landmarks import resolved
from fer_core.preprocess.pipeline import face_in
from fer_core.preprocess.selection import select
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.scorer import ClipScorer

START = 5  # faces at the beginning of the film that stay, as the neutral ones


def score_stream(
    scorer: ClipScorer, frames: Iterable[np.ndarray], *, window: int = 25, step: int = 5, rate: float = 0.0
) -> Iterator[ClipScore]:
    """Yield a row after every `step` frames, over the latest `window` frames; the face is looked for once per frame.

    All frames of the window count, not only its second half. A model that compares a face with the person's neutral
    face also reads the first faces of the film, so the film should begin with a neutral face. Nothing else is kept, so
    memory does not grow.

    Args:
        frames: as for `ClipScorer.score_frames`; taken one by one, as fast as they are scored.
        window: number of frames that a row reads, >= 1; the first rows read those that there are.
        step: number of frames from one row to the next, >= 1.
        rate: frames per second, for the times in the rows; 0: unknown.
    Raises:
        ConfigError: `window` or `step` is less than 1, or the scorer's settings have windows.
        ShapeError: a frame has another shape or type.
    """
    if window < 1 or step < 1:
        raise ConfigError(f"`window >= 1` and `step >= 1` must hold, but got window={window}, step={step}")
    if scorer.in_windows:
        raise ConfigError("a stream has a window of its own; leave out score.windows")
    cfg = resolved(scorer.preprocess.model_copy(update={"selection": "all", "apex": "last"}))
    finder = FaceFinder(cfg.face)
    latest: deque[Seen] = deque(maxlen=window)
    start: list[Seen] = []
    for index, given in enumerate(frames):
        picture = gray_picture(given)
        latest.append(face_in(Frame(index, index / rate if rate else math.nan, picture), finder, cfg))
        if len(start) < START and latest[-1].face is not None:
            start.append(latest[-1])
        if (index + 1) % step == 0:
            earlier = [seen for seen in start if seen.row.frame < latest[0].row.frame]
            whole = _faces([*earlier, *latest], course_config(cfg), picture.shape) if scorer.needs_course else None
            yield scorer.score_faces(_faces(list(latest), cfg, picture.shape), whole)


def _faces(latest: list[Seen], cfg: PreprocessConfig, shape: tuple[int, ...]) -> ClipFaces:
    """Return the faces of the latest frames, at most as many as the model reads; `shape` is that of the last frame."""
    started = time.monotonic()
    chosen = [latest[place] for place in select(len(latest), None, cfg)]
    used = [seen for seen in chosen if seen.face is not None]
    pixels = np.stack([seen.face for seen in used if seen.face is not None]) if used else None
    points = [seen.points for seen in used if seen.points is not None]
    arrays: dict[str, Any] = {"pixels": np.empty((0, cfg.size, cfg.size), np.uint8) if pixels is None else pixels}
    if points:
        arrays["points"] = np.stack(points)
    key = hashlib.blake2b(b"".join(array.tobytes() for array in arrays.values()), digest_size=16).hexdigest()
    faces = Faces(
        key=key,
        clip_digest=key,
        ledger=ledger_of([seen.row for seen in chosen], measured=cfg.face.landmarks == "yes"),
        n_frames=len(latest),
        width=shape[1],
        height=shape[0],
        **arrays,
    )
    name = f"frames {latest[0].row.frame}-{latest[-1].row.frame}"
    error = None if faces.n_used else faceless(faces, cfg)
    return ClipFaces(Clip(id=name, path=Path(name)), key, key, faces, error, False, time.monotonic() - started)
