"""Runs read back and held against each other."""

from __future__ import annotations

import dataclasses

import pytest

from fer_core.config import RunConfig, SearchConfig, TrainConfig
from fer_core.errors import TrackingError
from fer_core.tracking.recorded import compare_runs, read_recorded
from fer_core.tracking.run import start_run
from tests.evaluation.drawn import history

CONFIG = RunConfig(
    manifest="clips.csv", train=TrainConfig(widths=(64, 32), lr=0.005), search=SearchConfig(folds=7, lr=(1e-4, 1e-2))
)


def candidate(tracking, name="candidate", tags=None, parent="", curve=None, **metrics):
    """A run as the flows leave it."""
    with start_run(tracking, name, parent=parent, tags=tags) as run:
        run.log_config(CONFIG)
        run.log_data("clips", "ab" * 16, synthetic=True)
        run.log_history(curve or history())
        run.log_metrics({"mean_recall": 0.8125, "seconds": 12.5, **metrics})
    return run


def test_a_candidate_is_read_back_as_it_was_asked(tracking):
    run = candidate(tracking, tags={"threads": "2"})
    recorded = read_recorded(tracking, run.id)
    assert recorded.config == CONFIG and recorded.kind == "candidate" and recorded.threads == 2
    assert recorded.fingerprint == "ab" * 16 and recorded.environment["torch"]


def test_a_trials_settings_are_its_parents_with_its_own_fit(tracking):
    parent = candidate(tracking, "search faces")
    train = TrainConfig(widths=(), lr=0.01, class_weights="balanced")
    with start_run(tracking, "trial 003", parent=parent.id, tags={"trial": "3"}) as run:
        run.log_config(train)
        run.log_data("faces", "cd" * 16, synthetic=True)
    recorded = read_recorded(tracking, run.id)
    assert recorded.kind == "trial" and recorded.config == CONFIG.model_copy(update={"train": train})


def test_what_cannot_be_run_again_is_refused_in_a_sentence(tracking):
    for unknown in ("nonsense", "no id"):
        with pytest.raises(
            TrackingError, match=rf"run '{unknown}' cannot be read: there is none .* 'ferflow reproduce thesis'"
        ):
            read_recorded(tracking, unknown)
    with start_run(tracking, "candidate") as run:
        run.log_config(CONFIG)
    with pytest.raises(TrackingError, match="has no data fingerprint"):
        read_recorded(tracking, run.id)
    with start_run(tracking, "trial 1", tags={"trial": "1"}) as orphan:
        orphan.log_config(CONFIG.train)
    with pytest.raises(TrackingError, match="a trial without a parent run"):
        read_recorded(tracking, orphan.id)


@pytest.mark.parametrize(
    ("name", "tags", "remedy"),
    [
        (
            "search faces",
            {"study": "faces"},
            "name one of its trials, or give the command that made it again, in a new",
        ),
        ("thesis table-4.1", {"setting": "table-4.1"}, "name one of its implementations, or give the command"),
        ("compare", {}, "again; give the command that made it again, in a new --workspace"),
        ("cross-database", {}, "again; give the command that made it again, in a new --workspace"),
        ("again candidate", {"reproduces": "1" * 32}, f"name the run that it repeats, {'1' * 32}"),
    ],
)
def test_a_run_made_of_others_is_refused_with_what_to_do_instead(tracking, name, tags, remedy):
    with pytest.raises(TrackingError, match=rf"'{name}'\) is no trial, candidate or implementation.*{remedy}"):
        read_recorded(tracking, candidate(tracking, name, tags=tags).id)


def test_equal_runs_are_bit_identical_whatever_their_times(tracking):
    digest = {"scores_digest": "12" * 16}
    then, now = (candidate(tracking, tags=digest, seconds=s, ms_per_clip=s) for s in (10.0, 20.0))
    found = compare_runs(tracking, then.id, now.id)
    assert found.identical and found.digests == {"scores_digest": True} and not found.environment
    assert {c.name for c in found.numbers} >= {"loss", "validation_accuracy", "mean_recall"}
    assert found.sentence.startswith(f"Bit-identical in {1 + 4 * 12} values of 5 numbers")


def test_the_last_bit_of_one_epoch_is_seen(tracking):
    curve = history()
    nudged = dataclasses.replace(curve.epochs[4], loss=curve.epochs[4].loss * (1 + 2**-52))
    curve.epochs[4] = nudged
    found = compare_runs(tracking, candidate(tracking).id, candidate(tracking, curve=curve).id)
    assert not found.identical and found.worst.name == "loss" and 0 < found.worst.worst < 1e-15
    assert found.sentence.startswith("1 of 5 numbers differ, most of all loss")


def test_a_shorter_curve_and_another_digest_are_no_agreement(tracking):
    then = candidate(tracking, tags={"weights_sha256": "aa"})
    shorter = candidate(tracking, tags={"weights_sha256": "aa"}, curve=history(11))
    assert not compare_runs(tracking, then.id, shorter.id).identical
    other = compare_runs(tracking, then.id, candidate(tracking, tags={"weights_sha256": "bb"}).id)
    assert not other.identical and other.sentence == "The same 49 values, but another weights_sha256."


def test_another_machine_is_told(tracking):
    then, now = (candidate(tracking, tags={"env.cores": c}) for c in ("2", "64"))
    assert compare_runs(tracking, then.id, now.id).environment == {"cores": ("2", "64")}


def test_runs_with_nothing_in_common_cannot_be_compared(tracking):
    with start_run(tracking, "empty") as empty:
        pass
    with pytest.raises(TrackingError, match="have no number in common"):
        compare_runs(tracking, candidate(tracking).id, empty.id)
