"""A finished trial's confidence, judged and sent to a run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fer_core.config import TrainConfig, load_config
from fer_core.errors import ConfigError
from fer_core.evaluation.metrics import clip_verdicts, evaluate
from fer_core.experiments.search.trial import TrialSpec, out_of_fold_scores, run_trial, write_spec
from fer_core.features.store import FeatureStore
from fer_core.tracking.confidence import evaluate_confidence, log_confidence
from fer_core.tracking.run import start_run
from tests.tables import drawn_table

RULE = "mean_scores"


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    """A table of twenty people in two groups, and the folder of a complete trial on it."""
    root = tmp_path_factory.mktemp("confidence")
    table = drawn_table(root, n_subjects=20, noise=4)  # some verdicts are wrong
    path = FeatureStore(root / "store").tables.path(table.key)
    folder = root / "trial"
    folder.mkdir()
    write_spec(folder, TrialSpec(number=0, study="x", train=TrainConfig(epochs=6), table=path, folds=3, seed=0))
    assert run_trial(folder).state == "complete"
    sex = tuple("f" if int(s.rpartition("s")[2]) % 2 else "m" for s in table.subjects)
    return dataclasses.replace(table, groups={"sex": sex}), folder


def test_calibration_lowers_the_log_loss_and_everything_is_of_the_same_clips(trial):
    table, folder = trial
    found = evaluate_confidence(table, out_of_fold_scores(folder), RULE, (0.8, 0.9, 0.95))
    numbers = found.metrics
    assert numbers["calibration/log_loss"] <= numbers["calibration/log_loss_uncalibrated"]
    assert 0.5 < numbers["abstention/auroc"] <= 1 and numbers["abstention/mean_risk"] == found.curve.mean_risk
    assert numbers["calibration/error"] == found.after.expected_error
    verdicts, _ = clip_verdicts(out_of_fold_scores(folder), table.offsets, np.arange(table.n_clips), RULE)
    whole = evaluate(verdicts, table.labels, table.subjects)
    assert numbers["abstention/accuracy_at_100"] == whole.accuracy.value
    assert sum(e.n_clips for e in found.groups["sex"].values()) == table.n_clips
    assert [made.confidence for made in found.sets] == [0.8, 0.9, 0.95] and "database" not in found.groups


@pytest.mark.parametrize(("chosen", "named"), [((0.75,), {"75"}), ((), set())], ids=["one", "none"])
def test_prediction_sets_are_made_at_the_coverages_chosen(trial, tracking, chosen, named):
    table, folder = trial
    cfg = load_config(None, [f"tracking.coverages={list(chosen)}"]).tracking
    with start_run(dataclasses.replace(tracking, cfg=cfg), "candidate") as run:
        found = log_confidence(run, table, out_of_fold_scores(folder), RULE)
    assert tuple(made.confidence for made in found.sets) == chosen
    metrics = tracking.client.get_run(run.id).data.metrics
    assert {name.split("/")[1] for name in metrics if name.startswith("sets/")} == named


@pytest.mark.parametrize("refused", ["[1.0]", "[0.3]", "[0.6, 0.7, 0.8, 0.9]"])
def test_a_coverage_out_of_bounds_is_refused(refused):
    with pytest.raises(ConfigError, match=r"tracking\.coverages"):
        load_config(None, [f"tracking.coverages={refused}"])


def test_the_run_holds_numbers_and_pictures(trial, tracking):
    table, folder = trial
    with start_run(tracking, "candidate") as run:
        found = log_confidence(run, table, out_of_fold_scores(folder), RULE)
    client = tracking.client
    metrics = client.get_run(run.id).data.metrics
    assert {name: metrics[name] for name in found.metrics} == pytest.approx(dict(found.metrics), rel=1e-5)
    files = {f.path for f in client.list_artifacts(run.id, "figures")}
    names = ("reliability.png", "abstention.png", "abstention.json", "prediction_sets.png", "prediction_sets.json")
    assert {f"figures/{name}" for name in names} <= files
    assert {f.path for f in client.list_artifacts(run.id, "figures/groups")} == {
        "figures/groups/sex.png", "figures/groups/sex.json",
    }  # fmt: skip
