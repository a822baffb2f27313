"""Curves in MLflow while a trial trains."""

from __future__ import annotations

import time
from dataclasses import replace

from fer_core.experiments.search.trial import EPOCHS, note_epoch
from fer_core.tracking import live
from fer_core.tracking.live import Curves, first_times, live_curves, timed
from fer_core.tracking.run import start_run
from fer_core.training.history import History
from tests.evaluation.drawn import history


def test_epochs_are_there_before_the_fit_ends_and_stored_once_when_all_are_sent_again(tracking, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "EVERY_S", 0.05)
    epochs = history().epochs
    with start_run(tracking, "training") as run:
        with live_curves(run, tmp_path):
            for epoch in epochs[:2]:
                note_epoch(tmp_path, 1, epoch)
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
    with live_curves(run, tmp_path):
        note_epoch(tmp_path, 0, history().epochs[0])
        until = time.monotonic() + 60
        while "when the trial has ended" not in caplog.text:
            assert time.monotonic() < until
            time.sleep(0.05)
    with live_curves(None, tmp_path):
        pass


def test_epochs_that_a_killed_trial_repeats_keep_the_times_at_which_they_first_ended(tracking, tmp_path):
    """After a kill the fit goes on from its last checkpoint; MLflow has the epochs after it already."""
    epochs = history().epochs
    later = [replace(epoch, ended_at=epoch.ended_at + 60_000) for epoch in epochs]
    with start_run(tracking, "training") as run:
        for told in (epochs[:3], later[1:]):
            for epoch in told:
                note_epoch(tmp_path, 0, epoch)
            Curves(run, tmp_path).send()
            with (tmp_path / EPOCHS).open("a") as file:
                file.write('\n{"fold": 0, "num')  # half a line, as a kill may leave it
        run.log_epochs(timed(later, 0, first_times(tmp_path)), "fold0/")
    points = tracking.client.get_metric_history(run.id, "fold0/loss")
    times = [epoch.ended_at for epoch in (*epochs[:3], *later[3:])]
    assert sorted((p.step, p.timestamp) for p in points) == list(enumerate(times, 1))
