from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fer_core.errors import ConfigError
from fer_core.preprocess.faces import FrameStatus, Ledger
from fer_core.preprocess.frame_table import frame_table, write_table

LEDGER = Ledger(
    frame=np.array([3, 4, 5], np.int32),
    time_s=np.array([0.12, np.nan, 0.2], np.float32),
    status=(FrameStatus.USED, FrameStatus.DECODE_ERROR, FrameStatus.NO_FACE),
    box=np.array([[1, 2, 30, 40], [0, 0, 0, 0], [0, 0, 0, 0]], np.int32),
    weight=np.array([5.5, 0, 0], np.float32),
)


def test_every_selected_frame_has_its_row_and_unknown_is_null(tmp_path: Path) -> None:
    write_table(frame_table([("a", LEDGER), ("b", LEDGER)]), tmp_path / "frames.parquet")
    rows = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    assert [r["clip"] for r in rows] == ["a"] * 3 + ["b"] * 3
    assert [(r["frame"], r["used"], r["status"]) for r in rows[:3]] == [
        (3, True, "used"),
        (4, False, "decode_error"),
        (5, False, "no_face"),
    ]
    assert [rows[0][side] for side in ("x", "y", "width", "height")] == [1, 2, 30, 40]
    assert [rows[2][name] for name in ("x", "y", "width", "height", "weight")] == [None] * 5
    assert rows[1]["time_s"] is None and rows[0]["weight"] == 5.5


def test_csv_holds_the_same_and_no_formula(tmp_path: Path) -> None:
    write_table(frame_table([("=cmd()", LEDGER)]), tmp_path / "frames.csv")
    first, second, _ = csv.DictReader((tmp_path / "frames.csv").open())
    assert first["clip"] == "'=cmd()" and second["time_s"] == ""
    assert (first["time_s"], first["used"], second["used"], first["x"]) == ("0.12", "true", "false", "1")


def test_no_clips_make_an_empty_table_of_the_same_columns() -> None:
    assert frame_table([]).schema == frame_table([("a", LEDGER)]).schema


def test_another_end_of_the_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.parquet or \.csv, but ends in '\.xlsx'"):
        write_table(frame_table([]), tmp_path / "frames.xlsx")
