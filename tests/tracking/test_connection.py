from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from fer_core.config import TrackingConfig
from fer_core.errors import TrackingError
from fer_core.tracking.connection import check_name, check_schema, connect, without_secrets
from fer_core.tracking.run import start_run


def test_default_keeps_everything_in_the_workspace(tracking, tracking_workspace):
    assert tracking.uri == f"sqlite:///{tracking_workspace}/mlflow.db"
    assert (tracking_workspace / "mlflow.db").is_file()
    location = tracking.client.get_experiment(tracking.experiment_id).artifact_location
    assert location.startswith((tracking_workspace / "artifacts").as_uri())


def test_connecting_twice_finds_the_same_experiment(tracking, tracking_workspace):
    assert connect(TrackingConfig(), tracking_workspace).experiment_id == tracking.experiment_id


def test_a_kill_while_the_tables_are_made_does_no_harm(tmp_path):
    (tmp_path / ".new-mlflow.db").write_bytes(b"half of a database")
    first = connect(TrackingConfig(), tmp_path)
    assert first.client.get_experiment(first.experiment_id).name == "face-emotion"
    assert not list(tmp_path.glob(".new-*"))


@pytest.mark.slow
def test_two_processes_make_one_database(tmp_path):
    code = (
        "from pathlib import Path; from fer_core.config import TrackingConfig;"
        "from fer_core.tracking.connection import connect;"
        f"print(connect(TrackingConfig(), Path({str(tmp_path)!r})).experiment_id)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]


def test_fault_90_server_that_is_away_is_told_in_time(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(TrackingError, match=rf"127.0.0.1:{port} does not answer .*; start it \('ferflow up'\)"):
        connect(TrackingConfig(uri=f"http://127.0.0.1:{port}"), tmp_path)
    assert time.monotonic() - started < 5


def test_fault_90_server_that_accepts_but_never_answers_is_told_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_core.tracking.connection.PROBE_S", 1.0)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        started = time.monotonic()
        with pytest.raises(TrackingError, match="does not answer"):
            connect(TrackingConfig(uri=f"http://127.0.0.1:{mute.getsockname()[1]}"), tmp_path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "databricks", "mysql://u@h/d"])
def test_uris_of_another_kind_are_refused(tmp_path, uri):
    with pytest.raises(TrackingError, match="of no kind known here"):
        connect(TrackingConfig(uri=uri), tmp_path)


def test_a_database_that_is_away_is_one_sentence_within_seconds(tmp_path):
    started = time.monotonic()
    with pytest.raises(TrackingError, match=r"tracking\.uri postgresql\S+ cannot be reached .*refused.*start it"):
        connect(TrackingConfig(uri="postgresql://fer@127.0.0.1:9/mlflow"), tmp_path)
    assert time.monotonic() - started < 10


def test_artifacts_of_a_workspace_on_postgresql_lie_in_the_workspace(postgres, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    uri = postgres.create("tracking").replace("+psycopg", "")
    tracking = connect(TrackingConfig(uri=uri), workspace)
    with start_run(tracking, "run") as run:
        tracking.client.log_text(run.id, "text", "note.txt")
    assert len(list(workspace.glob("artifacts/face-emotion/*/artifacts/note.txt"))) == 1
    assert not list((tmp_path / "here").iterdir())


def test_a_restart_of_postgresql_is_outlived(postgres, tmp_path):
    tracking = connect(TrackingConfig(uri=postgres.create("restarted")), tmp_path)
    with start_run(tracking, "run") as run:
        postgres.stop()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(run.log_metrics, {"loss": 0.5})
            time.sleep(0.5)
            postgres.start()
            waiting.result()
    found = tracking.client.get_run(run.id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.5})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://u:p@db:5432/x", "postgresql+psycopg://***@db:5432/x"),
        (
            "postgresql://db/x?user=u&password=p&sslmode=require",
            "postgresql://db/x?user=u&password=***&sslmode=require",
        ),
        ("sqlite:////ws/mlflow.db", "sqlite:////ws/mlflow.db"),
        ("plain @ text", "plain @ text"),
    ],
)
def test_fault_114_secrets_are_cut_out_of_urls(url, shown):
    assert without_secrets(url) == shown


def test_deleted_experiment_is_told_with_the_remedy(tracking, tracking_workspace):
    cfg = TrackingConfig(experiment="given up")
    gone = connect(cfg, tracking_workspace)
    gone.client.delete_experiment(gone.experiment_id)
    with pytest.raises(TrackingError, match="experiment 'given up' was deleted; restore it"):
        connect(cfg, tracking_workspace)


@pytest.mark.parametrize(
    "name", ["a/b", "..", "a..b", "a\0b", "a\nb", "%2e%2e", "\\x", "x" * 10_000, "", " a", "-a", "\x1b[31m"]
)
def test_fault_104_names_that_could_mean_a_path_are_refused(name):
    with pytest.raises(TrackingError, match="is not accepted; use letters") as caught:
        check_name(name, "run")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["face-emotion", "trial 3", "thesis-4 (Table 4.1, lr=0.005)", "Ängste_2"])
def test_ordinary_names_are_accepted(name):
    assert check_name(name, "run") == name


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("0123456789ab", "made by another, probably newer MLflow .* install the MLflow that made it"),
        ("451aebb31d03", "made by an older MLflow .* then run: mlflow db upgrade sqlite:///"),
    ],
)
def test_a_database_of_another_mlflow_is_told_with_the_remedy(tmp_path, schema, message):
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES (?)", (schema,))
    with pytest.raises(TrackingError, match=message):
        check_schema(tmp_path)


def test_the_database_of_the_installed_mlflow_is_accepted(tmp_path):
    assert check_schema(tmp_path) == ""
    connect(TrackingConfig(), tmp_path)
    assert check_schema(tmp_path)
