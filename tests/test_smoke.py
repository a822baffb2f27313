"""The installed packages work together; a plain `pip install prefect mlflow` did not."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDS = [
    need
    for need in map(Requirement, [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)])
    if need.name != PROJECT["name"]  # an extra that takes in another one
]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


@pytest.mark.parametrize(
    "statement",
    [
        "import prefect.server.api.server",
        "import cv2; assert hasattr(cv2, 'CascadeClassifier')",
        "import mlflow.server.fastapi_app",
        "import torch, torchvision, av, optuna, sklearn, pyarrow, safetensors, pebble, psycopg, supervisor",
    ],
)
def test_installed_packages_import_together(statement):
    run = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: need.name)
def test_installed_and_pinned_releases_satisfy_pyproject(need):
    assert need.specifier.contains(metadata.version(need.name), prereleases=True)
    assert need.specifier.contains(PINS[canonicalize_name(need.name)], prereleases=True)


def test_constraints_are_exact_and_name_no_machine():
    for name, version in PINS.items():
        assert name == canonicalize_name(name) and re.fullmatch(r"[0-9][0-9a-z.]*", version), (name, version)


def test_constraints_leave_the_accelerator_to_torch():
    assert not [name for name in PINS if name.startswith(("nvidia-", "cuda-")) or name == "triton"]


NEVER_SCORING = {"prefect", "optuna", "sklearn", "scipy.stats", "scipy.optimize", "matplotlib"}


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("fer_core, flows.cli", NEVER_SCORING | {"torch", "mlflow", "cv2", "pandas", "av"}),
        ("fer_core.scoring.batch, fer_core.models.registry", NEVER_SCORING | {"mlflow", "pandas"}),
        ("flows.support.champion", NEVER_SCORING),
        ("flows.preprocess", {"torch", "optuna", "mlflow", "sklearn", "pandas", "scipy.stats", "prefect.server.api"}),
        ("flows.support.gate", NEVER_SCORING),
    ],
    ids=["the command line", "the scorer", "ferflow score", "ferflow preprocess", "ferflow promote"],
)
def test_importing_loads_nothing_heavy_that_is_not_used(modules: str, without: set[str]) -> None:
    statement = f"import sys, {modules}; print(*({without} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
