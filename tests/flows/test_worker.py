"""A second machine takes flow runs from the work pool of the first, and each ends only its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fer_core.errors import ConfigError
from flows.serve import deployments, register
from flows.support import leftovers
from flows.support.joining import join
from flows.support.pool import TOKEN, Pool
from flows.support.unended import end_orphans
from mlflow_server.address import CREDENTIALS, MLFLOW_PASSWORD, MLFLOW_USER, PREFECT_AUTH
from tests.flows.test_cli import run
from tests.flows.test_cli_servers import ask, descendants, state_of, up, wait_for_state
from tests.mlflow_server.test_address import server
from tests.mlflow_server.test_supervise import alive, gone


@pytest.fixture
def deployed(prefect_server) -> Iterator:
    """(register the deployment `promote` in a pool, client)"""
    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    def register_in(pool: str):
        (deployment,) = deployments(["promote"])
        register(Runner(name="test"), deployment, pool)
        return client.read_deployment_by_name("promote/promote")

    with get_client(sync_client=True) as client:
        yield register_in, client
        client.delete_deployment(client.read_deployment_by_name("promote/promote").id)


def test_a_pool_is_offered_once_and_taken_back(deployed, workspace):
    from prefect.variables import Variable

    from flows.support.pool import VARIABLE, offer, withdraw

    register_in, _ = deployed
    (workspace / "servers").mkdir()
    for _ in range(2):  # a restart finds the pool there
        offer("lab", workspace)
        assert Pool.model_validate(Variable.get(VARIABLE)).is_at(workspace)
    assert register_in("lab").work_pool_name == "lab"
    assert register_in("").work_pool_name is None
    withdraw()
    assert Variable.get(VARIABLE) is None


def test_a_pool_of_another_kind_is_not_taken(prefect_server, workspace):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.support.pool import offer

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="cluster", type="kubernetes"))
    with pytest.raises(ValueError, match="work pool 'cluster' is of type kubernetes, not process; choose another"):
        offer("cluster", workspace)


def test_a_start_ends_the_runs_of_its_own_machine_only(deployed):
    """Without a worker's label, a run is one of `ferflow up` itself."""
    from prefect.states import Running

    register_in, client = deployed
    deployment = register_in("")
    left = {}
    for worker in ("", "here", "other"):
        left[worker] = client.create_flow_run_from_deployment(deployment.id, name=f"of {worker}").id
        client.set_flow_run_state(left[worker], Running(), force=True)
        if worker:
            client.request("PATCH", f"/flow_runs/{left[worker]}/labels", json={"prefect.worker.name": worker})
    assert sorted(end_orphans("here")) == ["of ", "of here"]
    states = {worker: client.read_flow_run(id_).state_type.value for worker, id_ in left.items()}
    assert states == {"": "CRASHED", "here": "CRASHED", "other": "RUNNING"}
    assert end_orphans("here") == []
    assert end_orphans("other") == ["of other"]


def test_doctor_names_and_ends_the_runs_of_a_worker_that_is_away(deployed, monkeypatch):
    from prefect.states import Running

    register_in, client = deployed
    run_id = client.create_flow_run_from_deployment(register_in("").id, name="long").id
    client.set_flow_run_state(run_id, Running(), force=True)
    client.request("PATCH", f"/flow_runs/{run_id}/labels", json={"prefect.worker.name": "gpu-1"})
    assert not list(leftovers._flow_runs())
    monkeypatch.setattr(leftovers, "_workers_away", lambda client: {"gpu-1"})
    [left] = list(leftovers._flow_runs())
    assert left.what == "flow run 'long' has not ended, but its worker 'gpu-1' does not answer any more"
    assert left.repair() == "'long' is Crashed"
    assert not list(leftovers._flow_runs())


def test_a_copy_of_the_workspace_is_not_the_workspace(tmp_path):
    first, copy = tmp_path / "first", tmp_path / "copy"
    for folder in (first, copy):
        (folder / TOKEN).parent.mkdir(parents=True)
        (folder / TOKEN).write_text("secret")
    pool = Pool(name="lab", host="first", workspace=str(first), token="secret")
    assert pool.is_at(first) and not pool.is_at(copy) and not pool.is_at(tmp_path)
    (first / TOKEN).write_text("that of a copy made before the last start")
    assert not pool.is_at(first)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("first.lab", "--server first.lab is no URL; write http://HOST:4200"),
        ("http://ann:hunter2@first.lab:4200", "--server holds a password, which others could list"),
        ("http://127.0.0.1:9", "no Prefect server at http://127.0.0.1:9 answers"),
    ],
)
def test_a_worker_names_what_is_wrong_with_its_server(workspace, url, said):
    done = run("worker", "--server", url, "--workspace", workspace)
    assert done.exit_code == 1
    assert said in done.stderr and "hunter2" not in done.stderr and "Traceback" not in done.stderr


