"""What a crash left behind in MLflow and Optuna is named, and repaired only when that is asked for."""

from __future__ import annotations

import multiprocessing
import shutil
import signal

import optuna
import pytest

from fer_core.config import TrackingConfig
from fer_core.experiments.search.ledger import FINGERPRINT, METRIC
from fer_core.experiments.search.storage import open_storage
from fer_core.experiments.search.study import open_study
from fer_core.features.store import FeatureStore
from fer_core.tracking.connection import connect
from fer_core.tracking.reconcile import ORPHAN, leftovers
from fer_core.tracking.trial import trial_run
from tests.tables import drawn_table
from tests.tracking.killed import BASE, SPACE, search_killed, tracked_search

CFG = TrackingConfig()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The workspace of a search that `kill -9` ended while the first trial's result was written, and its table."""
    folder = tmp_path_factory.mktemp("killed")
    table = drawn_table(folder, n_subjects=4, d=8)
    path = FeatureStore(folder / "store").tables.path(table.key)
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=search_killed, args=("while a result is written", CFG, folder, path))
    process.start()
    process.join(240)
    assert process.exitcode == -signal.SIGKILL
    return folder, table, path


def look(workspace):
    return list(leftovers(connect(CFG, workspace, tidy=False), "auto"))


def states(workspace, table):
    study = open_study(workspace, table, SPACE, BASE)
    ledger = optuna.load_study(study_name=study.name, storage=open_storage(study.storage))
    return [trial.state.name for trial in ledger.trials]


def test_fault_98_what_a_killed_search_left_running_is_named_repaired_and_gone_on_with(killed):
    workspace, table, path = killed
    for _ in range(2):  # looking changes nothing
        found = look(workspace)
        assert [left.where for left in found] == ["MLflow", "Optuna"]
        assert found[0].what.startswith("2 runs are RUNNING, but the process has died: '")
        assert found[1].what.endswith("RUNNING without a process: trial 0")
    study = open_study(workspace, table, SPACE, BASE)
    with study.held():
        pass
    told = [left.repair() for left in found]
    assert told[0] == "2 runs are ended as KILLED"
    assert "trial 0 is WAITING (the same search goes on with it)" in told[1]
    assert look(workspace) == []
    assert states(workspace, table)[0] == "WAITING"
    _, results, _ = tracked_search(CFG, workspace, path)
    assert [r.number for r in results] == [0, 1, 2] and states(workspace, table) == ["COMPLETE"] * 3
    assert look(workspace) == []

    tracking = connect(CFG, workspace)
    folders = [study.trial_folder(number) for number in range(3)]
    tracking.client.delete_run(trial_run(tracking, folders[1]))
    gone = trial_run(tracking, folders[2])
    shutil.rmtree(folders[2])
    found = look(workspace)
    assert "trial-0001 has a result but no run" in found[0].what
    assert "is of a trial that this workspace does not have" in found[1].what
    done = [left.repair() for left in found]
    assert done[0].startswith("trial-0001 of ")
    assert look(workspace) == []
    assert tracking.client.get_run(trial_run(tracking, folders[1])).info.status == "FINISHED"
    assert tracking.client.get_run(gone).data.tags[ORPHAN] == "true"


def test_a_trial_that_has_a_result_but_is_running_in_optuna_is_told_it(killed, tmp_path):
    _, table, path = killed
    context = multiprocessing.get_context("forkserver")
    moment = "between recording a trial and telling Optuna"
    process = context.Process(target=search_killed, args=(moment, CFG, tmp_path, path))
    process.start()
    process.join(240)
    assert states(tmp_path, table)[:2] == ["COMPLETE", "RUNNING"]
    assert any("trial 1 is COMPLETE" in left.repair() for left in look(tmp_path))
    assert states(tmp_path, table)[:2] == ["COMPLETE", "COMPLETE"]


def test_a_study_says_in_optuna_what_it_is_of_and_where_its_runs_are(killed):
    workspace, table, _ = killed
    study = open_study(workspace, table, SPACE, BASE)
    ledger = optuna.load_study(study_name=study.name, storage=open_storage(study.storage))
    assert ledger.metric_names == [METRIC] and ledger.user_attrs[FINGERPRINT] == table.note["fingerprint"]
