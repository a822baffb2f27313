"""What a process of ours has in its environment before torch is imported, whoever starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fer_core.runtime import child_environment, n_cores

ENTRY_POINTS = {
    "command line": [str(Path(sys.executable).parent / "ferflow"), "score", "gone.mp4", "--out", "out"],
    "served flows": [sys.executable, "-c", "from flows.serve import deployments; deployments()"],
    "child of a served flow": [sys.executable, "-c", "import flows.score"],  # what Prefect's flow engine imports first
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
