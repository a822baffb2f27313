"""Score many clips. Each row is stored as soon as it is made, so that a killed batch resumes where it ended."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, StoreError
from fer_core.preprocess.admit import admit
from fer_core.preprocess.faces import FrameStatus, Ledger
from fer_core.scoring.agreement import Agreement
from fer_core.scoring.inputs import Item
from fer_core.scoring.scorer import ClipScore, ClipScorer
from fer_core.scoring.tables import write_explanations, write_tables
from fer_core.scoring.windows import Windows
from fer_core.store import EntryStore

log = logging.getLogger(__name__)

# Errors that depend only on the content, so their rows can be stored. `too_large` and `rejected` depend on limits and
# place; the others may not occur again.
_KEPT = (ClipStatus.OK, ClipStatus.LOW_QUALITY, ClipStatus.NO_FACE, ClipStatus.DAMAGED, ClipStatus.UNSUPPORTED)


@dataclass(frozen=True)
class Batch:
    """A scored batch.

    Args:
        rows: one per item, in order.
        out: the folder with `verdicts` and `frames` as CSV and Parquet, `verdicts.json`, `report.html`, and
            `explanations/` if they were requested.
        remembered: number of rows from an earlier run.
    """

    rows: tuple[ClipScore, ...]
    out: Path
    remembered: int

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by status, the most frequent first."""
        return {status.value: n for status, n in Counter(r.status for r in self.rows).most_common()}

    @property
    def agreement(self) -> Agreement:
        """Correct predictions for subjects that the model was not trained on."""
        return Agreement.of(self.rows)

    @property
    def unscored(self) -> int:
        """Number of rows without a prediction."""
        return sum(not row.status.scored for row in self.rows)


