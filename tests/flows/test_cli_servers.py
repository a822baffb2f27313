from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flows.serve import SERVED
from mlflow_server.address import Addresses, announce, announced
from tests.conftest import free_port
from tests.flows.test_cli import run
from tests.mlflow_server.test_address import server
from tests.mlflow_server.test_supervise import alive, gone


def test_status_without_servers_says_how_to_start_them(workspace):
    done = run("status")
    assert done.exit_code == 0
    assert "start them with 'ferflow up'" in done.stdout
    assert json.loads(run("status", "--json").stdout) == {"workspace": str(workspace), "servers": {}}


def test_status_tells_what_answers_and_what_does_not(workspace):
    with server() as mlflow:
        announce(workspace, Addresses(mlflow, "http://127.0.0.1:9", pid=1))
        told = json.loads(run("status", "--json").stdout)["servers"]
    assert told == {
        "MLflow": {"url": mlflow, "answers": True},
        "Prefect": {"url": "http://127.0.0.1:9", "answers": False},
    }


def test_up_names_the_port_that_is_taken(workspace):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run("up", "--mlflow-port", free_port(), "--prefect-port", port)
    assert done.exit_code == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in done.stderr and "--prefect-port" in done.stderr


def test_up_refuses_other_machines_without_a_password(workspace, monkeypatch):
    """Faults 112 and 113."""
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    done = run("up", "--host", "0.0.0.0", "--mlflow-port", free_port(), "--prefect-port", free_port())
    assert done.exit_code == 1
    assert "authentication must be set" in done.stderr
    assert announced(workspace) is None


def test_up_twice_tells_where_the_first_is(workspace):
    with server() as mlflow, server() as prefect:
        announce(workspace, Addresses(mlflow, prefect, pid=4711))
        done = run("up")
    assert done.exit_code == 1
    assert mlflow in done.stderr and "kill 4711" in done.stderr


def ask(url: str, path: str, body: object) -> object:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status < 300, response.read()
    return json.loads(response.read())


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines()[1:]:
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, waiting = [], [pid]
    while waiting:
        waiting += (mine := children.get(waiting.pop(), []))
        found += mine
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_every_flow_until_interrupted(workspace, ferflow, tmp_path, number):
    """MLflow, Prefect and the flows answer; a flow run that is going ends as Cancelled; no process is left."""
    (tmp_path / "flows").mkdir()  # a lab's own folder of that name must not stand in for ours
    (tmp_path / "flows" / "__init__.py").write_text("raise RuntimeError('the wrong flows')")
    command = [ferflow, "up", "--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
    up = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_line(up, "Ctrl-C stops them.", 180)
        addresses = announced(workspace)
        assert addresses is not None
        found = {d["name"]: d for d in ask(addresses.prefect, "/api/deployments/filter", {})}
        assert {d["entrypoint"] for d in found.values()} == {f"{module}.{flow}" for module, flow, _ in SERVED}
        assert found.keys() == {name for *_, name in SERVED}
        schema = found["search"]["parameter_openapi_schema"]["definitions"]["TrainConfig"]["properties"]["lr"]
        assert (schema["exclusiveMinimum"], schema["maximum"]) == (0, 1)
        path = f"/api/deployments/{found['end-to-end']['id']}/create_flow_run"
        started = ask(addresses.prefect, path, {"parameters": {"subjects": 24}})
        state = wait_for_state(addresses.prefect, started["id"], "RUNNING", 120)
        assert state == "RUNNING"
        family = descendants(up.pid)
        assert len(family) >= 5 and all(map(alive, family))
    finally:
        before = time.monotonic()
        up.send_signal(number)
        up.wait(30)
    assert time.monotonic() - before < 10
    assert up.returncode == 0
    assert gone(family)
    assert announced(workspace) is None
    assert last_state(workspace, started["id"]) == "CANCELLED"


def wait_for_line(process: subprocess.Popen, line: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    told = ""
    while line not in told:
        ready, _, _ = select.select([process.stdout], [], [], 1.0)
        told += process.stdout.readline() if ready else ""
        ended = process.poll() is not None
        assert not ended, f"ended with {process.returncode}: {told}{process.stderr.read()}"
        assert time.monotonic() < deadline, told


def wait_for_state(url: str, run_id: str, wanted: str, within_s: float) -> str:
    deadline = time.monotonic() + within_s
    state = ""
    while state not in (wanted, "FAILED", "CRASHED") and time.monotonic() < deadline:
        (flow_run,) = ask(url, "/api/flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
        state = flow_run["state_type"]
        time.sleep(0.5)
    return state


def last_state(workspace: Path, run_id: str) -> str:
    import sqlite3

    with sqlite3.connect(workspace / "prefect" / "prefect.db") as database:
        (state,) = database.execute("select state_type from flow_run where id = ?", (run_id,)).fetchone()
    return state
