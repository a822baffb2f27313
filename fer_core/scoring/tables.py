"""Write the rows of a batch: `verdicts.csv` for reading, `verdicts.parquet` and `frames.parquet` for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fer_core.clips.cells import shown_cell
from fer_core.emotions import Classes
from fer_core.preprocess.frame_table import frame_table, write_table
from fer_core.scoring.inputs import printable
from fer_core.scoring.scorer import ClipScore, ClipScorer
from fer_core.store import write_atomic


def write_tables(rows: Sequence[ClipScore], scorer: ClipScorer, out: Path) -> None:
    """Write the three tables into `out`, each completely or not at all. Raises StoreError if this fails."""
    records = [record(row, scorer) for row in rows]
    write_atomic(out / "verdicts.csv", _csv(records).encode())
    write_table(pa.Table.from_pylist(records, schema=_verdict_schema(scorer.classes)), out / "verdicts.parquet")
    write_table(_frames(rows, scorer.classes), out / "frames.parquet")


def write_explanations(rows: Sequence[ClipScore], out: Path) -> None:
    """Write the explanations of all clips that have one. Raises StoreError if this fails."""
    for row in rows:
        if row.explanation:
            write_atomic(out / _explanation(row), row.explanation)


def _explanation(row: ClipScore) -> str:
    """Return the path in the results folder, named by content, because names of clips may not be valid file names."""
    return f"explanations/{row.digest[:16]}.jpg" if row.explanation else ""


def record(row: ClipScore, scorer: ClipScorer) -> dict[str, Any]:
    """Return a row as column -> value; None for a missing value."""
    probabilities = [None] * len(row.classes) if row.probabilities is None else row.probabilities.tolist()
    return {
        "clip": printable(row.clip),
        "path": printable(row.path),
        "label": row.label and str(row.label),
        "trained_on": row.trained_on,
        "status": row.status.value,
        "emotion": row.emotion and str(row.emotion),
        "confidence": None if np.isnan(row.confidence) else row.confidence,
        **{str(c): p for c, p in zip(row.classes, probabilities, strict=True)},
        "abstained": row.abstained,
        "frames_used": row.n_used,
        "frames_selected": row.n_selected,
        "frames_total": row.n_frames,
        "flags": " ".join(row.flags),
        "reason": printable(row.reason),
        "rule": scorer.joined_by,
        "model": scorer.name,
        "model_version": scorer.version,
        "model_digest": scorer.bundle.digest,
        "clip_digest": row.digest,
        "explanation": _explanation(row),
        "seconds": round(row.seconds, 3),
    }


def _csv(records: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records[0])
    for values in records:
        writer.writerow([_cell(value) for value in values.values()])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return shown_cell(value) if isinstance(value, str) else f"{value:.6g}"


def _verdict_schema(classes: Classes) -> pa.Schema:
    text, number, count = pa.string(), pa.float64(), pa.int32()
    return pa.schema(
        [("clip", text), ("path", text), ("label", text), ("trained_on", pa.bool_()), ("status", text)]
        + [("emotion", text), ("confidence", number), *((str(c), number) for c in classes), ("abstained", pa.bool_())]
        + [(name, count) for name in ("frames_used", "frames_selected", "frames_total")]
        + [(name, text) for name in ("flags", "reason", "rule", "model", "model_version", "model_digest")]
        + [("clip_digest", text), ("explanation", text), ("seconds", number)]
    )


def _frames(rows: Sequence[ClipScore], classes: Classes) -> pa.Table:
    """Make the table with one row per selected frame; scores and weight are null for a frame that is not scored."""
    looked_at = [(row, row.ledger) for row in rows if row.ledger is not None]
    table = frame_table((printable(row.clip), ledger) for row, ledger in looked_at)
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
