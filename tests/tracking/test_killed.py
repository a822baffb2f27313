"""A tracked search, killed at each of its seams by `kill -9` and run again, ends as one that was never disturbed."""

from __future__ import annotations

import multiprocessing
import signal

import pytest

from fer_core.config import TrackingConfig
from fer_core.experiments.search.study import open_study, refit, search
from fer_core.experiments.search.trial import out_of_fold_scores
from fer_core.features.store import FeatureStore
from fer_core.tracking.connection import connect
from fer_core.tracking.run import start_run
from tests.executors import InProcess
from tests.tables import drawn_table
from tests.tracking.killed import BASE, MOMENTS, SPACE, search_killed, tracked_search, train_killed

QUICK = ("between two presets", "between making a run and noting it", "between recording a trial and telling Optuna")


@pytest.fixture(scope="module")
def processes():
    """Processes forked from one that has imported all they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tracking.killed"])
    return context


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small table and where it lies; shared by all workspaces here."""
    folder = tmp_path_factory.mktemp("table")
    table = drawn_table(folder, n_subjects=4, d=8)
    return table, FeatureStore(folder / "store").tables.path(table.key)


def answers(table, study, results) -> dict[int, tuple]:
    """Number -> setting, scores, and weights of the refit on all clips."""
    found = {}
    for result in results:
        weights = refit(table, result).classifier.to_tensors()
        scores = out_of_fold_scores(study.trial_folder(result.number)).tobytes()
        found[result.number] = result.train, scores, {name: w.numpy().tobytes() for name, w in weights.items()}
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, prepared):
    """The answers of a search that nobody killed."""
    table, path = prepared
    study = open_study(tmp_path_factory.mktemp("undisturbed"), table, SPACE, BASE)
    return answers(table, study, [result for result, _ in search(study, table, path, SPACE, BASE, InProcess())])


@pytest.mark.parametrize("moment", [m if m in QUICK else pytest.param(m, marks=pytest.mark.slow) for m in MOMENTS])
def test_a_search_killed_at_a_seam_ends_as_if_it_had_not_been(
    moment, processes, prepared, undisturbed, tracking, tmp_path
):
    cfg = TrackingConfig(uri=tracking.uri, experiment=moment)
    arguments = (cfg, tmp_path, prepared[1])
    killed = processes.Process(target=search_killed, args=(moment, *arguments))
    killed.start()
    killed.join(240)
    assert killed.exitcode == -signal.SIGKILL

    study, results, run = tracked_search(*arguments)
    assert answers(prepared[0], study, results) == undisturbed
    client = tracking.client
    runs = client.search_runs([connect(cfg, tmp_path).experiment_id])
    assert {r.info.status for r in runs} == {"FINISHED"}
    parents = {r.info.run_name.partition(" · ")[0]: r.data.tags.get("mlflow.parentRunId", "") for r in runs}
    assert len(runs) == len(parents)
    assert parents == {f"search {study.name}": "", **{f"trial {n:03d}": run for n in range(SPACE.trials)}}
    assert all(r.data.tags["state"] == "complete" for r in runs if r.info.run_id != run)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_runs_of_a_killed_command_are_ended_by_the_next_one(processes, tracking, tmp_path):
    cfg = TrackingConfig(uri=tracking.uri, experiment="left running")
    killed = processes.Process(target=train_killed, args=(cfg, tmp_path))
    with start_run(connect(cfg, tmp_path), "alive"):
        killed.start()
        killed.join(240)
        assert killed.exitcode == -signal.SIGKILL
        experiment = connect(cfg, tmp_path).experiment_id
        states = {r.info.run_name: r.info.status for r in tracking.client.search_runs([experiment])}
    assert states == {"candidate": "KILLED", "trial 000": "KILLED", "alive": "RUNNING"}
