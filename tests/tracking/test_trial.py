"""Trials that record themselves."""

from __future__ import annotations

import pytest

from fer_core.config import TrackingConfig, TrainConfig
from fer_core.errors import DataError, TrackingError
from fer_core.experiments.search.trial import TrialSpec, write_spec
from fer_core.features.store import FeatureStore
from fer_core.tracking.run import Run
from fer_core.tracking.trial import run_id_of, tracked_trial
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
    assert tracking.client.get_run(run_id_of(hopeless)).info.status == "FAILED"


def test_mlflow_going_away_does_not_hide_why_a_trial_failed(tracking, hopeless, monkeypatch, caplog):
    def gone(run, status):
        raise TrackingError("MLflow does not answer")

    monkeypatch.setattr(Run, "finish", gone)
    with pytest.raises(DataError, match="40 subject-disjoint folds"):
        tracked_trial(TrackingConfig(), tracking.workspace, hopeless)
    assert "MLflow does not answer" in caplog.text
