"""The wheel and the editable install in clean environments outside the repository, where a lab has its own `flows`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from flows.forms.served import attribute
from tests.flows.test_cli_servers import ask, up, wait_for_state

ROOT = Path(__file__).parent.parent
PACKAGES = ("ferflow", "ferflow_command", "fer_core", "flows", "mlflow_server")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
FOREIGN = "raise RuntimeError('the wrong package')"


def succeed(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is installed: a build writes folders of its own beside the packages."""
    folder = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    succeed(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    return next(folder.glob("ferflow-*-py3-none-any.whl"))


def install(folder: Path, *what: str | Path) -> str:
    """Install ferflow into a clean environment, which borrows all other packages of this one; returns its command."""
    succeed(sys.executable, "-m", "venv", "--without-pip", folder)
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    succeed(*PIP, "--python", folder / "bin" / "python", "install", "--no-deps", "--no-build-isolation", *what)
    return str(folder / "bin" / "ferflow")


@pytest.fixture(scope="module")
def from_wheel(wheel: Path, tmp_path_factory) -> str:
    return install(tmp_path_factory.mktemp("clean"), wheel)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab's folder with packages of its own that are named as two of ours, and fail when they are imported."""
    for package in ("flows", "mlflow_server"):
        folder = tmp_path / "lab" / package
        folder.mkdir(parents=True)
        for name in ("__init__.py", "train.py", "serve.py"):
            (folder / name).write_text(FOREIGN)
    return tmp_path / "lab"


def in_the_lab(lab: Path) -> Mapping[str, str]:
    return {"PYTHONPATH": str(lab), "FERFLOW_WORKSPACE": str(lab)}


def test_own_packages_come_before_a_labs(lab):
    """In the command, and in a Python that is started below it."""
    code = (
        "from ferflow_command.sitecustomize import use_own_packages; use_own_packages(); import flows, subprocess, sys;"
        "inner = 'import flows, mlflow_server; print(flows.__file__, mlflow_server.__file__)';"
        "print(flows.__file__, flush=True); subprocess.run([sys.executable, '-c', inner], check=True)"
    )
    path = os.pathsep.join([str(lab), str(ROOT)])
    found = succeed(sys.executable, "-c", code, cwd=lab, PYTHONPATH=path).split()
    assert found == [str(ROOT / p / "__init__.py") for p in ("flows", "flows", "mlflow_server")]


def test_the_environments_own_sitecustomize_runs_as_well(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('of the environment')")
    path = os.pathsep.join([str(ROOT / "ferflow_command"), str(tmp_path)])
    assert succeed(sys.executable, "-c", "print('started')", PYTHONPATH=path) == "of the environment\nstarted\n"


def test_workflows_call_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflows = [yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    steps = [step.get("run", "") for flow in workflows for job in flow["jobs"].values() for step in job["steps"]]
    called = {name for run in steps for name in re.findall(r"\bmake ([a-z-]+)", run)}
    assert {"setup", "lint", "docs", "test", "test-slow"} <= called <= targets


@pytest.mark.slow
def test_the_wheel_holds_the_packages_their_data_and_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    data = {
        p.relative_to(ROOT).as_posix() for p in ROOT.glob("f*/**/*") if p.suffix in (".yaml", ".html", ".css", ".js")
    }
    assert data and data <= set(names)
    assert {"ferflow/py.typed", "fer_core/py.typed"} <= set(names)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_runs_the_demo_where_a_lab_has_its_own_flows(from_wheel, lab):
    assert "Usage: ferflow" in succeed(from_wheel, "--help", cwd=lab, **in_the_lab(lab))
    done = json.loads(
        succeed(from_wheel, "demo", "--subjects", "8", "--set", "search.trials=2", "--json", cwd=lab, **in_the_lab(lab))
    )
    assert done["clips"] == 48 and done["verdicts"] and Path(done["report"]).is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_editable_install_serves_its_own_flows(source, lab, tmp_path, monkeypatch):
    """The lab's folder is the working folder, the workspace and on the path; a flow is started and ends well."""
    ferflow = install(tmp_path / "editable", "-e", source)
    for name, value in in_the_lab(lab).items():
        monkeypatch.setenv(name, value)
    succeed(ferflow, "data", "synth", lab / "clips", "--subjects", "2", cwd=lab)
    with up(ferflow, lab, lab, signal.SIGTERM) as addresses:
        found = {d["name"]: d for d in ask(addresses.prefect, "/api/deployments/filter", {})}
        assert found["card"]["entrypoint"] == f"flows.forms.served.{attribute('card')}"
        form = {"parameters": {"manifest": str(lab / "clips" / "manifest.csv")}}
        run = ask(addresses.prefect, f"/api/deployments/{found['card']['id']}/create_flow_run", form)["id"]
        assert wait_for_state(addresses.prefect, run, "COMPLETED", 200) == "COMPLETED"
