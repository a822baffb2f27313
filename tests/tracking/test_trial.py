"""Trials that record themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.config import TrackingConfig, TrainConfig
from fer_core.errors import DataError, TrackingError
from fer_core.evaluation.abstention import ranking
from fer_core.evaluation.metrics import clip_verdicts
from fer_core.experiments.search.trial import TrialSpec, histories, out_of_fold_scores, run_trial, write_spec
from fer_core.features.store import FeatureStore
from fer_core.models.fc_head import Head
from fer_core.tracking.run import Run, start_run
from fer_core.tracking.trial import send_trial, tracked_trial, trial_run
from tests.tables import drawn_table


@pytest.fixture
def hopeless(tmp_path):
    """The folder of a trial with more folds than people."""
    table = drawn_table(tmp_path, n_subjects=4)
    folder = tmp_path / "trial"
    folder.mkdir()
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    write_spec(folder, TrialSpec(number=0, study="single setting", train=TrainConfig(), table=path, folds=40, seed=0))
    return folder


def test_a_trial_that_raises_leaves_its_run_failed(tracking, hopeless):
    with pytest.raises(DataError, match="40 subject-disjoint folds"):
        tracked_trial(TrackingConfig(), tracking.workspace, hopeless)
    assert tracking.client.get_run(trial_run(tracking, hopeless)).info.status == "FAILED"


def test_mlflow_going_away_does_not_hide_why_a_trial_failed(tracking, hopeless, monkeypatch, caplog):
    def gone(run, status):
        raise TrackingError("MLflow does not answer")

    monkeypatch.setattr(Run, "finish", gone)
    with pytest.raises(DataError, match="40 subject-disjoint folds"):
        tracked_trial(TrackingConfig(), tracking.workspace, hopeless)
    assert "MLflow does not answer" in caplog.text


def test_a_pruned_trial_is_not_ranked_among_complete_ones(tracking, tmp_path):
    """Its numbers are of some folds: MLflow's lists, which sort by a metric, must not put it first."""
    table = drawn_table(tmp_path)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    good, bad = TrainConfig(epochs=6, widths=(16,)), TrainConfig(epochs=1, widths=(), lr=1e-6)
    spec = TrialSpec(number=0, study="s", train=good, table=path, folds=3, seed=0)
    best, pruned = tmp_path / "trial-0000", tmp_path / "trial-0001"
    with start_run(tracking, "search s") as parent:
        for folder, own in ((best, {}), (pruned, {"number": 1, "train": bad, "best": best})):
            write_spec(folder, spec.model_copy(update=own))
            run_trial(folder)
            assert send_trial(tracking, folder, parent.id) and not send_trial(tracking, folder, parent.id)
    query = f"tags.mlflow.parentRunId = '{parent.id}' AND metrics.mean_recall >= 0"
    [ranked] = tracking.client.search_runs([tracking.experiment_id], query)
    assert ranked.info.run_name == "trial 000 · lr 1.0e-3 · batch 20 · 16" and ranked.info.status == "FINISHED"
    table_scores = clip_verdicts(out_of_fold_scores(best), table.offsets, np.arange(table.n_clips), "mean_scores")[1]
    expected = ranking(table_scores, table.labels, table.subjects)
    assert ranked.data.metrics["abstention/mean_risk"] == pytest.approx(expected.mean_risk, rel=1e-5)
    run = tracking.client.get_run(trial_run(tracking, pruned))
    assert "abstention/mean_risk" not in run.data.metrics
    assert (run.info.run_name, run.info.status) == ("trial 001 · lr 1.0e-6 · batch 20 · linear · pruned", "KILLED")
    assert run.data.metrics["first_folds/mean_recall"] < 0.5
    assert "points" in run.data.tags["reason"] and "against trial-0000 on the 8 people" in run.data.tags["reason"]


def test_trials_go_to_the_new_run_of_a_study_whose_run_was_deleted(tracking, tmp_path):
    table = drawn_table(tmp_path, n_subjects=4)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    folder = tmp_path / "trial"
    write_spec(folder, TrialSpec(number=0, study="s", train=TrainConfig(epochs=1), table=path, folds=2, seed=0))
    run_trial(folder)
    with start_run(tracking, "first") as first, start_run(tracking, "second") as second:
        assert send_trial(tracking, folder, first.id) and send_trial(tracking, folder, second.id)
    run = tracking.client.get_run(trial_run(tracking, folder))
    assert run.data.tags["mlflow.parentRunId"] == second.id and run.info.status == "FINISHED"


@pytest.mark.parametrize(("most", "state"), [(10, "complete"), (9, "failed")])
def test_a_trial_without_memory_goes_on_or_fails_and_its_run_says_so(tracking, tmp_path, monkeypatch, most, state):
    forward = Head.forward

    def refusing(head: Head, x: torch.Tensor) -> torch.Tensor:
        if head.training and len(x) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return forward(head, x)

    monkeypatch.setattr(Head, "forward", refusing)
    table = drawn_table(tmp_path, n_subjects=4, d=8)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    train = TrainConfig(epochs=2, batch_size=20, widths=())
    folder = tmp_path / "trial"
    with start_run(tracking, "search") as run:
        spec = TrialSpec(number=0, study="s", train=train, table=path, folds=2, seed=0, parent_run=run.id)
        write_spec(folder, spec)
        result = tracked_trial(TrackingConfig(), tracking.workspace, folder)
    assert result.state == state
    recorded = tracking.client.get_run(trial_run(tracking, folder)).data.tags
    if state == "complete":
        assert all(history.halved for history in histories(folder))
        assert "in two halves" in recorded["halved"] and "in two halves" in recorded["mlflow.note.content"]
    else:
        assert "lower train.batch_size" in result.reason and "lower train.batch_size" in recorded["reason"]
