from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlflow_server import ServerError
from mlflow_server.units import Unit, write_units
from tests.flows.test_cli import run

ODD = 'my % clips $HOME "x" \\ y'


def unit(**given) -> Unit:
    known = {
        "command": (sys.executable, "up", "--workspace", f"/srv/{ODD}", "--host", "127.0.0.1"),
        "workspace": Path("/tmp"), "reads": (), "health": "http://127.0.0.1:4200/api/health", "user": "daemon",
        "python": "3.11",
    }  # fmt: skip
    return Unit(**{**known, **given})


def test_systemd_accepts_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    service = write_units(tmp_path, unit())[0]
    done = subprocess.run(["systemd-analyze", "verify", str(service)], capture_output=True, text=True, check=False)
    assert "ferflow.service" not in done.stderr, done.stderr


def test_the_argument_that_systemd_passes_is_the_one_given(tmp_path):
    """Read back by the rules of systemd: `%%` and `$$` are one sign, a backslash quotes inside double quotes."""
    (line,) = [x for x in write_units(tmp_path, unit())[0].read_text().splitlines() if x.startswith("ExecStart=")]
    quoted = line.partition('"')[2].rpartition('"')[0]
    plain = quoted.replace('\\"', '"').replace("\\\\", "\\").replace("%%", "%").replace("$$", "$")
    assert plain == f"/srv/{ODD}"


def test_the_compose_file_says_what_to_run_mount_and_ask(tmp_path):
    write_units(tmp_path, unit(reads=(Path("/etc/users.yaml"),)))
    service = yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]["ferflow"]
    assert service["command"][:2] == ["ferflow", "up"] and service["command"][3] == f"/srv/{ODD.replace('$', '$$')}"
    assert service["volumes"] == ["/tmp:/tmp", "/etc/users.yaml:/etc/users.yaml:ro"]
    assert "4200/api/health" in service["healthcheck"]["test"][-1]
    known = {
        "build", "image", "command", "user", "working_dir", "environment", "volumes", "network_mode", "init", "restart",
        "stop_grace_period", "healthcheck",
    }  # fmt: skip
    assert set(service) == known


@pytest.mark.parametrize(("given", "said"), [({"command": ("a\nb",)}, "newlines"), ({"reads": (Path("/a:b"),)}, "':'")])
def test_what_the_files_cannot_say_is_refused(tmp_path, given, said):
    with pytest.raises(ServerError, match=said):
        write_units(tmp_path, unit(**given))


def test_up_writes_its_own_options(workspace, tmp_path):
    (tmp_path / "in").mkdir()
    done = run(
        "up", "--write-units", tmp_path / "units", "--prefect-port", 4321, "--set", f"watch.folder={tmp_path / 'in'}"
    )
    assert done.exit_code == 0, done.stderr
    text = (tmp_path / "units" / "ferflow.service").read_text()
    assert (
        "--prefect-port 4321" in text
        and f"watch.folder={tmp_path / 'in'}" in text
        and f"--workspace {workspace}" in text
    )
    done = run("up", "--write-units", tmp_path / "units", "--host", "0.0.0.0")
    assert done.exit_code == 1 and "people must log in" in done.stderr
