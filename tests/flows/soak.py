"""`ferflow up` under load for a long time, while its processes are killed; `make soak` runs it.

A batch of clips is scored every minute, one clip in twenty is hostile, and every 15 s a random process of the servers
or of a flow run is killed. A batch whose flow run died is started again, as a user would. In the end no row is lost, no
run is RUNNING, and descriptors and temporary files are as many as in the beginning.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from mlflow_server.address import Addresses, answers
from mlflow_server.supervise import running_processes
from tests.conftest import free_port
from tests.flows.test_cli_servers import ask, wait_for_announcement
from tests.preprocess.films import face_frames, write_video

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
BATCH_S, KILL_S, SAMPLE_S = 60.0, 15.0, 5.0
CLIPS = 20  # of a batch; one is hostile
LINE_S = 60.0  # shorter lines say nothing about a slope per hour
SETTLED_S = 30.0  # a program's memory grows while it starts
FAIR_S = 600.0  # for the batches that are left at the end, without kills
PROGRAMS = ("mlflow", "prefect", "flows")
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Load:
    """The batches: each is a folder of clips, scored by flow runs until one of them completes."""

    def __init__(self, prefect: str, root: Path, rng: random.Random) -> None:
        self.prefect, self.root, self.rng = prefect, root, rng
        self.current: dict[Path, str] = {}  # batch -> its latest flow run
        self.begun: list[str] = []
        found = patiently(lambda: ask(prefect, "/api/deployments/filter", {}))
        self.score = next(d["id"] for d in found if d["name"] == "score")

    def add(self) -> None:
        """Write a batch and start its flow run."""
        folder = self.root / f"batch-{len(self.current):03}"
        folder.mkdir(parents=True)
        for number in range(CLIPS):
            file = folder / f"{number:02}.mp4"
            noise = np.random.default_rng(self.rng.randrange(2**32))
            frames = [np.clip(f + noise.integers(-9, 9, f.shape), 0, 255).astype(np.uint8) for f in face_frames(6)]
            write_video(file, frames)
            if number == 0:
                spoil(file, self.rng)
        self._start(folder)

    def _start(self, folder: Path) -> None:
        path = f"/api/deployments/{self.score}/create_flow_run"
        parameters = {"paths": [str(folder)], "out": str(scored(folder)), "limits": {"workers": 1}}
        run_id = str(patiently(lambda: ask(self.prefect, path, {"parameters": parameters}))["id"])
        self.current[folder] = run_id
        self.begun.append(run_id)

    def go_on(self) -> bool:
        """Start each batch again whose run has died; return True when all have completed."""
        states = self.states([*self.current.values()])
        for folder, run_id in self.current.items():
            if states[run_id] in ENDED - {"COMPLETED"}:
                self._start(folder)
        return all(state == "COMPLETED" for state in states.values())

    def states(self, runs: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(runs), 100):
            body = {"flow_runs": {"id": {"any_": runs[start : start + 100]}}}
            answer = patiently(lambda body=body: ask(self.prefect, "/api/flow_runs/filter", body))  # type: ignore[misc]
            found |= {run["id"]: run["state_type"] for run in answer}
        return found


def scored(folder: Path) -> Path:
    return folder.parent / f"{folder.name}-scored"


def spoil(file: Path, rng: random.Random) -> None:
    """Turn a video into one of the files that arrive in real folders."""
    whole = file.read_bytes()
    file.write_bytes(
        rng.choice([b"", rng.randbytes(4000), whole[: len(whole) // 3], b"<html>not found</html>", bytes(4000)])
    )


def patiently(request: Callable[[], Any]) -> Any:
    """The answer to a request while Prefect may just have been killed."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return request()
        except (OSError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def descriptors(servers: Path, up_pid: int) -> dict[str, int]:
    """The number of open files of `ferflow up` and its programs."""
    pids = {name: pid for name, _, pid in running_processes(servers) if name in (*PROGRAMS, "supervisord")}
    return {name: psutil.Process(pid).num_fds() for name, pid in {"ferflow up": up_pid, **pids}.items()}


def temporary_files(*roots: Path) -> set[str]:
    """Files and folders of the temporary folder, and temporary files beside those of the workspace."""
    scratch, workspace = roots
    own = {str(path) for path in scratch.rglob("*") if not path.name.endswith(".sock")}
    return own | {str(p) for p in workspace.rglob("*") if p.name.startswith(".") or ".tmp" in p.name}


class Memory:
    """Resident memory of the programs over time; a program that was killed starts a new line."""

    def __init__(self) -> None:
        self.samples: dict[str, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))

    def sample(self, servers: Path) -> None:
        for name, _, pid in running_processes(servers):
            if name in PROGRAMS and pid:
                try:
                    process = psutil.Process(pid)
                    now = time.time()
                    if now - process.create_time() > SETTLED_S:
                        self.samples[name][pid].append((now, process.memory_info().rss / 1e6))
                except psutil.NoSuchProcess:
                    continue

    def slope(self, name: str) -> str:
        """The common slope of the lines of a program by least squares, with its 95 % interval: `3 ± 20 of 4 lines`."""
        lines = [np.array(line).T for line in self.samples[name].values() if line[-1][0] - line[0][0] >= LINE_S]
        if not lines:
            return "no line of a minute"
        t, mb = (np.concatenate([line[i] - line[i].mean() for line in lines]) for i in (0, 1))
        slope = (t @ mb) / (t @ t)
        spread = np.sqrt(((mb - slope * t) ** 2).sum() / max(len(t) - len(lines) - 1, 1) / (t @ t))
        return f"{slope * 3600:.0f} ± {1.96 * spread * 3600:.0f} of {len(lines)} lines"


