"""A fit on the manifest's own sides: no cross-validation, the validation side only stops it."""

from __future__ import annotations

import dataclasses
import os
import signal
from concurrent.futures import Executor, Future

import numpy as np
import pytest
from safetensors.torch import load_file

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest
from fer_core.config import TrainConfig
from fer_core.experiments.search.processes import trial_processes
from fer_core.features.store import FeatureStore
from fer_core.models.fc_head import fit_head
from fer_core.thesis.holdout_fit import MODEL, drop_head, fit_holdout, head_of, holdout_split, run_holdout
from tests.executors import InProcess
from tests.tables import drawn_clips, drawn_table, equal_heads

TRAIN = TrainConfig(epochs=25, widths=(16,), stopping="thesis", lr=0.01)


def sided(tmp_path, validation: int = 2) -> Manifest:
    """The table's clips, the last people in the validation side."""
    clips = drawn_clips(tmp_path)
    sides = [Split.VALIDATION if i >= len(clips) - 6 * validation else Split.TRAIN for i in range(len(clips))]
    return Manifest(tuple(dataclasses.replace(c, split=s) for c, s in zip(clips, sides, strict=True)))


@pytest.fixture
def made(tmp_path):
    table = drawn_table(tmp_path)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    return table, path, holdout_split(table, sided(tmp_path), TRAIN), tmp_path / "fits"


def test_the_manifests_sides_are_the_fits(made):
    table, _, sides, _ = made
    assert len(sides.fit) == 60 and len(sides.stop) == 12
    assert not {table.subjects[c] for c in sides.fit} & {table.subjects[c] for c in sides.stop}
    assert sides.stopped_on == "stopped on the 12 validation clips of 2 people"


def test_without_a_validation_side_some_training_people_stop_it(made, tmp_path):
    table = made[0]
    sides = holdout_split(table, sided(tmp_path, validation=0), TRAIN)
    assert not {table.subjects[c] for c in sides.fit} & {table.subjects[c] for c in sides.stop}
    assert len(sides.fit) + len(sides.stop) == 72 and "as there is no validation side" in sides.stopped_on


def test_a_child_fits_what_fit_fits_and_is_not_asked_twice(made):
    table, path, sides, parent = made
    told = []
    with trial_processes(1) as executor:
        result, folder = fit_holdout(parent, table, path, sides, TRAIN, executor, progress=lambda *n: told.append(n))
    direct = fit_head(table, sides.fit, sides.stop, TRAIN)
    assert result.state == "complete" and equal_heads(head_of(folder, table, TRAIN), direct.head)
    assert [(e.loss, e.validation_accuracy) for e in result.epochs.epochs] == [
        (e.loss, e.validation_accuracy) for e in direct.history.epochs
    ]
    assert told and all(0 <= done <= 25 == most for done, most in told)
    again, same = fit_holdout(parent, table, path, sides, TRAIN, Refusing())
    assert again == result and same == folder


class Refusing(Executor):
    def submit(self, fn, /, *args, **kwargs):
        raise AssertionError("the fit was done before")


def test_a_fit_whose_head_and_model_are_gone_is_made_again(made):
    table, path, sides, parent = made
    _, folder = fit_holdout(parent, table, path, sides, TRAIN, InProcess())
    before = load_file(folder / "head.safetensors")
    (folder / MODEL).mkdir()
    drop_head(folder)
    fit_holdout(parent, table, path, sides, TRAIN, Refusing())  # a model was made of it
    (folder / MODEL).rmdir()
    fit_holdout(parent, table, path, sides, TRAIN, InProcess())
    after = load_file(folder / "head.safetensors")
    assert all(np.array_equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("left", [b"", b'{"state": "comp'], ids=["empty", "truncated"])
def test_a_damaged_result_is_made_again(made, left):
    table, path, sides, parent = made
    before, folder = fit_holdout(parent, table, path, sides, TRAIN, InProcess())
    (folder / "result.json").write_bytes(left)
    (folder / ".tmp-of-a-killed-process").touch()
    again, _ = fit_holdout(parent, table, path, sides, TRAIN, InProcess())
    assert again.steps == before.steps and not list(folder.glob(".tmp-*"))


def test_divergence_is_a_result_with_the_epochs_before_it(made):
    table, path, sides, parent = made
    wild = TRAIN.model_copy(update={"optimizer": "sgd", "lr": 1.0, "momentum": 0.99, "widths": (64, 64)})
    result, folder = fit_holdout(parent, table, path, sides, wild, InProcess())
    assert result.state == "failed" and "has diverged" in result.reason
    assert fit_holdout(parent, table, path, sides, wild, Refusing()) == (result, folder)


def killed(folder):
    os.kill(os.getpid(), signal.SIGKILL)


class Killing(Executor):
    """Runs the fit in a process that is killed."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        with trial_processes(1) as executor:
            inner = executor.submit(killed, *args)
            try:
                future.set_result(inner.result())
            except Exception as exc:
                future.set_exception(exc)
        return future


def test_a_killed_process_is_a_failed_result_that_can_be_tried_again(made):
    table, path, sides, parent = made
    result, folder = fit_holdout(parent, table, path, sides, TRAIN, Killing())
    assert result.state == "failed" and "its process ended without a result" in result.reason
    assert run_holdout(folder).state == "complete"
    assert fit_holdout(parent, table, path, sides, TRAIN, Refusing())[0].state == "complete"
