"""Write the tables of a batch: `verdicts` as CSV, Parquet and JSON, `frames` and `windows` as CSV and Parquet.

`docs/outputs.md` explains every column; a test compares it with the columns that are written.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fer_core.clips.cells import shown_cell
from fer_core.emotions import Classes
from fer_core.preprocess.frame_table import frame_table, write_table
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.inputs import printable
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.windows_table import windows_table
from fer_core.store import write_atomic


def write_tables(rows: Sequence[ClipScore], scorer: ClipScorer, out: Path) -> None:
    """Write the tables into `out`, each completely or not at all. Raises StoreError if this fails."""
    groups = tuple(sorted({name for row in rows for name in row.groups}))
    records = [record(row, scorer, groups) for row in rows]
    write_verdicts(records, verdict_schema(scorer.classes, groups), out)
    write_atomic(out / "verdicts.json", json.dumps(records, indent=1).encode())
    frames = _frames(rows, scorer.classes)
    for name in ("frames.csv", "frames.parquet"):
        write_table(frames, out / name)
    for name in ("windows.csv", "windows.parquet"):
        (out / name).unlink(missing_ok=True)  # of an older batch
        if scorer.in_windows:
            write_table(windows_table(rows, scorer.classes, scorer.bundle.facts.synthetic), out / name)


def write_verdicts(records: Sequence[dict[str, Any]], schema: pa.Schema, out: Path) -> None:
    """Write `verdicts.csv` and `verdicts.parquet` into `out`. Raises StoreError if this fails.

    Args:
        records: rows as column -> value; a column that a row lacks is empty.
        schema: the columns, in order.
    """
    write_atomic(out / "verdicts.csv", _csv(records, schema.names).encode())
    write_table(pa.Table.from_pylist(list(records), schema=schema), out / "verdicts.parquet")


def write_explanations(rows: Sequence[ClipScore], out: Path) -> None:
    """Write the explanations of all clips that have one. Raises StoreError if this fails."""
    for row in rows:
        if row.explanation:
            write_atomic(out / _explanation(row), row.explanation)


def _explanation(row: ClipScore) -> str:
    """Return the path in the results folder, named by content, because names of clips may not be valid file names."""
    person = f"-{row.person}" if row.person > 1 else ""
    return f"explanations/{row.digest[:16]}{person}.jpg" if row.explanation else ""


def record(row: ClipScore, scorer: ClipScorer, groups: Sequence[str] = ()) -> dict[str, Any]:
    """Return a row as column -> value; None for a missing value.

    Args:
        groups: the `group_*` columns of the batch, without the prefix.
    """
    probabilities = [None] * len(row.classes) if row.probabilities is None else row.probabilities.tolist()
    return {
        "clip": printable(row.clip),
        "person": row.person,
        "path": printable(row.path),
        "subject": printable(row.subject) or None,
        "dataset": printable(row.dataset) or None,
        **{f"group_{name}": row.groups.get(name) for name in groups},
        "label": row.label and str(row.label),
        "seen_in_training": row.seen_in_training,
        "status": row.status.value,
        "emotion": row.emotion and str(row.emotion),
        "confidence": None if np.isnan(row.confidence) else row.confidence,
        **{str(c): p for c, p in zip(row.classes, probabilities, strict=True)},
        "abstained": row.abstained,
        "frames_used": row.n_used,
        "frames_selected": row.n_selected,
        "frames_total": row.n_frames,
        "duration_s": row.duration_s or None,
        "fps": None if np.isnan(row.fps) else row.fps,
        "flags": " ".join(row.flags),
        "reason": printable(row.reason),
        "rule": scorer.joined_by,
        "model": scorer.name,
        "model_version": scorer.version,
        "model_digest": scorer.bundle.digest,
        "synthetic_trained": scorer.bundle.facts.synthetic,
        "clip_digest": row.digest,
        "explanation": _explanation(row),
        "video": row.film,
        "processing_s": round(row.processing_s, 3),
    }


def _csv(records: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for values in records:
        writer.writerow([_cell(values.get(name)) for name in columns])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return shown_cell(value) if isinstance(value, str) else f"{value:.6g}"


def verdict_schema(classes: Classes, groups: Sequence[str] = ()) -> pa.Schema:
    """Return the columns of `verdicts.parquet` with their types."""
    text, number, count = pa.string(), pa.float64(), pa.int32()
    return pa.schema(
        [("clip", text), ("person", count), ("path", text), ("subject", text), ("dataset", text)]
        + [(f"group_{name}", text) for name in groups]
        + [("label", text), ("seen_in_training", pa.bool_()), ("status", text)]
        + [("emotion", text), ("confidence", number), *((str(c), number) for c in classes), ("abstained", pa.bool_())]
        + [(name, count) for name in ("frames_used", "frames_selected", "frames_total")]
        + [("duration_s", number), ("fps", number)]
        + [(name, text) for name in ("flags", "reason", "rule", "model", "model_version", "model_digest")]
        + [("synthetic_trained", pa.bool_())]
        + [("clip_digest", text), ("explanation", text), ("video", text), ("processing_s", number)]
    )


def _frames(rows: Sequence[ClipScore], classes: Classes) -> pa.Table:
    """Make the table with one row per selected frame; scores and weight are null for a frame that is not scored."""
    looked_at = [(row, row.ledger) for row in rows if row.ledger is not None]
    table = frame_table((printable(row.clip), ledger) for row, ledger in looked_at)
    people = [row.person for row, ledger in looked_at for _ in range(len(ledger))]
    table = table.add_column(1, "person", pa.array(people, pa.int32()))
    scores = np.full((len(table), len(classes)), np.nan)
    shares = np.full(len(table), np.nan)
    start = 0
    for row, ledger in looked_at:
        if row.frame_scores is not None:
            scores[start : start + len(ledger)][ledger.used] = row.frame_scores
            shares[start : start + len(ledger)][ledger.used] = row.frame_shares
        start += len(ledger)
    for column, emotion in enumerate(classes):
        table = table.append_column(str(emotion), pa.array(scores[:, column], type=pa.float32(), from_pandas=True))
    return table.append_column("share", pa.array(shares, type=pa.float32(), from_pandas=True))
