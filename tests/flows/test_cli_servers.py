from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.forms.served import attribute
from flows.serve import SERVED
from mlflow_server.address import (
    MLFLOW_PASSWORD,
    MLFLOW_USER,
    PREFECT_AUTH,
    Addresses,
    announce,
    announced,
    credentials,
)
from tests.conftest import free_port
from tests.flows.test_cli import run
from tests.mlflow_server.test_address import server
from tests.mlflow_server.test_launch import request
from tests.mlflow_server.test_supervise import alive, gone


def test_status_without_servers_says_how_to_start_them(workspace):
    done = run("status")
    assert done.exit_code == 0
    assert "start them with 'ferflow up'" in done.stdout
    assert json.loads(run("status", "--json").stdout) == {"workspace": str(workspace), "servers": {}, "processes": []}


def test_status_tells_what_answers_and_what_does_not(workspace):
    with server() as mlflow:
        announce(workspace, Addresses(mlflow, "http://127.0.0.1:9", pid=1))
        found = json.loads(run("status", "--json").stdout)
    assert [(p["name"], p["pid"]) for p in found["processes"]] == [("ferflow up", 1)]
    assert found["servers"] == {
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


def test_up_refuses_other_machines_without_users(workspace):
    """Faults 112 and 113."""
    done = run("up", "--host", "0.0.0.0", "--mlflow-port", free_port(), "--prefect-port", free_port())
    assert done.exit_code == 1
    assert "people must log in" in done.stderr and "--users" in done.stderr
    assert announced(workspace) is None


def test_up_twice_tells_where_the_first_is(workspace):
    with holding_the_lock(workspace):
        announce(workspace, Addresses("http://127.0.0.1:5000", "http://127.0.0.1:4200", pid=4711))
        done = run("up")
    assert done.exit_code == 1
    assert "MLflow at http://127.0.0.1:5000" in done.stderr and "kill 4711" in done.stderr
    assert announced(workspace) is not None


def test_two_ups_at_once_do_not_start_twice(workspace):
    with holding_the_lock(workspace):
        done = run("up")
    assert done.exit_code == 1
    assert f"another 'ferflow up' is just starting or stopping the servers of workspace {workspace}" in done.stderr


def test_servers_that_nobody_holds_any_more_are_not_named(workspace):
    """What a killed 'ferflow up' announced is taken back by the next one, whatever comes of that."""
    announce(workspace, Addresses("http://127.0.0.1:5000", "http://127.0.0.1:4200", pid=4711))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("up", "--mlflow-port", taken.getsockname()[1])
    assert done.exit_code == 1
    assert "4711" not in done.stderr and "cannot be used" in done.stderr
    assert announced(workspace) is None


@contextmanager
def holding_the_lock(workspace: Path) -> Iterator[None]:
    """As a running 'ferflow up' does; in another process, since this one may take its own lock again."""
    code = (
        "import sys; from filelock import FileLock; from pathlib import Path\n"
        "Path(sys.argv[1]).parent.mkdir()\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(workspace / "servers" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.communicate()


def ask(url: str, path: str, body: object) -> Any:
    """What Prefect answers to whoever has the workspace's password; asked again, as its own client does, while its
    SQLite is busy."""
    auth = credentials(Path(os.environ["FERFLOW_WORKSPACE"]))[PREFECT_AUTH]
    for _ in range(5):
        status, text = request(url, "POST", path, body, f"Basic {b64encode(auth.encode()).decode()}")
        if status != 503:
            break
        time.sleep(1)
    assert status < 300, text
    return json.loads(text)


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
def test_up_serves_every_flow_and_stops_without_a_trace(workspace, ferflow, tmp_path):
    """Ctrl-C in the middle of a flow run: all is gone within 10 s, and after the next start no run goes on for ever."""
    (tmp_path / "flows").mkdir()  # a lab's own folder of that name must not stand in for ours
    (tmp_path / "flows" / "__init__.py").write_text("raise RuntimeError('the wrong flows')")
    with up(ferflow, workspace, tmp_path, signal.SIGINT) as addresses:
        assert_closed(addresses)
        found = {d["name"]: d for d in ask(addresses.prefect, "/api/deployments/filter", {})}
        assert {name: d["entrypoint"] for name, d in found.items()} == {
            n: f"flows.forms.served.{attribute(n)}" for n in SERVED
        }
        schema = found["search"]["parameter_openapi_schema"]["definitions"]["search-train"]["properties"]["lr"]
        assert (schema["exclusiveMinimum"], schema["maximum"]) == (0, 1)
        assert_refused_before_a_run_exists(addresses.prefect, found["end-to-end"]["id"], workspace)
        path = f"/api/deployments/{found['end-to-end']['id']}/create_flow_run"
        started = ask(addresses.prefect, path, {})["id"]
        assert wait_for_state(addresses.prefect, started, "RUNNING", 120) == "RUNNING"
        assert_all_are_named(addresses.pid, started)
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        logs = [log.read_text(errors="replace") for log in (workspace / "servers").glob("*.log")]
        password = credentials(workspace)[MLFLOW_PASSWORD]
        assert logs and not any(password in text for text in [listed, *logs])
    with up(ferflow, workspace, tmp_path, signal.SIGTERM) as addresses:
        assert state_of(addresses.prefect, started) in ("CANCELLED", "CRASHED")


def assert_all_are_named(up_pid: int, flow_run: str) -> None:
    """`status` names every process below `ferflow up`; those that a flow run starts meanwhile may be missing."""
    found = {p["pid"]: p["name"] for p in json.loads(run("status", "--json").stdout)["processes"]}
    names = set(found.values())
    assert {"ferflow up", "supervisord", "mlflow", "prefect", "flows", f"flow run {flow_run}"} <= names
    assert {found[pid] for pid in descendants(up_pid) if pid in found} >= names - {"ferflow up"}


def assert_refused_before_a_run_exists(prefect: str, deployment: str, workspace: Path) -> None:
    """A form with a wrong value is answered by the sentence of the command line, and no run is made."""
    auth = b64encode(credentials(workspace)[PREFECT_AUTH].encode()).decode()
    path, body = f"/api/deployments/{deployment}/create_flow_run", {"parameters": {"train": {"lr": 9}}}
    status, text = request(prefect, "POST", path, body, f"Basic {auth}")
    assert (status, json.loads(text)["detail"].split(". ")[0]) == (
        409, "form: train.lr: Input should be less than or equal to 1 (got 9)",
    )  # fmt: skip
    assert ask(prefect, "/api/flow_runs/filter", {}) == []


def assert_closed(addresses: Addresses) -> None:
    """Another user of the machine, and a page of another origin or under a name bound to 127.0.0.1, get nowhere."""
    deployments = (addresses.prefect, "POST", "/api/deployments/filter", {})
    runs = (addresses.mlflow, "POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]})
    for asked in (deployments, runs):
        assert request(*asked, login="")[0] == 401
        assert request(*asked, Origin="http://127.0.0.1:8000")[0] == 403
        assert request(*asked, Host="evil.example")[0] == 400
    for path in ("/login", "/api/health"):
        assert request(addresses.prefect, "GET", path, login="")[0] == 200


# Answered without a login: whether a server is well, the page that logs in, and (in no list of routes) the files of
# Prefect's page, which has no data until somebody has logged in.
OPEN = {"prefect": ("/api/health", "/api/ready", "/login"), "mlflow": ("/health", "/login")}
TEAM = """
anna: {password: correct horse battery, role: admin}
cleo: {password: another long password, role: reader}
"""


@pytest.mark.slow
def test_for_a_team_every_route_needs_a_login(workspace, ferflow, tmp_path):
    users = tmp_path / "users.yaml"
    users.write_text(TEAM)
    users.chmod(0o600)
    with up(ferflow, workspace, tmp_path, signal.SIGTERM, "--host", "0.0.0.0", "--users", str(users)) as addresses:
        asked = {"prefect": routes_of_prefect(addresses.prefect), "mlflow": routes_of_mlflow()}
        for server, routes in asked.items():
            assert len(routes) > 50
            url = getattr(addresses, server)
            answered = {(m, p) for m, p in routes if request(url, m, p, {}, login="")[0] != 401}
            assert {path for _, path in answered} <= set(OPEN[server]), answered
        experiments = "/api/2.0/mlflow/experiments/search"
        for name, entered in (("anna:correct horse battery", 200), ("cleo:another long password", 401)):
            login = f"Basic {b64encode(name.encode()).decode()}"
            assert request(addresses.prefect, "POST", "/api/deployments/filter", {}, login)[0] == entered
            assert request(addresses.mlflow, "POST", experiments, {"max_results": 1}, login)[0] == 200
            assert request(addresses.prefect, "GET", "/pages/", None, login)[0] == 200
        assert request(addresses.mlflow, "GET", "/health", Host="evil.example")[0] == 400


def routes_of_prefect(url: str) -> list[tuple[str, str]]:
    """(method, path) of every route in Prefect's own description, and the pages."""
    auth = b64encode(credentials(Path(os.environ["FERFLOW_WORKSPACE"]))[PREFECT_AUTH].encode()).decode()
    _, text = request(url, "GET", "/api/openapi.json", login=f"Basic {auth}")
    found = [
        (method.upper(), path if path.startswith("/api") else f"/api{path}")
        for path, methods in json.loads(text)["paths"].items()
        for method in methods
    ]
    unnamed = [(m, re.sub(r"\{[^}]*\}", "8a3c4be2-0000-4000-8000-000000000000", p)) for m, p in found]
    return [*unnamed, ("GET", "/pages/"), ("GET", "/pages/card.html"), ("GET", "/mlflow/experiments")]


def routes_of_mlflow() -> list[tuple[str, str]]:
    from mlflow.server import app
    from mlflow.server.fastapi_app import app as outer

    found = [(m, str(rule)) for rule in app.url_map.iter_rules() for m in rule.methods - {"HEAD", "OPTIONS"}]
    found += [
        (m, r.path) for r in outer.routes for m in getattr(r, "methods", None) or () if m not in ("HEAD", "OPTIONS")
    ]
    return sorted({(m, re.sub(r"[<{][^>}]*[>}]", "1", path)) for m, path in found})


@pytest.mark.slow
def test_up_stops_what_a_killed_one_left(workspace, ferflow, tmp_path):
    """The same ports are free again, and nothing of the first start is left."""
    ports = ["--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
    with subprocess.Popen([ferflow, "up", *ports], cwd=tmp_path, stderr=subprocess.DEVNULL) as killed:
        wait_for_announcement(killed, workspace, 300)
        left = descendants(killed.pid)
        killed.kill()
    assert left and all(map(alive, left))
    with subprocess.Popen([ferflow, "up", *ports], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as second:
        assert second.stderr is not None
        told = second.stderr.readline()
        assert told == f"An earlier 'ferflow up' was killed and left {len(left)} processes; they are stopped now\n"
        assert gone(left)
        wait_for_announcement(second, workspace, 300)
        again = descendants(second.pid)
        second.send_signal(signal.SIGINT)
        second.communicate(timeout=30)
    assert second.returncode == 0 and gone(again)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_postgresql_all_is_backed_up_in_use_and_restored_elsewhere(workspace, ferflow, tmp_path, postgres):
    """MLflow's and Prefect's databases are made, dumped while the servers run, and served again from the copies."""
    import sqlalchemy

    first, second = (postgres.url(name) for name in ("team", "copy"))
    with up(ferflow, workspace, tmp_path, signal.SIGINT, "--database", first) as addresses:
        assert len(ask(addresses.prefect, "/api/deployments/filter", {})) == len(SERVED)
        auth = credentials(workspace)
        login = f"Basic {b64encode(f'{auth[MLFLOW_USER]}:{auth[MLFLOW_PASSWORD]}'.encode()).decode()}"
        status, _ = request(addresses.mlflow, "POST", "/api/2.0/mlflow/experiments/create", {"name": "kept"}, login)
        assert status == 200
        done = run("backup", tmp_path / "copy", "--workspace", workspace, "--json")
        assert json.loads(done.stdout)["databases"] == ["mlflow", "prefect"], done.stderr
    new = tmp_path / "new"
    done = run("restore", tmp_path / "copy", "--workspace", new, "--database", second)
    assert done.exit_code == 0, done.stderr
    with sqlalchemy.create_engine(second).connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT artifact_location FROM experiments WHERE name = 'kept'"))
        assert str(found.scalar()).removeprefix("file://").startswith(str(new))
    with sqlalchemy.create_engine(f"{second}_prefect").connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT count(*) FROM deployment"))
        assert found.scalar() == len(SERVED)


CANCEL_S = 20  # 10 s on a quiet machine


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cancelled_run_ends_its_children_and_closes_its_records(workspace, ferflow, tmp_path):
    """In the middle of a search: no process of the run is left, and neither MLflow nor Optuna says that it runs."""
    import optuna

    from fer_core.config import TrackingConfig
    from fer_core.tracking.connection import connect

    with up(ferflow, workspace, tmp_path, signal.SIGINT) as addresses:
        found = {d["name"]: d["id"] for d in ask(addresses.prefect, "/api/deployments/filter", {})}
        parameters = {"preset": "demo", "subjects": 6, "search_trials": 60}
        path = f"/api/deployments/{found['end-to-end']}/create_flow_run"
        run_id = ask(addresses.prefect, path, {"parameters": parameters})["id"]
        deadline = time.monotonic() + 500
        while not list(workspace.glob("studies/*/trial-0001/*")):
            assert time.monotonic() < deadline and state_of(addresses.prefect, run_id) in (
                "PENDING",
                "RUNNING",
                "SCHEDULED",
            )
            time.sleep(0.5)
        family = processes_of(run_id)
        assert len(family) > 1
        ask(
            addresses.prefect,
            f"/api/flow_runs/{run_id}/set_state",
            {"state": {"type": "CANCELLING", "name": "Cancelling"}},
        )
        began = time.monotonic()
        while any(map(alive, family)) and time.monotonic() < began + CANCEL_S:
            time.sleep(0.1)
        assert not [pid for pid in family if alive(pid)]
        assert wait_for_state(addresses.prefect, run_id, "CANCELLED", 30) == "CANCELLED"
        runs = connect(TrackingConfig(), workspace).client.search_runs(["1"], max_results=200)
        assert {r.info.status for r in runs} <= {"FINISHED", "KILLED", "FAILED"}, [r.info for r in runs]
        assert runs
        assert not [p for p in processes_of(run_id) if alive(p)]
    (database,) = workspace.glob("studies/*/optuna.db")
    (study,) = optuna.get_all_study_names(f"sqlite:///{database}")
    trials = optuna.load_study(study_name=study, storage=f"sqlite:///{database}").get_trials(deepcopy=False)
    assert trials and not [t for t in trials if t.state.name == "RUNNING"]


def processes_of(run_id: str) -> list[int]:
    """The processes of a flow run: that of its flow, and all below."""
    told = json.loads(run("status", "--json").stdout)["processes"]
    tops = [p["pid"] for p in told if p["name"] == f"flow run {run_id}"]
    return sorted({*tops, *(child for top in tops for child in descendants(top))})


@contextmanager
def up(ferflow: str, workspace: Path, cwd: Path, number: int, *options: str) -> Iterator[Addresses]:
    """A running `ferflow up`, ended by a signal; it says where it is, and leaves no process."""
    command = [ferflow, "up", "--mlflow-port", str(free_port()), "--prefect-port", str(free_port()), *options]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        addresses = wait_for_announcement(process, workspace, 180)
        yield addresses
        family = descendants(process.pid)
        assert len(family) >= 4 and all(map(alive, family))  # supervisord, MLflow, Prefect, the flows
    finally:
        before = time.monotonic()
        process.send_signal(number)
        told, _ = process.communicate(timeout=30)
    assert time.monotonic() - before < 10
    assert process.returncode == 0
    assert f"MLflow   {addresses.mlflow}/login#" in told and f"Prefect  {addresses.prefect}/login#" in told
    assert gone(family)
    assert announced(workspace) is None


def wait_for_announcement(process: subprocess.Popen, workspace: Path, within_s: float) -> Addresses:
    deadline = time.monotonic() + within_s
    while (addresses := announced(workspace)) is None:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "not up in time"
        time.sleep(0.5)
    return addresses


def wait_for_state(url: str, run_id: str, wanted: str, within_s: float) -> str:
    deadline = time.monotonic() + within_s
    while (state := state_of(url, run_id)) not in (wanted, "FAILED", "CRASHED") and time.monotonic() < deadline:
        time.sleep(0.5)
    return state


def state_of(url: str, run_id: str) -> str:
    (flow_run,) = ask(url, "/api/flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return flow_run["state_type"]


@pytest.mark.parametrize(
    "url, said",
    [
        ("mysql://u@db/x", "of no kind known"),
        ("postgresql://u@127.0.0.1:9/x", "refused"),
        ("postgresql://u:hunter2@127.0.0.1:9/x", "an address holds no password"),
    ],
)
def test_up_names_a_database_that_it_cannot_use(workspace, url, said):
    done = run("up", "--database", url)
    assert done.exit_code == 1
    assert said in done.stderr and "hunter2" not in done.stderr and "Traceback" not in done.stderr


def test_search_names_a_storage_that_is_away_before_any_work(workspace):
    done = run("search", "--set", "search.storage=postgresql://fer@127.0.0.1:9/optuna")
    assert done.exit_code == 1
    assert "search.storage postgresql" in done.stderr and "refused" in done.stderr
