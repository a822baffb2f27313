from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pyarrow.parquet as pq
import pytest

from fer_core.errors import StoreError
from fer_core.scoring import tables
from fer_core.scoring.batch import score_batch
from fer_core.scoring.inputs import collect
from fer_core.scoring.row_store import RowStore
from fer_core.scoring.tally import LISTED, Tally


@pytest.fixture(scope="module")
def batch(scorer, videos, store_root, tmp_path_factory):
    return score_batch(scorer, collect([videos, videos / "good.mp4"]), tmp_path_factory.mktemp("out"), store_root)


def test_rows_are_a_sequence_in_the_order_of_the_items(batch):
    names = [row.clip for row in batch.rows]
    assert len(batch.rows) == len(names) == 9 and [batch.rows[i].clip for i in range(9)] == names
    assert batch.rows[-1].clip == names[-1] and [row.clip for row in batch.rows[2:5]] == names[2:5]
    with pytest.raises(IndexError):
        batch.rows[9]


def test_row_that_is_removed_meanwhile_is_an_error_that_says_what_to_do(batch, store_root, scorer):
    entries = RowStore(store_root).entries
    (row,) = {row.digest: row for row in batch.rows if row.clip.endswith("good.mp4")}.values()
    path = entries.path(scorer.key(row.digest))
    kept = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(StoreError, match=r"good\.mp4' was removed from the store .*; score the batch again"):
            list(batch.rows)
    finally:
        path.write_bytes(kept)
    assert len(list(batch.rows)) == 9


def test_tables_of_many_pieces_are_those_of_one_and_few_rows_are_in_memory(batch, scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_PIECE_ROWS", 4)
    alive, most = [], 0

    def passing():
        nonlocal most
        for row in (row for _ in range(5) for row in batch.rows):
            alive.append(weakref.ref(row))
            most = max(most, sum(ref() is not None for ref in alive))
            yield row

    tables.write_tables(passing(), scorer, tmp_path)
    assert len(alive) == 45 and most <= 2 * 4 + 1  # the piece that is written, the next one, and one on its way
    assert pq.ParquetFile(tmp_path / "verdicts.parquet").num_row_groups == 12
    for name, read in (("verdicts.csv", pd.read_csv), ("frames.csv", pd.read_csv), ("verdicts.json", pd.read_json)):
        pd.testing.assert_frame_equal(read(tmp_path / name), pd.concat([read(batch.out / name)] * 5, ignore_index=True))
    for name in ("verdicts.parquet", "frames.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / name), pd.concat([pd.read_parquet(batch.out / name)] * 5, ignore_index=True)
        )


def test_a_piece_ends_when_its_frames_are_many(batch, monkeypatch):
    monkeypatch.setattr(tables, "_PIECE_FRAMES", 10)
    pieces = list(tables._pieces(batch.rows))
    frames = [[len(row.ledger or ()) for row in piece] for piece in pieces]
    assert all(sum(piece[:-1]) < 10 for piece in frames) and all(sum(a) >= 10 for a, _ in pairwise(frames))


def test_an_empty_batch_has_empty_tables(scorer, tmp_path):
    tables.write_tables([], scorer, tmp_path)
    assert (tmp_path / "verdicts.json").read_text() == "[]" and pd.read_parquet(tmp_path / "frames.parquet").empty


def test_reasons_are_kept_for_the_first_rows_only(batch):
    (row,) = [row for row in batch.rows if row.status == "no_face"]
    tally = Tally.of(replace(row, clip=f"c{i}") for i in range(LISTED + 5))
    assert tally.unscored == LISTED + 5 and len(tally.failed) == LISTED and tally.failed[0][:2] == ("c0", row.status)
