"""Commands without their MLflow server: refused at once, or kept in the workspace and sent by `ferflow sync`."""

from __future__ import annotations

import json
import time

import pytest

from fer_core.config import TrackingConfig
from fer_core.tracking.connection import connect
from fer_core.tracking.run import start_run
from tests.conftest import free_port
from tests.flows.test_cli import run


@pytest.mark.parametrize("command", ["search", "train", "compare", "promote", "sync"])
def test_fault_90_a_command_whose_server_is_away_is_refused_at_once_with_the_remedy(command, tmp_path):
    started = time.monotonic()
    done = run(command, "--workspace", tmp_path, "--set", f"tracking.uri=http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 15
    assert done.exit_code == 1 and "does not answer" in done.stderr and "--offline" in done.stderr


def test_what_needs_the_registry_is_refused_offline(tmp_path):
    offline = ("--set", "tracking.uri=http://127.0.0.1:9", "--set", "tracking.offline=true")
    done = run("promote", "--workspace", tmp_path, *offline)
    assert done.exit_code == 1 and "is not asked, because tracking.offline is set" in done.stderr


def test_sync_sends_what_waits_and_says_so(mlflow_url, tmp_path):
    there = ("--workspace", tmp_path, "--set", f"tracking.uri={mlflow_url}")
    assert "Nothing waits to be sent." in run("sync", *there).stdout
    with start_run(connect(TrackingConfig(uri=mlflow_url, offline=True), tmp_path), "kept"):
        pass
    done = run("sync", *there, "--json")
    assert done.exit_code == 0, done.stderr
    [sent] = json.loads(done.stdout)["runs"]
    assert connect(TrackingConfig(uri=mlflow_url), tmp_path).client.get_run(sent).info.run_name == "kept"
