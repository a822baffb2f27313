"""What MLflow holds, as `ferflow list` shows it."""

from __future__ import annotations

import math

from fer_core.config import TrackingConfig
from fer_core.tracking.connection import connect
from fer_core.tracking.listing import list_runs, list_trials, list_versions
from fer_core.tracking.run import start_run


def test_versions_are_listed_newest_first_with_aliases_and_cost(champion_workspace):
    tracking = connect(TrackingConfig(), champion_workspace)
    newest, oldest = list_versions(tracking)
    assert (newest.version, newest.aliases) == (2, ("challenger",))
    assert (oldest.version, oldest.aliases) == (1, ("champion",))
    assert oldest.synthetic and oldest.model == "head"
    assert oldest.seconds > 0 and math.isnan(oldest.mean_recall)  # registered without a record


def test_registry_without_versions_is_an_empty_list(tracking):
    assert list_versions(connect(TrackingConfig(model="nobodys"), tracking.workspace)) == []


def test_trials_and_runs_are_apart(tracking):
    with start_run(tracking, "a study") as study:
        for number, state in ((0, "complete"), (1, "pruned")):
            tags = {"trial": str(number), "study": "ours", "state": state, "model": "lbp-svm"}
            with start_run(tracking, f"trial {number}", parent=study.id, tags=tags) as run:
                prefix = "first_folds/" if state == "pruned" else ""
                rule = "mean_scores/" if number else ""  # of an earlier version
                run.log_metrics({f"{prefix}{rule}mean_recall": 0.5 + number / 10, "seconds": 2.0})
    trials = [t for t in list_trials(tracking) if t.study == "ours"]
    assert [(t.trial, t.state, t.mean_recall) for t in trials] == [(1, "pruned", 0.6), (0, "complete", 0.5)]
    assert all(t.seconds == 2 and math.isnan(t.ms_per_clip) for t in trials)
    (found,) = [r for r in list_runs(tracking) if r.run == study.id]
    assert (found.name, found.status, found.children) == ("a study", "finished", 2) and found.seconds > 0
    assert not {t.run for t in trials} & {r.run for r in list_runs(tracking)}
