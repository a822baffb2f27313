"""ISED: induced, spontaneous expressions of four emotions, peak annotated. Available on request; may not be passed on.

    videos/PS 1/4.avi             clip 4 of participant 1
    peakImages/5_3_85.jpg         participant 5, clip 3, peak frame 85 (from 1)
    ISED_details.mat              one row of 16 columns per clip

The name and nesting of the table inside the MATLAB file are not documented, so the reader searches for the 16-column
array. Paths in the table are not used: participant and video number give the path of the video.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fer_core.clips.datasets.survey import Scan, Survey, stills, videos
from fer_core.emotions import SIX, Classes, Emotion
from fer_core.errors import DataError

LAYOUT = "ISED_details.mat beside 'videos/PS 1/4.avi'"
CODES = {1: Emotion.HAPPINESS, 2: Emotion.SURPRISE, 3: Emotion.SADNESS, 4: Emotion.DISGUST}
N_COLUMNS = 16
PARTICIPANT, VIDEO, PEAK, EMOTION, INTENSITY = 0, 2, 3, 6, 7
GROUPS = {"sex": 8, "spectacles": 9, "beard": 10, "occlusion": 11}


def read(root: Path, *, classes: Classes | None = SIX, follow_links: bool = False, least_intensity: int = 0) -> Scan:
    """Return the clips of ISED with the annotated apex, counted from 0.

    Args:
        least_intensity: drop clips with a lower rated intensity (0-5); induced expressions are faint.
    Raises:
        DataError: ISED_details.mat is missing or cannot be read, or no clip is usable.
    """
    survey = Survey("ised", root, classes=classes, follow_links=follow_links)
    base = next((p for p in (survey.root, *_below(survey)) if (p / "ISED_details.mat").is_file()), None)
    if base is None:
        raise DataError(f"{survey.root}: no ISED_details.mat, which holds the labels; looked for {LAYOUT}")
    for name in ("ISED_details.mat", "videos", "peakImages"):
        survey.refuse_link(base / name)
    rows = {(row[0], row[1]): row for row in _rows(base / "ISED_details.mat")}
    peaks = _peaks(survey, base)
    seen = set()
    for folder in survey.folders(base / "videos"):
        match = re.fullmatch(r"PS\s*(\d+)", folder.name, re.IGNORECASE)
        for path in videos(survey.entries(folder)) if match else ():
            key = (int(match[1]), int(path.stem)) if match and path.stem.isdecimal() else (-1, -1)
            row = rows.get(key)
            seen.add(key)
            if row is None:
                survey.drop("no label")
                continue
            _, _, peak, code, intensity, groups = row
            if intensity is not None and intensity < least_intensity:
                survey.drop(f"intensity below {least_intensity}")
                continue
            apex = peak if peak is not None else peaks.get(key)
            survey.add(
                path,
                take=f"{key[0]}/{key[1]}",
                subject=str(key[0]),
                label=CODES.get(code, f"unknown code {code}") if code is not None else None,
                apex=apex - 1 if apex else None,
                groups=groups | ({} if intensity is None else {"intensity": str(intensity)}),
            )
    survey.drop("video missing", len(set(rows) - seen))
    survey.expect("rows in ISED_details.mat", len(rows), 428, 427)
    survey.expect("subjects", len({c.subject for c in survey.clips}), 50)
    return survey.close(LAYOUT)


def _below(survey: Survey) -> list[Path]:
    return [p for p in sorted(survey.root.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _rows(path: Path) -> Iterator[tuple[int, int, int | None, int | None, int | None, dict[str, str]]]:
    """Yield (participant, video, peak, emotion, intensity, groups) of each row with numbers, so not of a header row."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError, EOFError, zlib.error) as exc:
        raise DataError(f"{path}: not a MATLAB file that can be read ({exc}); copy it again") from exc
    table = next((t for name, value in content.items() if not name.startswith("__") for t in _tables(value)), None)
    if table is None:
        raise DataError(f"{path}: holds no array of {N_COLUMNS} columns, the form of ISED's table; copy it again")
    for row in table:
        participant, video = _number(row[PARTICIPANT]), _number(row[VIDEO])
        if participant is not None and video is not None:
            numbers = (_number(row[PEAK]), _number(row[EMOTION]), _number(row[INTENSITY]))
            yield participant, video, *numbers, {k: t for k, i in GROUPS.items() if (t := _text(row[i]))}


def _tables(value: Any) -> Iterator[np.ndarray]:
    """Yield every two-dimensional array of 16 columns inside a loaded value, outermost first."""
    if not isinstance(value, np.ndarray):
        return
    if value.ndim == 2 and value.shape[1] == N_COLUMNS and value.dtype.names is None:
        yield value
    elif value.dtype.names:
        for name in value.dtype.names:
            yield from _tables(value[name])
    elif value.dtype == object:
        for inner in value.flat:
            yield from _tables(inner)


def _scalar(value: Any) -> Any:
    """Return the content of a MATLAB cell without its wrapping arrays; None unless it is exactly one value."""
    while isinstance(value, np.ndarray):
        if value.size != 1:
            return None
        value = value.flat[0]
    return value


def _number(value: Any) -> int | None:
    try:
        return int(float(_scalar(value)))
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    inner = _scalar(value)
    number = _number(value)
    return "" if inner is None else str(inner if number is None else number).strip()


def _peaks(survey: Survey, base: Path) -> dict[tuple[int, int], int]:
    """Return the peak frame, counted from 1, by (participant, video), from the names of the peak images."""
    names = (p.stem for p in stills(survey.entries(base / "peakImages"))) if (base / "peakImages").is_dir() else ()
    found = (re.fullmatch(r"(\d+)_(\d+)_(\d+)", name) for name in names)
    return {(int(m[1]), int(m[2])): int(m[3]) for m in found if m}
