"""Scoring on the workers of a Dask cluster, one of which is killed."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from fer_core.config import LimitsConfig, RunConfig, RunnerConfig
from fer_core.emotions import SIX
from fer_core.tracking.relocation import relocate
from tests.preprocess.films import face_frames, plain_frames, write_video

CLIPS = 8


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(CLIPS):
        write_video(folder / f"{i}.mp4", face_frames(10 + i) if i % 4 else plain_frames(4 + i))
    (folder / "broken.mp4").write_bytes(b"not a film")
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows without the time they took, and with scores to four digits: a worker has other threads."""
    with (folder / "verdicts.csv").open() as file:
        rows = [*csv.DictReader(file)]
    for row in rows:
        row.pop("processing_s")
        row.update({name: f"{float(row[name]):.4f}" for name in ("confidence", *map(str, SIX)) if row[name]})
    return rows


def kill_one(pids: list[int], verdicts: Path) -> int:
    """Kill the first worker as soon as a row is stored; return the number of rows that were stored then."""
    for _ in range(6000):
        if verdicts.is_dir() and (stored := len([p for p in verdicts.rglob("*") if p.is_file()])):
            os.kill(pids[0], signal.SIGKILL)
            return stored
        time.sleep(0.02)
    raise AssertionError("no row was stored")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_give_the_rows_of_this_machine_though_one_is_killed(
    films, tmp_path, champion_workspace, prefect_server, monkeypatch
):
    from distributed import Client, LocalCluster

    from flows import score

    monkeypatch.setattr(score, "SHARD", 2)
    here, shared = (Path(shutil.copytree(champion_workspace, tmp_path / name)) for name in ("here", "shared"))
    relocate(here)
    relocate(shared)
    config = RunConfig(workspace=str(here), limits=LimitsConfig(workers=1))
    alone = score.score_flow([str(films)], str(tmp_path / "alone"), config)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        pids = [*client.run(os.getpid).values()]
        stored: list[int] = []
        killer = threading.Thread(target=lambda: stored.append(kill_one(pids, shared / "store" / "verdicts")))
        killer.start()
        runner = RunnerConfig(kind="dask", address=cluster.scheduler_address)
        on_workers = RunConfig(workspace=str(shared), limits=LimitsConfig(workers=1), runner=runner)
        together = score.score_flow([str(films)], str(tmp_path / "together"), on_workers)
        killer.join()
    assert 0 < stored[0] < CLIPS, "killed in the middle"
    assert (
        rows_of(tmp_path / "together") == rows_of(tmp_path / "alone") and len(rows_of(tmp_path / "alone")) == CLIPS + 1
    )
    assert together["remembered"] >= CLIPS > alone["remembered"] == 0
