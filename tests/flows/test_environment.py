"""What a process of ours has in its environment before torch is imported, whoever starts it."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_core.config import RunConfig, TrackingConfig
from fer_core.errors import ConfigError
from fer_core.runtime import child_environment, n_cores
from fer_core.tracking.connection import connect
from flows.support.environment import check_prefect, settle, where_runs_go

ENTRY_POINTS = {
    "command line": [str(Path(sys.executable).parent / "ferflow"), "score", "gone.mp4", "--out", "out"],
    "child of a served flow": [
        sys.executable,
        "-c",
        "import flows.forms.served, flows.score",
    ],  # what Prefect's flow engine imports first
}


@pytest.mark.parametrize("entry", ENTRY_POINTS)
def test_openmp_is_passive_when_torch_is_imported(entry, workspace, tmp_path):
    """OpenMP itself says what it has read, for each copy of it that a process loads."""
    env = {name: value for name, value in os.environ.items() if name not in child_environment(1)}
    done = subprocess.run(
        ENTRY_POINTS[entry],
        env={**env, "OMP_DISPLAY_ENV": "verbose", "PREFECT_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    read = re.findall(r"(OMP_WAIT_POLICY|GOMP_SPINCOUNT|OMP_NUM_THREADS) = '(.*)'", done.stderr)
    assert set(read) == {
        ("OMP_WAIT_POLICY", "PASSIVE"),
        ("GOMP_SPINCOUNT", "0"),
        ("OMP_NUM_THREADS", str(n_cores())),
    }, done.stderr[-2000:]


def test_the_users_tracking_address_comes_after_settings_and_before_the_workspace(tmp_path, monkeypatch):
    given = RunConfig(workspace=str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.lab:5000")
    assert settle(given).tracking.uri == "http://mlflow.lab:5000"
    assert where_runs_go(given) == "http://mlflow.lab:5000 ($MLFLOW_TRACKING_URI)"
    set_here = given.model_copy(update={"tracking": TrackingConfig(uri="sqlite:////tmp/own.db")})
    assert settle(set_here).tracking.uri == "sqlite:////tmp/own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.lab")
    with pytest.raises(ConfigError, match=r"\$MLFLOW_TRACKING_URI cannot be used: an address holds no password"):
        settle(given)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert settle(given).tracking.uri == "auto" and where_runs_go(given).endswith("mlflow.db (in the workspace)")


def test_opening_the_workspaces_mlflow_leaves_the_users_variable_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    connect(TrackingConfig(), tmp_path)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_a_prefect_server_that_is_away_is_one_sentence_within_seconds():
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"\(\$PREFECT_API_URL\) does not answer .* unset PREFECT_API_URL"):
        check_prefect("http://127.0.0.1:9/api")
    assert time.monotonic() - started < 15


def test_script_that_its_own_trials_import_is_told_so(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match="put the calls of flows under if __name__ == '__main__':"):
        settle(RunConfig())
