"""Batches give the same bytes wherever they run."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.artifacts import Artifact

from fer_core.config import LimitsConfig, PreprocessConfig, RunConfig, RunnerConfig
from fer_core.errors import ConfigError
from flows.support.runner import run_batches
from tests.flows.test_data_commands import EMOTIONS, HEADER, recording
from tests.preprocess.films import write_video

DASK = RunnerConfig(kind="dask")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = []
    for person in range(4):
        for place, emotion in enumerate(EMOTIONS):
            name = f"p{person}_{emotion}"
            write_video(tmp_path / f"{name}.mp4", recording(10 * person + place))
            rows.append(f"{name},{name}.mp4,p{person},{emotion},lab\n")
    (tmp_path / "clips.csv").write_text(HEADER + "".join(rows))
    return tmp_path / "clips.csv"


def contents(store: Path) -> dict[str, str]:
    files = (p for p in store.rglob("*") if p.is_file())
    return {str(p.relative_to(store)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.slow
def test_a_cluster_of_two_workers_gives_the_bytes_of_this_machine(manifest, tmp_path, prefect_server, monkeypatch):
    from flows.preprocess import preprocess_flow
    from flows.support import prepare

    monkeypatch.setattr(prepare, "BATCH", 3)
    found = {}
    for cfg in (RunnerConfig(), DASK):
        config = RunConfig(
            workspace=str(tmp_path / cfg.kind), manifest=str(manifest), runner=cfg,
            preprocess=PreprocessConfig(max_frames=3), limits=LimitsConfig(workers=1),
        )  # fmt: skip
        found[cfg.kind] = preprocess_flow(config=config), contents(tmp_path / cfg.kind / "store")
    assert found["dask"] == found["threads"]
    assert found["dask"][0]["faces"] > 0 and len(found["dask"][1]) == 24  # faces and hash of each clip
    # of data of unknown origin nobody can say whether its faces may leave: they are on no server's page
    shown = Artifact.get("contact-sheet")
    assert shown is not None and "data:image" not in str(shown.data)
    assert (tmp_path / "dask" / "faces.png").read_bytes().startswith(b"\x89PNG")


@task
def place_of(number: int) -> tuple[int, int]:
    return number, os.getpid()


@flow
def places(cfg: RunnerConfig) -> list[tuple[int, int]]:
    return list(run_batches(place_of, [(i,) for i in range(6)], cfg))


@pytest.mark.slow
def test_batches_come_back_in_order_from_workers_of_their_own(prefect_server):
    for cfg in (RunnerConfig(), DASK):
        numbers, processes = zip(*places(cfg), strict=True)
        assert numbers == tuple(range(6))
        assert (os.getpid() in processes) is (cfg.kind == "threads")


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(prefect_server, monkeypatch):
    monkeypatch.setattr("flows.support.runner.CONNECT_S", 2.0)
    with pytest.raises(ConfigError, match=r"no worker of a Dask cluster answers at tcp://127\.0\.0\.1:9 "):
        places(RunnerConfig(kind="dask", address="tcp://127.0.0.1:9"))


def test_without_the_extra_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    with pytest.raises(ConfigError, match=r"not installed; pip install 'ferflow\[dask\]'"):
        next(run_batches(place_of, [(1,)], DASK))