def score_batch(
    scorer: ClipScorer,
    items: Sequence[Item],
    out: Path,
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Batch:
    """Score all items and write the results to `out`, each file completely or not at all.

    Args:
        out: folder of the results; created if needed; older results are replaced.
        store_root: the workspace's `store` folder, which keeps rows between runs.
        progress: called with (rows done, all rows).
    Raises:
        StoreError: `out` or the store cannot be written; raised before any clip is read.
    """
    _check_writable(out)
    rows = RowStore(store_root)
    found: dict[int, ClipScore] = {}
    items = [replace(item, digest=_digest(item, scorer.limits)) for item in items]
    for place, item in enumerate(items):
        row = rows.get(scorer.key_of(item.clip, item.digest)) if item.digest else None
        if row is not None:
            found[place] = _named(row, item.clip)
    remembered = len(found)
    if progress:
        progress(remembered, len(items))
    todo = [place for place in range(len(items)) if place not in found]
    for place, row in zip(todo, scorer.score_many([items[p] for p in todo]), strict=True):
        found[place] = row
        if row.status in _KEPT and row.digest:
            rows.put(scorer.key_of(items[place].clip, row.digest), row)
        if progress:
            progress(len(found), len(items))
    named = (
        replace(found[place], seen_in_training=scorer.seen_in_training(item.clip)) for place, item in enumerate(items)
    )
    batch = Batch(tuple(named), out, remembered)
    write_explanations(batch.rows, out)
    write_tables(batch.rows, scorer, out)
    counts = ", ".join(f"{n} {s}" for s, n in batch.counts.items())
    log.info("%d rows (%s) in %s; %s", len(batch.rows), counts, out, batch.agreement.sentence)
    return batch


class RowStore:
    """Rows by key, under `<workspace>/store/verdicts`.

    Args:
        store_root: the workspace's `store` folder.
    """

    def __init__(self, store_root: Path) -> None:
        self.entries = EntryStore(store_root, "verdicts")

    def put(self, key: str, row: ClipScore) -> None:
        """Store a row. Raises StoreError if it cannot be written."""
        k = len(row.classes)
        ledger = row.ledger or Ledger(np.empty(0), np.empty(0), (), np.empty((0, 4)), np.empty(0))
        arrays = {
            "frame": ledger.frame,
            "time_s": ledger.time_s,
            "box": ledger.box,
            "weight": ledger.weight,
            "frame_scores": np.empty((0, k)) if row.frame_scores is None else row.frame_scores,
            "frame_shares": np.empty(0) if row.frame_shares is None else row.frame_shares,
            "probabilities": np.empty(0) if row.probabilities is None else row.probabilities,
            **_window_arrays(row.windows),
            "thumbnail": np.frombuffer(row.thumbnail, dtype=np.uint8),
            "explanation": np.frombuffer(row.explanation, dtype=np.uint8),
        }
        note = {
            "status": row.status,
            "reason": row.reason,
            "classes": list(row.classes),
            "emotion": row.emotion,
            "abstained": row.abstained,
            "frames": [row.n_used, row.n_selected, row.n_frames],
            "flags": list(row.flags),
            "digest": row.digest,
            "decisive": list(row.decisive),
            "ledger": None if row.ledger is None else [s.value for s in row.ledger.status],
            "duration_s": row.duration_s,
            "processing_s": row.processing_s,
        }
        self.entries.put(key, arrays, note)

    def get(self, key: str) -> ClipScore | None:
        """Return the row of `key`, without the clip's name; None if there is none."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        arrays, note = entry
        return ClipScore(
            clip="",
            path="",
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
            ledger=_ledger(arrays, note),
            frame_scores=arrays["frame_scores"] if len(arrays["frame_scores"]) else None,
            frame_shares=arrays["frame_shares"] if len(arrays["frame_shares"]) else None,
            windows=_windows(arrays),
            thumbnail=arrays["thumbnail"].tobytes(),
            decisive=tuple(note["decisive"]),
            explanation=arrays["explanation"].tobytes(),
            duration_s=note["duration_s"],
            processing_s=note["processing_s"],
        )


def _named(row: ClipScore, clip: Clip) -> ClipScore:
    """Return a stored row as the row of `clip`, which has the same content."""
    return replace(
        row,
        clip=clip.id,
        path=str(clip.path),
        label=clip.emotion,
        subject=clip.subject,
        dataset=clip.dataset,
        groups=clip.groups,
    )


_WINDOWS = tuple(field.name for field in fields(Windows))


def _window_arrays(windows: Windows | None) -> dict[str, np.ndarray]:
    """Return the arrays under which windows are stored; none without windows."""
    return {} if windows is None else {f"windows.{name}": getattr(windows, name) for name in _WINDOWS}


def _windows(arrays: dict[str, np.ndarray]) -> Windows | None:
    return Windows(**{n: arrays[f"windows.{n}"] for n in _WINDOWS}) if "windows.start_s" in arrays else None


def _ledger(arrays: dict[str, np.ndarray], note: dict[str, Any]) -> Ledger | None:
    if note["ledger"] is None:
        return None
    status = tuple(FrameStatus(s) for s in note["ledger"])
    return Ledger(arrays["frame"], arrays["time_s"], status, arrays["box"], arrays["weight"])


def _digest(item: Item, limits: LimitsConfig) -> str:
    """Return the content digest; empty if the file may not be opened (the scorer then reports the reason)."""
    if item.refused is not None:
        return ""
    try:
        admit(item.clip.path, limits, item.root)
        return clip_digest(item.clip.path)
    except (ClipError, OSError):
        return ""


def new_folder(parent: Path) -> Path:
    """Create a new folder in `parent`, named by date and time.

    Raises:
        StoreError: it cannot be created.
    """
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    for place in itertools.count(1):
        folder = parent / (name if place == 1 else f"{name}_{place}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as exc:
            raise StoreError(f"cannot make {folder} ({exc.strerror or exc}); choose another with --out") from exc
    raise AssertionError("unreachable")


def _check_writable(out: Path) -> None:
    probe = out / f".probe-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        raise StoreError(f"cannot write results to {out} ({exc.strerror or exc}); choose another with --out") from exc
