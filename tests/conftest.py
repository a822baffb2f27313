"""Fixtures of several rooms: a quiet environment, one MLflow server, one Prefect harness, a workspace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.postgres import Postgres

# Before anything imports torch, mlflow or prefect: they read these once.
os.environ.pop("FERFLOW_WORKSPACE", None)
os.environ |= {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_TRACKING_USERNAME": "ferflow",  # of the one MLflow server
    "MLFLOW_TRACKING_PASSWORD": "known to the tests",
    "DO_NOT_TRACK": "true",
    "FERFLOW_PREFECT_KEPT_S": "0",  # a server for each workspace of a test would stay for minutes
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
START_S = 120.0


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def addresses_kept() -> Iterator[None]:
    """MLflow writes each address it is told into the environment, where processes of later tests would read it.

    Prefect's home is kept too: commands of later tests would record their runs there.
    """
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_HOME")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(autouse=True)
def _addresses_stay_in_their_test() -> Iterator[None]:
    with addresses_kept():
        yield


class _AddressesStayInTheirFixture:
    """The same for what lives longer than a test. Of session fixtures, pytest does not tell the hooks of a conftest."""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Generator[None, object, object]:
        with addresses_kept() if fixturedef.scope != "function" else nullcontext():
            return (yield)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_AddressesStayInTheirFixture())


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that `auto` resolves to."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.setenv("FERFLOW_WORKSPACE", str(folder))
    return folder


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on SQLite, started as `ferflow up` starts it; one for the whole test run."""
    from mlflow_server.address import answers
    from mlflow_server.launch import mlflow_server

    folder = tmp_path_factory.mktemp("mlflow")
    server = mlflow_server(folder, port=free_port())
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            server.command,
            env={**os.environ, **server.environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"{server.url}/health"):
            assert process.poll() is None, f"MLflow ended while starting:\n{log.read_text()}"
            assert time.monotonic() < deadline, f"MLflow did not answer in {START_S} s:\n{log.read_text()}"
            time.sleep(0.2)
        yield server.url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A temporary Prefect server that flows called in this process run on; one for the whole test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        patch.delenv("PREFECT_API_URL", raising=False)
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=int(START_S)):
            yield


@pytest.fixture(scope="session")
def ferflow() -> str:
    """The installed command."""
    return str(Path(sys.executable).parent / "ferflow")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of the tests' own, its password in the environment; one for the whole test run."""
    from tests.postgres import PASSWORD, running_postgres

    with pytest.MonkeyPatch.context() as patch, running_postgres() as server:
        patch.setenv("PGPASSWORD", PASSWORD)
        yield server


@pytest.fixture(scope="session")
def champion_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a small model as champion, version 1 of two, in SQLite; tests must not change it."""
    from tests.saved_models import register_champion

    root = tmp_path_factory.mktemp("champion")
    register_champion(root)
    return root
