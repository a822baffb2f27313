"""Whole searches, as they are typed, where something they stand on gives way in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.proxy import relayed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SETTINGS = (
    "preprocess.max_frames=2", "search.folds=3", "search.trials=4", "search.models=[head]", "split.test=0",
    "train.epochs=6", "train.widths=[16]",
)  # fmt: skip
BEGUN = "studies/*/trial-0001"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, ferflow: str) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "clips"
    subprocess.run([ferflow, "data", "synth", str(folder), "--subjects", "6"], check=True, capture_output=True)
    return folder / "manifest.csv"


def search_of(ferflow: str, manifest: Path, workspace: Path, *more: str) -> list[str]:
    settings = [word for setting in (*SETTINGS, f"manifest={manifest}", *more) for word in ("--set", setting)]
    return [ferflow, "search", "--json", "--workspace", str(workspace), *settings]


def interrupted(command: list[str], workspace: Path, interrupt: Callable[[], None]) -> tuple[int, str, str]:
    """Run a search and call `interrupt` once its second trial has begun: exit code, stdout, stderr."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not any(workspace.glob(BEGUN)):
                assert process.poll() is None, process.communicate()
                time.sleep(0.1)
            interrupt()
            out, err = process.communicate(timeout=900)
        finally:
            process.kill()
    return process.returncode, out, err


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Write until not a byte is free."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (65536, 512):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_fault_83_a_search_on_a_full_disk_ends_in_one_sentence_and_goes_on_later(ferflow, manifest, tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        command = search_of(ferflow, manifest, disk)
        code, out, err = interrupted(command, disk, lambda: fill(disk))
        assert code == 1 and "Traceback" not in err, err
        told = json.loads(out)["error"]
        assert "is full" in told or "No space left" in told
        assert "goes on" in told and "free some space" in told
        done = {path: path.read_bytes() for path in disk.glob("studies/*/*/result.json")}
        (disk / "filler").unlink()
        again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["trials"] == 4
        assert all(path.read_bytes() == result for path, result in done.items()), "what was done stands"


def test_fault_93_a_search_on_postgresql_outlives_a_restart_without_a_password(ferflow, manifest, postgres, tmp_path):
    """Trials in Optuna's database, runs in MLflow's: both are away for some seconds while trials run."""
    listed: list[str] = []

    def restart() -> None:
        listed.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)
        postgres.stop()
        time.sleep(3)
        postgres.start()

    workspace = tmp_path / "workspace"
    storage, tracking = postgres.create("whole_optuna"), postgres.create("whole_mlflow")
    command = search_of(ferflow, manifest, workspace, f"search.storage={storage}", f"tracking.uri={tracking}")
    code, out, err = interrupted(command, workspace, restart)
    assert code == 0 and "Traceback" not in err, err
    found = json.loads(out)
    assert found["trials"] == 4

    from mlflow import MlflowClient

    client = MlflowClient(tracking)
    runs = client.search_runs([client.get_experiment_by_name("face-emotion").experiment_id])
    assert len(runs) == 5 and all(run.info.status in ("FINISHED", "KILLED") for run in runs)
    assert Path(found["trial"]).is_relative_to(workspace)
    made = [path.read_bytes() for path in workspace.rglob("*") if path.is_file()]
    password = os.environ["PGPASSWORD"]
    assert not any(password in text for text in (out, err, *listed))
    assert not any(password.encode() in content for content in made), "Prefect's parameters are in its database there"


def test_fault_92_a_search_and_a_training_without_the_server_are_sent_by_sync(ferflow, manifest, tmp_path, mlflow_url):
    """Offline, with the trials in their own processes: afterwards MLflow has the runs, and the model is a version."""
    from mlflow import MlflowClient

    with relayed(mlflow_url) as relay:
        relay.down()
        own = (f"tracking.uri={relay.url}", "tracking.experiment=sent later", "tracking.model=sent-later")
        refused = subprocess.run(
            search_of(ferflow, manifest, tmp_path, *own), capture_output=True, text=True, check=False, timeout=60
        )
        assert refused.returncode == 1 and "does not answer" in json.loads(refused.stdout)["error"]
        command = [*search_of(ferflow, manifest, tmp_path, *own), "--offline"]
        searched = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert searched.returncode == 0, searched.stderr
        command[1:2] = ["train", "--trial", json.loads(searched.stdout)["trial"]]
        trained = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert trained.returncode == 0, trained.stderr
        assert json.loads(trained.stdout)["version"] == 0
        assert not (tmp_path / "mlflow.db").exists()
        relay.up()
        sync = [ferflow, "sync", "--json", "--workspace", str(tmp_path)]
        sync += [word for setting in own for word in ("--set", setting)]
        sent = subprocess.run(sync, capture_output=True, text=True, check=False, timeout=300)
        assert sent.returncode == 0, sent.stderr
        assert json.loads(sent.stdout)["versions"] == [1]
        client = MlflowClient(relay.url)
        runs = client.search_runs([client.get_experiment_by_name("sent later").experiment_id])
        assert len(runs) == 6 and all(run.info.status in ("FINISHED", "KILLED") for run in runs)
        [study] = [run.info.run_id for run in runs if run.data.tags["kind"] == "search"]
        trials = [run for run in runs if run.data.tags["kind"] == "trial"]
        assert [run.data.tags["mlflow.parentRunId"] for run in trials] == [study] * 4


def kill_session(leader: int) -> None:
    """SIGKILL for the command and all that it started."""
    for process in [*psutil.Process(leader).children(recursive=True), psutil.Process(leader)]:
        process.kill()


def doctor(ferflow: str, workspace: Path, *options: str) -> list[str]:
    """What `ferflow doctor` says of MLflow, Optuna and Prefect."""
    command = [ferflow, "doctor", *options, "--json", "--workspace", str(workspace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    findings = json.loads(done.stdout)["findings"]
    return [f["found"] for f in findings if f["what"] in ("MLflow", "Optuna", "Prefect", "after a crash")]


def test_fault_98_doctor_repairs_what_a_killed_search_left_and_it_goes_on(ferflow, manifest, tmp_path):
    command = search_of(ferflow, manifest, tmp_path)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not any(tmp_path.glob(BEGUN)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        kill_session(process.pid)
    named = doctor(ferflow, tmp_path)
    assert any("RUNNING, but the process has died" in text for text in named), named
    assert any("RUNNING without a process: trial" in text for text in named), named
    assert any("flow run 'search: " in text and "has not ended" in text for text in named), named
    assert doctor(ferflow, tmp_path) == named, "without --repair nothing is changed"
    repaired = doctor(ferflow, tmp_path, "--repair")
    for said in ("ended as KILLED", "is WAITING", "is Crashed"):
        assert any(said in text for text in repaired), repaired
    assert doctor(ferflow, tmp_path) == ["nothing is left running without a process"]
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["trials"] == 4
