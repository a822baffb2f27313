"""Write the ledgers of many clips as one table, with a row for every selected frame, used or not."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fer_core.clips.cells import shown_cell
from fer_core.errors import ConfigError
from fer_core.preprocess.faces import Ledger
from fer_core.preprocess.landmarks import MEASURES
from fer_core.store import publish, writable_place

SUFFIXES = (".parquet", ".csv")
_BOX = ("x", "y", "width", "height")


def frame_table(ledgers: Iterable[tuple[str, Ledger]]) -> pa.Table:
    """Return a table with one row per selected frame.

    Its columns are clip, frame (counted from 0), time_s (null where unknown), status, used, x, y, width, height (pixels
    of the face box), weight, and the geometry of the landmarks (`landmarks.measures`); box, weight and geometry are
    null where there is no face, the geometry also where landmarks were not looked for.

    Args:
        ledgers: (clip id, its ledger).
    """
    names: list[str] = []
    status: list[str] = []
    columns = ("frame", "time_s", "used", "box", "weight", "measures")
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    for name, ledger in ledgers:
        names += [name] * len(ledger)
        status += [s.value for s in ledger.status]
        for column, pieces in numbers.items():
            known = getattr(ledger, column)
            pieces.append(np.full((len(ledger), len(MEASURES)), np.nan) if known is None else known)
    empty = {"frame": (0,), "time_s": (0,), "used": (0,), "box": (0, 4), "weight": (0,), "measures": (0, len(MEASURES))}
    whole = {c: np.concatenate([np.empty(empty[c]), *pieces]) for c, pieces in numbers.items()}
    no_box = whole["box"][:, 2] == 0
    return pa.table(
        {
            "clip": pa.array(names, pa.string()),
            "frame": pa.array(whole["frame"].astype(np.int32)),
            "time_s": pa.array(whole["time_s"].astype(np.float32), from_pandas=True),
            "status": pa.array(status, pa.string()),
            "used": pa.array(whole["used"].astype(bool)),
            **{side: pa.array(whole["box"][:, i].astype(np.int32), mask=no_box) for i, side in enumerate(_BOX)},
            "weight": pa.array(whole["weight"].astype(np.float32), mask=no_box),
            **{
                name: pa.array(whole["measures"][:, i].astype(np.float32), from_pandas=True)
                for i, name in enumerate(MEASURES)
            },
        }
    )


def check_table_path(path: Path) -> None:
    """Check, before any work is done, that a table can be written to `path`.

    Raises:
        ConfigError: the suffix is neither .parquet nor .csv.
        StoreError: the place cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"table {path} must end in {' or '.join(SUFFIXES)}, but ends in '{path.suffix}'")
    writable_place(path)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet or CSV, by the suffix of `path`; the file appears complete or not at all.

    Raises:
        ConfigError: the suffix is neither .parquet nor .csv.
        StoreError: the file cannot be written.
    """
    with open_table(path, table.schema) as append:
        append(table)


@contextlib.contextmanager
def open_table(path: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], None]]:
    """Yield a function that appends rows to a new table at `path`, Parquet or CSV by its suffix.

    The file appears complete at the end, or not at all. Rows that were appended do not stay in memory.

    Args:
        schema: the columns; every appended table has them.
    Raises:
        ConfigError: the suffix is neither .parquet nor .csv.
        StoreError: the file cannot be written.
    """
    check_table_path(path)
    with publish(path) as temporary:
        if path.suffix.lower() == ".parquet":
            with pq.ParquetWriter(temporary, schema) as parquet:
                yield parquet.write_table
            return
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(schema.names)
            yield lambda table: _append(table, writer.writerow)


def _append(table: pa.Table, write: Callable[[list[str]], object]) -> None:
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        write([_cell(value) for value in row])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else shown_cell(str(value))
