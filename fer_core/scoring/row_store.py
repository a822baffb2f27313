"""The rows of a batch, stored so that a killed batch resumes where it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fer_core.errors import ClipStatus
from fer_core.preprocess.faces import FrameStatus, Ledger
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.windows import Windows
from fer_core.store import EntryStore, cache_key

_CODES = tuple(FrameStatus)
_LEDGER = ("frame", "time_s", "box", "weight", "measures", "brightness")


class RowStore:
    """Rows by key, under `<workspace>/store/verdicts`.

    Args:
        store_root: the workspace's `store` folder.
    """

    def __init__(self, store_root: Path) -> None:
        self.entries = EntryStore(store_root, "verdicts")

    def put_people(self, key: str, rows: Sequence[ClipScore]) -> None:
        """Store the rows of a clip, one per person. Raises StoreError if they cannot be written."""
        for place, row in reversed([*enumerate(rows)]):  # the first one last: it says that all are there
            self.put(_key_of(key, place), row, len(rows))

    def count(self, key: str) -> int:
        """Return the number of rows of a clip; 0 if any is missing or damaged."""
        note = self.entries.note(key)
        n = int(note["people"]) if note else 0
        return n if all(self.entries.note(_key_of(key, place)) for place in range(1, n)) else 0

    def get_people(self, key: str) -> tuple[ClipScore, ...]:
        """Return the rows of a clip, without its name; none if any is missing or damaged."""
        entry = self.entries.get(key)
        if entry is None:
            return ()
        rows = [_row(*entry), *(self.get(_key_of(key, place)) for place in range(1, entry[1]["people"]))]
        return tuple(row for row in rows if row is not None) if all(rows) else ()

    def put(self, key: str, row: ClipScore, people: int = 1) -> None:
        """Store a row. Raises StoreError if it cannot be written.

        Args:
            people: number of rows of the clip.
        """
        k = len(row.classes)
        arrays = {
            **_ledger_arrays("ledger", row.ledger),
            **_ledger_arrays("looked_at", row.looked_at),
            "frame_scores": np.empty((0, k)) if row.frame_scores is None else row.frame_scores,
            "frame_shares": np.empty(0) if row.frame_shares is None else row.frame_shares,
            "probabilities": np.empty(0) if row.probabilities is None else row.probabilities,
            **_window_arrays(row.windows),
            "thumbnail": np.frombuffer(row.thumbnail, dtype=np.uint8),
            "explanation": np.frombuffer(row.explanation, dtype=np.uint8),
        }
        note = {
            "people": people,
            "person": row.person,
            "status": row.status,
            "reason": row.reason,
            "classes": list(row.classes),
            "emotion": row.emotion,
            "abstained": row.abstained,
            "frames": [row.n_used, row.n_selected, row.n_frames],
            "flags": list(row.flags),
            "digest": row.digest,
            "decisive": list(row.decisive),
            "duration_s": row.duration_s,
            "processing_s": row.processing_s,
        }
        self.entries.put(key, arrays, note)

    def get(self, key: str) -> ClipScore | None:
        """Return the row of `key`, without the clip's name; None if there is none."""
        entry = self.entries.get(key)
        return None if entry is None else _row(*entry)


_WINDOWS = tuple(field.name for field in fields(Windows))


def _row(arrays: dict[str, np.ndarray], note: dict[str, Any]) -> ClipScore:
    """Return the row that an entry of the store holds."""
    return ClipScore(
        clip="",
        path="",
        person=note["person"],
        status=ClipStatus(note["status"]),
        classes=tuple(note["classes"]),
        reason=note["reason"],
        emotion=note["emotion"],
        probabilities=arrays["probabilities"] if len(arrays["probabilities"]) else None,
        abstained=note["abstained"],
        n_used=note["frames"][0],
        n_selected=note["frames"][1],
        n_frames=note["frames"][2],
        flags=tuple(note["flags"]),
        digest=note["digest"],
        ledger=_ledger("ledger", arrays),
        looked_at=_ledger("looked_at", arrays),
        frame_scores=arrays["frame_scores"] if len(arrays["frame_scores"]) else None,
        frame_shares=arrays["frame_shares"] if len(arrays["frame_shares"]) else None,
        windows=_windows(arrays),
        thumbnail=arrays["thumbnail"].tobytes(),
        decisive=tuple(note["decisive"]),
        explanation=arrays["explanation"].tobytes(),
        duration_s=note["duration_s"],
        processing_s=note["processing_s"],
    )


def _key_of(key: str, place: int) -> str:
    return cache_key(row=key, person=place) if place else key


def _window_arrays(windows: Windows | None) -> dict[str, np.ndarray]:
    """Return the arrays under which windows are stored; none without windows."""
    return {} if windows is None else {f"windows.{name}": getattr(windows, name) for name in _WINDOWS}


def _windows(arrays: dict[str, np.ndarray]) -> Windows | None:
    return Windows(**{n: arrays[f"windows.{n}"] for n in _WINDOWS}) if "windows.start_s" in arrays else None


def _ledger_arrays(name: str, ledger: Ledger | None) -> dict[str, np.ndarray]:
    """Return the arrays under which a ledger is stored; none without a ledger."""
    if ledger is None:
        return {}
    codes = np.array([_CODES.index(status) for status in ledger.status], dtype=np.uint8)
    stored = {f"{name}.{part}": getattr(ledger, part) for part in _LEDGER if getattr(ledger, part) is not None}
    return stored | {f"{name}.status": codes}


def _ledger(name: str, arrays: dict[str, np.ndarray]) -> Ledger | None:
    if f"{name}.status" not in arrays:
        return None
    status = tuple(_CODES[code] for code in arrays[f"{name}.status"])
    stored = {part: arrays[f"{name}.{part}"] for part in _LEDGER if f"{name}.{part}" in arrays}
    return Ledger(status=status, **stored)
