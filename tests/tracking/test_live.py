"""Curves in MLflow while a trial trains."""

from __future__ import annotations

import time

from fer_core.tracking import live
from fer_core.tracking.live import live_curves
from fer_core.tracking.run import start_run
from fer_core.training.history import History
from tests.evaluation.drawn import history


def test_epochs_are_there_before_the_fit_ends_and_stored_once_when_all_are_sent_again(tracking, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "EVERY_S", 0.05)
    epochs = history().epochs
    with start_run(tracking, "training") as run:
        with live_curves(run, tmp_path) as curves:
            for epoch in epochs[:2]:
                curves.add(1, epoch)
            until = time.monotonic() + 60
            while len(tracking.client.get_metric_history(run.id, "fold1/loss")) < 2:
                assert time.monotonic() < until
                time.sleep(0.05)
        run.log_history(History(epochs), "fold1/")
        points = tracking.client.get_metric_history(run.id, "fold1/loss")
        assert [point.value for point in points] == [epoch.loss for epoch in epochs]


def test_a_fit_goes_on_when_mlflow_refuses(tracking, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(live, "EVERY_S", 0.05)
    with start_run(tracking, "training") as run:
        pass
    tracking.client.delete_run(run.id)
    with live_curves(run, tmp_path) as curves:
        curves.add(0, history().epochs[0])
        until = time.monotonic() + 60
        while "when the trial has ended" not in caplog.text:
            assert time.monotonic() < until
            time.sleep(0.05)
    with live_curves(None, tmp_path) as curves:
        assert curves is None
