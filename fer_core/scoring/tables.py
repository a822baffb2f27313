"""Write the tables of a batch: `verdicts` as CSV, Parquet and JSON, `frames` and `windows` as CSV and Parquet.

`docs/outputs.md` explains every column; a test compares it with the columns that are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pyarrow as pa

from fer_core.emotions import Classes
from fer_core.preprocess.frame_table import frame_table, open_table
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.inputs import printable
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.windows_table import windows_table
from fer_core.store import publish, write_atomic

_PIECE_ROWS, _PIECE_FRAMES = 1000, 100_000  # most rows, and most frames of them, that are in memory at a time
SUFFIXES = (".csv", ".parquet")


def write_tables(rows: Iterable[ClipScore], scorer: ClipScorer, out: Path, groups: Collection[str] = ()) -> None:
    """Write the tables and explanations into `out`, each file completely or not at all.

    The rows are read once and do not stay in memory.

    Args:
        groups: names of the `group_*` columns, without the prefix.
    Raises:
        StoreError: a file cannot be written.
    """
    columns, synthetic = sorted(groups), scorer.bundle.facts.synthetic
    schema = verdict_schema(scorer.classes, columns)
    tables: dict[str, Callable[[Sequence[ClipScore]], pa.Table]] = {
        "frames": lambda some: _frames(some, scorer.classes),
        "windows": lambda some: windows_table(some, scorer.classes, synthetic),
    }
    if not scorer.in_windows:
        del tables["windows"]
        for suffix in SUFFIXES:
            (out / f"windows{suffix}").unlink(missing_ok=True)  # of an older batch
    with ExitStack() as opened:
        append_verdicts = _open(opened, out / "verdicts", schema)
        append_json = opened.enter_context(_open_json(out / "verdicts.json"))
        appended = {name: _open(opened, out / name, make([]).schema) for name, make in tables.items()}
        for piece in _pieces(rows):
            records = [record(row, scorer, columns) for row in piece]
            append_verdicts(pa.Table.from_pylist(records, schema=schema))
            append_json(records)
            for name, append in appended.items():
                append(tables[name](piece))
            write_explanations(piece, out)


def write_verdicts(records: Sequence[dict[str, Any]], schema: pa.Schema, out: Path) -> None:
    """Write `verdicts.csv` and `verdicts.parquet` into `out`. Raises StoreError if this fails.

    Args:
        records: rows as column -> value; a column that a row lacks is empty.
        schema: the columns, in order.
    """
    with ExitStack() as opened:
        _open(opened, out / "verdicts", schema)(pa.Table.from_pylist(list(records), schema=schema))


def _open(opened: ExitStack, path: Path, schema: pa.Schema) -> Callable[[pa.Table], None]:
    """Open a table as CSV and as Parquet until `opened` is closed, and return a function that appends to both."""
    both = [opened.enter_context(open_table(path.with_suffix(suffix), schema)) for suffix in SUFFIXES]

    def append(table: pa.Table) -> None:
        for one in both:
            one(table)

    return append


@contextmanager
def _open_json(path: Path) -> Iterator[Callable[[Sequence[dict[str, Any]]], None]]:
    """Yield a function that appends records to a JSON list; the file appears complete at the end, or not at all."""
    with publish(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        before = "["

        def append(records: Sequence[dict[str, Any]]) -> None:
            nonlocal before
            for values in records:
                file.write(f"{before}\n{indent(json.dumps(values, indent=1), ' ')}")
                before = ","

        yield append
        file.write("[]" if before == "[" else "\n]")


def _pieces(rows: Iterable[ClipScore]) -> Iterator[list[ClipScore]]:
    """Yield the rows in lists of limited size."""
    piece: list[ClipScore] = []
    frames = 0
    for row in rows:
        piece.append(row)
        frames += len(row.ledger or ()) + len(row.looked_at or ())
        if len(piece) == _PIECE_ROWS or frames >= _PIECE_FRAMES:
            yield piece
            piece, frames = [], 0
    if piece:
        yield piece


def write_explanations(rows: Iterable[ClipScore], out: Path) -> None:
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
