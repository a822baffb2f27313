"""Verdicts over time: one for each window of a clip, in memory that does not grow with the clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from fer_core.config import WindowsConfig
from fer_core.preprocess.faces import Faces
from fer_core.store import release

CHUNK = 64  # faces whose features are computed at a time; a multiple of the backbone's batch
_ROUNDING = 1e-6  # share of a step by which a clip may be longer than its last window


@dataclass(frozen=True)
class Windows:
    """The verdicts of a clip's windows, in order of time.

    Args:
        start_s, end_s: (w,) seconds from the start of the clip; a frame at `end_s` is not in the window.
        probabilities: (w, k) calibrated, in class order; NaN for a window without a face.
        abstained: (w,) True if the verdict is too uncertain, or a face is in under half of the window's frames.
        n_used, n_selected: (w,) numbers of frames with a face, and of frames in which a face was looked for.
    """

    start_s: np.ndarray
    end_s: np.ndarray
    probabilities: np.ndarray
    abstained: np.ndarray
    n_used: np.ndarray
    n_selected: np.ndarray

    def __len__(self) -> int:
        return len(self.start_s)

    def on_screen(self) -> Windows:
        """Return the windows in which the person was looked for, from first to last appearance."""
        kept = self.n_selected > 0
        return Windows(**{field.name: getattr(self, field.name)[kept] for field in fields(self)})

    @property
    def index(self) -> np.ndarray:
        """(w,) index of the predicted class; -1 for a window without a face."""
        return np.where(self.n_used > 0, np.nan_to_num(self.probabilities).argmax(axis=1), -1)

    @property
    def confidence(self) -> np.ndarray:
        """(w,) probability of the predicted class; NaN for a window without a face."""
        found: np.ndarray = self.probabilities.max(axis=1)
        return found


def spans(duration_s: float, cfg: WindowsConfig) -> np.ndarray:
    """Return (w, 2) start and end of the windows that cover a clip; the last one ends with the clip.

    Example:
        >>> spans(5.0, WindowsConfig(length_s=2, step_s=1)).tolist()
        [[0.0, 2.0], [1.0, 3.0], [2.0, 4.0], [3.0, 5.0]]
        >>> spans(5.0, WindowsConfig(length_s=2)).tolist()
        [[0.0, 2.0], [2.0, 4.0], [4.0, 5.0]]
    """
    more = max(0, int(np.ceil((duration_s - cfg.length_s) / cfg.step - _ROUNDING)))
    start = cfg.step * np.arange(1 + more)
    return np.column_stack([start, np.minimum(start + cfg.length_s, max(duration_s, cfg.step))])


def score_windows(
    faces: Faces,
    cfg: WindowsConfig,
    features: Callable[[np.ndarray], np.ndarray],
    judge: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    n_classes: int,
    abstain_below: float,
) -> Windows | None:
    """Predict each window of a clip; None if the clip has no times, as a folder of frames.

    Args:
        faces: faces of the whole clip; their pixels may be mapped from a file.
        features: (n, size, size) uint8 faces -> (n, d) features.
        judge: faces of a window, their landmarks and their features -> (k,) calibrated probabilities.
        abstain_below: confidence below which a window abstains.
    """
    ledger = faces.ledger
    known = np.isfinite(ledger.time_s)
    if not known.any():
        return None
    duration_s = max(faces.duration_s, float(ledger.time_s[known].max()))
    bounds = spans(duration_s, cfg)
    bounds[-1, 1] = max(bounds[-1, 1], np.nextafter(duration_s, np.inf))  # the last frame is in the last window
    place = np.cumsum(ledger.used) - 1  # of a used frame's face in `pixels`
    probabilities = np.full((len(bounds), n_classes), np.nan)
    n_used, n_selected = np.zeros(len(bounds), dtype=np.int32), np.zeros(len(bounds), dtype=np.int32)
    wanted = []
    for window, (start, end) in enumerate(bounds):
        inside = known & (ledger.time_s >= start) & (ledger.time_s < end)
        wanted.append(place[inside & ledger.used])
        n_selected[window], n_used[window] = inside.sum(), len(wanted[-1])
    for window, (pixels, rows) in enumerate(_inputs(faces.pixels, wanted, features)):
        if len(pixels):
            points = np.array(faces.points[wanted[window]]) if len(faces.points) else faces.points
            probabilities[window] = judge(pixels, points, rows)
    low = 2 * n_used < np.maximum(n_selected, 1)
    sure = np.nan_to_num(probabilities).max(axis=1) >= abstain_below
    return Windows(bounds[:, 0], np.minimum(bounds[:, 1], duration_s), probabilities, low | ~sure, n_used, n_selected)


def _inputs(
    pixels: np.ndarray, wanted: list[np.ndarray], features: Callable[[np.ndarray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield faces and features of each window. Features are computed once per face, and kept as long as they are used.

    Args:
        wanted: indices of the faces of each window.
    """
    chunks: dict[int, np.ndarray] = {}
    for places in wanted:
        needed = sorted(set((places // CHUNK).tolist()))
        for number in needed:
            if number not in chunks:
                chunks[number] = features(np.array(pixels[number * CHUNK : (number + 1) * CHUNK]))
        chunks = {number: rows for number, rows in chunks.items() if not needed or number >= needed[0]}
        rows = [chunks[place // CHUNK][place % CHUNK] for place in places.tolist()]
        yield np.array(pixels[places]), np.stack(rows) if rows else np.empty((0, 0))
        release(pixels)