@pytest.mark.timeout(int(MINUTES * 60 + FAIR_S + 900))
def test_up_loses_nothing_in_a_long_time_of_load_and_kills(champion_workspace, ferflow, tmp_path, monkeypatch):
    from fer_core.config import TrackingConfig
    from fer_core.tracking.connection import connect

    monkeypatch.setenv("FERFLOW_WORKSPACE", str(champion_workspace))
    workspace, scratch, servers = champion_workspace, tmp_path / "tmp", champion_workspace / "servers"
    scratch.mkdir()
    command = [ferflow, "up", "--mlflow-port", str(free_port()), "--prefect-port", str(free_port())]
    up = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        addresses = wait_for_announcement(up, workspace, 300)
        report = soak(addresses, up, servers, Load(addresses.prefect, tmp_path / "in", random.Random(7)), scratch)
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(timeout=60)
    runs = connect(TrackingConfig(), workspace).client.search_runs(["1"], max_results=5000)
    report["MLflow runs"] = dict(Counter(run.info.status for run in runs))
    print("", *(f"{name}: {value}" for name, value in report.items()), sep="\n")
    assert report["lost rows"] == 0 and report["rows"] == report["clips"]
    assert set(report["flow runs"]) <= ENDED
    assert "RUNNING" not in report["MLflow runs"]
    before, after = report["descriptors before"], report["descriptors after"]
    assert all(after[name] <= before[name] + 10 for name in before), (before, after)
    assert report["temporary files after"] <= report["temporary files before"]


def soak(addresses: Addresses, up: subprocess.Popen, servers: Path, load: Load, scratch: Path) -> dict[str, Any]:
    """Load and kill for MINUTES, then let all batches complete; return what was counted."""
    load.add()
    assert finish(load), "the first batch, without a kill"
    time.sleep(SAMPLE_S)
    before, files = descriptors(servers, up.pid), temporary_files(scratch, servers.parent)
    memory, kills = Memory(), Counter[str]()
    began = time.monotonic()
    due = {"batch": began, "kill": began + KILL_S, "sample": began}
    while (now := time.monotonic()) < began + MINUTES * 60:
        if now >= due["batch"]:
            due["batch"] += BATCH_S
            load.add()
        if now >= due["kill"]:
            due["kill"] = now + KILL_S
            kills[kill_one(servers, load.rng)] += 1
        if now >= due["sample"]:
            due["sample"] = now + SAMPLE_S
            memory.sample(servers)
            load.go_on()
        assert up.poll() is None
        time.sleep(0.5)
    assert finish(load), load.states([*load.current.values()])
    while not all(answers(url) for url in (f"{addresses.mlflow}/health", f"{addresses.prefect}/api/health")):
        time.sleep(1)
    time.sleep(SETTLED_S)
    tables = {folder: pd.read_csv(scored(folder) / "verdicts.csv") for folder in load.current}
    wanted = {str(file) for folder in load.current for file in folder.iterdir()}
    found = [str(folder / Path(clip).name) for folder, table in tables.items() for clip in table["path"]]
    slopes = {name: memory.slope(name) for name in PROGRAMS}
    return {
        "minutes": MINUTES,
        "batches": len(tables),
        "clips": len(wanted),
        "rows": len(found),
        "lost rows": len(wanted - set(found)),
        "rows without a verdict": sum(int((table["status"] != "ok").sum()) for table in tables.values()),
        "kills": dict(kills),
        "flow runs": dict(Counter(load.states(load.begun).values())),
        "descriptors before": before,
        "descriptors after": descriptors(servers, up.pid),
        "temporary files before": len(files),
        "temporary files after": len(files_after := temporary_files(scratch, servers.parent)),
        "of which new": sorted(files_after - files),  # each start of the flows has a folder of another name
        "memory slope, MB/h": slopes,
    }


def kill_one(servers: Path, rng: random.Random) -> str:
    """Kill a random process, of a random kind of those that run; return its kind."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for name, _, pid in running_processes(servers):
        if name != "supervisord" and pid:
            kinds[name if name in PROGRAMS else "flow run" if name.startswith("flow run") else "other"].append(pid)
    kind = rng.choice(sorted(kinds))
    try:
        os.kill(rng.choice(kinds[kind]), signal.SIGKILL)
    except ProcessLookupError:
        return f"{kind}, ended before"
    return kind


def finish(load: Load) -> bool:
    """Wait until every batch has completed."""
    deadline = time.monotonic() + FAIR_S
    while not load.go_on():
        if time.monotonic() > deadline:
            return False
        time.sleep(2)
    return True
