from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest

from fer_core.errors import StoreError
from fer_core.housekeeping.backup import back_up, restore


@pytest.fixture
def place(tmp_path):
    root = tmp_path / "workspace"
    for folder in ("artifacts/1", "store/faces", "servers", "prefect"):
        (root / folder).mkdir(parents=True)
    (root / "artifacts/1/model.bin").write_bytes(b"weights")
    (root / "store/faces/a.safetensors").write_bytes(b"faces")
    (root / "servers/credentials").write_text("secret")
    (root / "servers.json").write_text("{}")
    (root / "store/.tmp-1").write_bytes(b"half")
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE runs (name TEXT)")
        database.execute("INSERT INTO runs VALUES ('first')")
    return root


def test_what_is_restored_is_what_was_there_without_secrets(place, tmp_path):
    note = back_up(place, tmp_path / "copy", {})
    assert set(note.files) == {"artifacts/1/model.bin", "store/faces/a.safetensors", "mlflow.db"}
    restore(tmp_path / "copy", tmp_path / "new", {})
    assert (tmp_path / "new/artifacts/1/model.bin").read_bytes() == b"weights"
    assert sqlite3.connect(tmp_path / "new/mlflow.db").execute("SELECT name FROM runs").fetchall() == [("first",)]
    assert not (tmp_path / "new/servers").exists()
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0


def test_the_store_may_be_left_out(place, tmp_path):
    assert "store/faces/a.safetensors" not in back_up(place, tmp_path / "copy", {}, store=False).files


def test_a_database_in_use_is_copied_whole(place, tmp_path):
    """Each transaction writes two rows; a copy has both or none, also with a write-ahead log."""
    stop = threading.Event()

    def write():
        with closing(sqlite3.connect(place / "mlflow.db", timeout=30)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            n = 0
            while not stop.is_set():
                with database:
                    database.executemany("INSERT INTO runs VALUES (?)", [(f"a{n}",), (f"b{n}",)])
                n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(5):
            back_up(place, tmp_path / f"copy-{n}", {})
    finally:
        stop.set()
        writer.join()
    for n in range(5):
        restore(tmp_path / f"copy-{n}", tmp_path / f"new-{n}", {})
        with closing(sqlite3.connect(tmp_path / f"new-{n}" / "mlflow.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("SELECT count(*) FROM runs").fetchone()[0] % 2 == 1


def test_a_damaged_or_foreign_folder_is_not_restored(place, tmp_path):
    with pytest.raises(StoreError, match="is no backup of ferflow"):
        restore(place, tmp_path / "new", {})
    back_up(place, tmp_path / "copy", {})
    (tmp_path / "copy/workspace/artifacts/1/model.bin").write_bytes(b"changed")
    with pytest.raises(StoreError, match=r"model\.bin is not the file that was backed up"):
        restore(tmp_path / "copy", tmp_path / "new", {})


def test_a_backup_that_names_a_place_outside_is_refused(place, tmp_path):
    back_up(place, tmp_path / "copy", {})
    note = tmp_path / "copy/backup.json"
    note.write_text(note.read_text().replace("artifacts/1/model.bin", "../model.bin"))
    with pytest.raises(StoreError, match="outside of a workspace"):
        restore(tmp_path / "copy", tmp_path / "new", {})


def test_nothing_is_overwritten(place, tmp_path):
    back_up(place, tmp_path / "copy", {})
    for target in (tmp_path / "copy", place / "inside"):
        with pytest.raises(StoreError, match="name a new folder outside of it"):
            back_up(place, target, {})
    with pytest.raises(StoreError, match="is not empty"):
        restore(tmp_path / "copy", place, {})


def test_postgresql_is_dumped_and_filled(place, tmp_path, postgres):
    import sqlalchemy

    from fer_core.databases import make_database

    there, here = postgres.create("there"), postgres.url("here again")
    with sqlalchemy.create_engine(there).begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE trials AS SELECT 7 AS number"))
    back_up(place, tmp_path / "copy", {"optuna": there})
    with pytest.raises(StoreError, match=r"holds PostgreSQL databases \(optuna\); name where they go"):
        restore(tmp_path / "copy", tmp_path / "new", {})
    make_database(here, "search.storage", StoreError)
    restore(tmp_path / "copy", tmp_path / "new", {"optuna": here})
    with sqlalchemy.create_engine(here).connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT number FROM trials")).scalar() == 7
    with pytest.raises(StoreError, match=r"pg_restore .* failed .*must be empty"):
        restore(tmp_path / "copy", tmp_path / "again", {"optuna": here})


def test_a_database_that_is_away_fails_the_backup_and_leaves_none(place, tmp_path):
    with pytest.raises(StoreError, match=r"pg_dump .*failed"):
        back_up(place, tmp_path / "copy", {"mlflow": "postgresql+psycopg://fer@127.0.0.1:9/x"})
    assert not (tmp_path / "copy").exists()