def test_a_worker_without_a_password_says_where_it_is_looked_for(workspace, monkeypatch):
    monkeypatch.delenv(PREFECT_AUTH, raising=False)
    with server() as url:
        done = run("worker", "--server", url, "--workspace", workspace)
    assert done.exit_code == 1
    assert f"{workspace / CREDENTIALS} cannot be read; set {PREFECT_AUTH}=NAME:PASSWORD" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_second_machine_takes_runs_and_leaves_none_running(workspace, ferflow, tmp_path, monkeypatch):
    """Killed and started again it ends its own runs, not those of the first; told to stop, it cancels what it runs."""
    for name in (MLFLOW_USER, MLFLOW_PASSWORD):  # those of the tests' own server
        monkeypatch.delenv(name)
    with up(ferflow, workspace, tmp_path, signal.SIGINT, "--pool", "lab") as first:
        assert_refused(first.prefect, workspace, tmp_path, monkeypatch)
        with working(ferflow, first.prefect, workspace) as worker:
            runs = [start_long_run(first.prefect) for _ in range(4)]  # each machine takes two at a time
            for run_id in runs:
                assert wait_for_state(first.prefect, run_id, "RUNNING", 120) == "RUNNING"
            theirs = [run_id for run_id in runs if machine_of(first.prefect, run_id) == "second"]
            assert len(theirs) == 2
            family = [worker.pid, *descendants(worker.pid)]
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert {state_of(first.prefect, run_id) for run_id in runs} == {"RUNNING"}
        with working(ferflow, first.prefect, workspace) as worker:
            for run_id in runs:
                ended = run_id in theirs
                assert state_of(first.prefect, run_id) == ("CRASHED" if ended else "RUNNING")
            assert said_by(workspace).count("was left unfinished by an earlier worker, and is Crashed now") == 2
            last = start_long_run(first.prefect)
            assert wait_for_state(first.prefect, last, "RUNNING", 120) == "RUNNING"
            family = descendants(worker.pid)
            worker.send_signal(signal.SIGINT)
            worker.wait(timeout=30)
            assert worker.returncode == 0 and gone(family)
            assert state_of(first.prefect, last) in ("CANCELLED", "CRASHED")


def assert_refused(url: str, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password, another workspace, and the name of the first machine."""
    with monkeypatch.context() as patch:
        patch.setenv(PREFECT_AUTH, "ferflow:wrong")
        with pytest.raises(ConfigError, match=rf"refuses the password of \${PREFECT_AUTH}"):
            join(url, workspace)
    copy = tmp_path / "copy"
    (copy / CREDENTIALS).parent.mkdir(parents=True)
    (copy / CREDENTIALS).write_text((workspace / CREDENTIALS).read_text())
    with pytest.raises(ConfigError, match=f"workspace {copy} is not that of the server, which is {workspace} on"):
        join(url, copy)
    done = run("worker", "--server", url, "--workspace", workspace)
    assert "takes runs too; choose a --name" in done.stderr


@contextmanager
def working(ferflow: str, url: str, workspace: Path) -> Iterator[subprocess.Popen]:
    """A worker in a UTS namespace of its own, so that its machine has another name."""
    command = 'hostname second && exec "$0" worker --server "$1"'
    unshare = ["unshare", "--uts", *([] if os.getuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("this system does not let us make a namespace")
    with (workspace.parent / "worker.log").open("w") as out:
        process = subprocess.Popen([*unshare, "sh", "-c", command, ferflow, url], stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while "flow runs of pool 'lab' at a time" not in said_by(workspace):
            assert process.poll() is None and time.monotonic() < deadline, said_by(workspace)
            time.sleep(0.2)
        assert alive(process.pid)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def said_by(workspace: Path) -> str:
    return (workspace.parent / "worker.log").read_text()


def start_long_run(url: str) -> str:
    found = {d["name"]: d["id"] for d in ask(url, "/api/deployments/filter", {})}
    parameters = {"preset": "demo", "subjects": 6, "search_trials": 60}
    path = f"/api/deployments/{found['end-to-end']}/create_flow_run"
    return str(ask(url, path, {"parameters": parameters})["id"])


def machine_of(url: str, run_id: str) -> str:
    (flow_run,) = ask(url, "/api/flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return str(flow_run["labels"].get("prefect.worker.name", ""))
