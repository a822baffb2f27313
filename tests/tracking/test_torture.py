"""A search killed at random moments, with real processes: the trials' results and runs are those of a quiet one."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest

from fer_core.config import TrackingConfig
from fer_core.experiments.search.processes import trial_processes
from fer_core.experiments.search.storage import open_storage
from fer_core.experiments.search.study import search
from fer_core.experiments.search.trial import fold_values, out_of_fold_scores, read_result, run_trial
from fer_core.features.store import FeatureStore
from fer_core.tracking.connection import connect
from tests.tables import drawn_table
from tests.tracking.torture import BASE, EPOCHS, FOLDS, TRIALS, opened, space_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
KILLS = int(os.environ.get("FERFLOW_KILLS", "6"))
DIES_TWICE = 2  # a trial that dies three times under one coordinator has failed
RESTARTS = 3  # of PostgreSQL


@pytest.fixture(scope="module")
def table_path(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    return FeatureStore(folder / "store").tables.path(drawn_table(folder).key)


def answers(study) -> dict[int, tuple]:
    """Number -> all that a trial has found, but not how long it took."""
    found = {}
    for number in range(TRIALS):
        folder = study.trial_folder(number)
        result = read_result(folder)
        assert result is not None and result.state == "complete", (number, result)
        scores = out_of_fold_scores(folder).tobytes()
        found[number] = (result.train, result.value, result.selected, result.evaluations, fold_values(folder), scores)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, table_path) -> dict[int, tuple]:
    from fer_core.dataset.table import load_table

    study = opened(tmp_path_factory.mktemp("undisturbed"), table_path)
    with trial_processes(2) as executor:
        search(study, load_table(table_path), table_path, space_of(), BASE, executor, job=run_trial, workers=2)
    return answers(study)


class Coordinator:
    """The search in a process of its own, whose output goes to a file."""

    def __init__(self, workspace: Path, *arguments: object) -> None:
        self.log = workspace / "log"
        self._out = self.log.open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.tracking.torture", str(workspace), *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._out, start_new_session=True,
        )  # fmt: skip
        self._before = self.log.read_text().count("searching")

    def wait_until_searching(self) -> None:
        while self.log.read_text().count("searching") == self._before and self.process.poll() is None:
            time.sleep(0.1)

    def children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill_everything(self) -> None:
        with_all = [*self.children(), psutil.Process(self.process.pid)]
        for process in with_all:
            process.kill()
        self.process.wait()

    def kill(self) -> None:
        """Only the coordinator: its children must end by themselves."""
        children = self.children()
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, [process.cmdline() for process in alive]


@pytest.mark.parametrize("backend", ["workspace", "postgresql"])
def test_random_moments_of_a_search_lose_nothing_and_repeat_nothing(
    backend, request, table_path, undisturbed, tmp_path
):
    """Faults 78, 80, 91, 93 and 98: $FERFLOW_KILLS kills (6) of a trial, the coordinator, everything; PostgreSQL is
    restarted three times meanwhile."""
    uri, storage, postgres = "auto", "auto", None
    if backend == "postgresql":
        postgres = request.getfixturevalue("postgres")
        uri, storage = postgres.create("torture_mlflow"), postgres.create("torture_optuna")
    rng = random.Random(KILLS)
    restarts = set(rng.sample(range(KILLS), min(RESTARTS, KILLS))) if postgres else set()
    deaths, dealt = 0, {"trial": 0, "coordinator": 0, "everything": 0}
    search_of = (table_path, uri, storage)
    running = Coordinator(tmp_path, *search_of)
    try:
        for number in range(KILLS):
            running.wait_until_searching()
            time.sleep(rng.uniform(0.0, 4.0))
            if number in restarts:
                postgres.stop()
                time.sleep(rng.uniform(0.0, 2.0))
                postgres.start()
            kind = rng.choice([*dealt])
            if kind == "trial" and deaths == DIES_TWICE:
                kind = "coordinator"
            if running.process.poll() is None:
                dealt[kind] += 1
                if kind == "trial" and (children := running.children()):
                    deaths += 1
                    rng.choice(children).kill()
                elif kind == "everything":
                    running.kill_everything()
                else:
                    running.kill()
            if running.process.poll() is not None:
                deaths, running = 0, Coordinator(tmp_path, *search_of)
        assert running.process.wait(timeout=1800) == 0, running.log.read_text()[-3000:]
    finally:
        if running.process.poll() is None:
            running.kill_everything()
    print(dealt)
    study = opened(tmp_path, table_path, storage)
    assert answers(study) == undisturbed
    states = [t.state for t in optuna.load_study(study_name=study.name, storage=open_storage(study.storage)).trials]
    assert states == [optuna.trial.TrialState.COMPLETE] * TRIALS
    tracking = connect(TrackingConfig(uri=uri, experiment="torture"), tmp_path)
    runs = tracking.client.search_runs([tracking.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    [parent] = [run.info.run_id for run in runs if run.data.tags["kind"] == "search"]
    trials = [run for run in runs if run.data.tags["kind"] == "trial"]
    assert sorted(int(run.data.tags["trial"]) for run in trials) == list(range(TRIALS))
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent}
    for run in trials:
        for fold in range(FOLDS):
            points = tracking.client.get_metric_history(run.info.run_id, f"fold{fold}/loss")
            assert sorted(point.step for point in points) == list(range(1, EPOCHS + 1))
    assert not list(tmp_path.rglob(".tmp-*"))
    assert not tracking.unsent.runs()


def test_fault_94_a_second_coordinator_is_told_who_holds_the_study(table_path, tmp_path):
    first = Coordinator(tmp_path, table_path, "auto", "auto")
    try:
        first.wait_until_searching()
        second = subprocess.run(
            [sys.executable, "-m", "tests.tracking.torture", str(tmp_path), str(table_path), "auto", "auto"],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert second.returncode == 1
        assert f"is being searched by process {first.process.pid} on {socket.gethostname()} since" in second.stderr
    finally:
        children = first.children()
        os.kill(first.process.pid, signal.SIGINT)
        first.process.wait(timeout=60)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert children and not alive
