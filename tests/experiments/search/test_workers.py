"""Trials on the workers of a real Dask cluster."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from fer_core.config import SearchConfig, TrainConfig
from fer_core.errors import ConfigError
from fer_core.experiments.search.processes import called_in
from fer_core.experiments.search.storage import open_storage
from fer_core.experiments.search.study import open_study, search
from fer_core.experiments.search.trial import EPOCHS, fold_values, out_of_fold_scores, run_trial
from fer_core.experiments.search.workers import ranks_on_hosts, trial_workers
from fer_core.features.store import FeatureStore
from tests.executors import InProcess
from tests.tables import drawn_table

distributed = pytest.importorskip("distributed")

TRIALS = 4
SPACE = SearchConfig(trials=TRIALS, folds=2, widths=((), (16,)), presets=False, prune=False)
BASE = TrainConfig(epochs=30, patience=30)


class _Client:
    """What a client says of a cluster of one worker, which shares no path with this machine."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def nthreads(self):
        return {"tcp://far:1": self._threads}

    def run(self, function, *arguments):
        return {"tcp://far:1": function(*(f"{argument}-far" for argument in arguments))}


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        (1, r"at tcp://far:1 does not see the workspace .*; mount it there"),
        (8, "runs 8 tasks at a time in one process"),
    ],
)
def test_workers_that_cannot_run_trials_are_refused(threads, message, tmp_path):
    with pytest.raises(ConfigError, match=message), trial_workers(_Client(threads), tmp_path):
        raise AssertionError("it was accepted")
    assert not [*tmp_path.iterdir()]


def test_two_workers_of_a_machine_with_two_gpus_use_one_each():
    hosts = {"tcp://a:1": "a", "tcp://b:1": "b", "tcp://a:2": "a"}
    assert ranks_on_hosts(hosts) == {"tcp://a:1": 0, "tcp://b:1": 0, "tcp://a:2": 1}


def answers(workspace: Path, table, executor, job) -> dict[str, tuple]:
    """Trial -> what it has found, of a search whose trials are enqueued."""
    study = open_study(workspace, table, SPACE, BASE)
    ledger = optuna.create_study(
        study_name=study.name, storage=open_storage(study.storage), direction="maximize", load_if_exists=True
    )
    for number in range(TRIALS):
        widths = ("linear", "16")[number % 2]
        drawn = {"lr": 0.001 * (1 + number), "batch_size": 20, "widths": widths, "class_weights": "none"}
        ledger.enqueue_trial(drawn)
    path = FeatureStore(workspace.parent / "store").tables.path(table.key)
    found = search(study, table, path, SPACE, BASE, executor, job=job, workers=2)
    return {
        folder.name: (
            r.state,
            r.train,
            r.value,
            r.evaluations,
            fold_values(folder),
            out_of_fold_scores(folder).tobytes(),
        )
        for r, folder in found
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_search_on_workers_one_of_which_is_killed_ends_as_one_on_this_machine(tmp_path):
    table = drawn_table(tmp_path, n_subjects=6, d=64)
    alone = answers(tmp_path / "alone", table, InProcess(), run_trial)
    shared, killed = tmp_path / "shared", []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        pids = client.run(os.getpid)

        def kill_one() -> None:
            """Kill a worker that runs a trial, as soon as an epoch has ended."""
            until = time.monotonic() + 200
            while time.monotonic() < until and not killed:
                busy = [address for address, tasks in client.processing().items() if tasks]
                if busy and any(shared.rglob(EPOCHS)):
                    os.kill(pids[busy[0]], signal.SIGKILL)
                    killed.append(len([*shared.rglob("result.json")]))
                time.sleep(0.01)

        killer = threading.Thread(target=kill_one)
        with trial_workers(client, tmp_path) as workers:
            killer.start()
            on_workers = answers(shared, table, threads, called_in(workers, run_trial))
            killer.join()
    assert killed and killed[0] < TRIALS, "killed in the middle"
    assert on_workers == alone and {state for state, *_ in alone.values()} == {"complete"}
