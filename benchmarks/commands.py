"""What a command costs before it does anything: imports, a Prefect server, MLflow.

`python -m benchmarks.commands [ROUNDS]`; the clips are drawn, and their faces are stored before.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from flows.support.temporary import KEPT

FERFLOW = str(Path(sys.executable).parent / "ferflow")
SUBJECTS = 6


def run(*words: str, **environment: str) -> tuple[float, float]:
    """Run a command; return its wall and CPU seconds, those of its ended children counted."""
    started, before = time.perf_counter(), os.times()
    given = [FERFLOW, *words]
    subprocess.run(given, env={**os.environ, **environment}, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu


def server_s(workspace: Path) -> float:
    """Return the CPU seconds of the Prefect server that is kept for the workspace; 0 without one."""
    for file in (workspace / "prefect").glob("temporary-*.json"):
        return float(sum(psutil.Process(json.loads(file.read_text())["pid"]).cpu_times()[:2]))
    return 0.0


def rows(folder: Path, rounds: int) -> Iterator[str]:
    """Yield a row for each command, the commands taken in turn."""
    workspace = folder / "workspace"
    os.environ |= {"FERFLOW_WORKSPACE": str(workspace), KEPT: "60"}
    run("data", "synth", str(folder / "clips"), "--subjects", str(SUBJECTS))
    manifest, clip = str(next((folder / "clips").glob("*.csv"))), str(next((folder / "clips").rglob("*.mp4")))
    run("preprocess", manifest)
    run("adopt", "fer2013", manifest)
    run("promote", "--set", "promote.force=true")
    alone = {KEPT: "0", "PREFECT_HOME": str(folder / "prefect")}
    commands: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "--help": (("--help",), {}),
        "preprocess, all stored": (("preprocess", manifest), {}),
        "preprocess, all stored, a server of its own": (("preprocess", manifest), alone),
        "promote, champion already": (("promote",), {}),
        "score CLIP": (("score", clip), {}),
    }
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, (words, environment) in commands.items():
            before = server_s(workspace)
            spent = run(*words, **environment)
            taken[name].append((*spent, server_s(workspace) - before))
    for name, times in taken.items():
        medians = [f"{statistics.median(column):.1f}" for column in zip(*times, strict=True)]
        yield f"| {name} | {' | '.join(medians)} |"


def main(rounds: str = "3") -> None:
    """Print a row for each command."""
    print(f"{SUBJECTS} drawn people; medians of {rounds}, in turn.\n")
    print("| command | wall s | CPU-s | CPU-s of the kept server |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        for row in rows(Path(name), int(rounds)):
            print(row)


if __name__ == "__main__":
    main(*sys.argv[1:])
