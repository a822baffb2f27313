"""The exam is taken once, by models that have met none of its content; leaking pipelines are caught."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest
from fer_core.config import RunConfig, SearchConfig, TrainConfig
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.training_table import training_table
from fer_core.emotions import SIX
from fer_core.errors import DataError
from fer_core.evaluation.metrics import RULES, Evaluation
from fer_core.experiments.candidate import make_candidate
from fer_core.experiments.search.study import cross_validate
from fer_core.experiments.test_set import evaluate_on_test_set
from fer_core.features.store import FeatureStore
from fer_core.workspace import Workspace
from tests.datasets import stored_corpus
from tests.executors import InProcess
from tests.saved_models import lite0, small_bundle

CFG = RunConfig(train=TrainConfig(epochs=4, widths=(), patience=2), search=SearchConfig(folds=2))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    workspace = Workspace.open(str(tmp_path_factory.mktemp("exam")))
    return workspace, *stored_corpus(workspace)


def pipeline(workspace, trained: Manifest, whole: Manifest, rows):
    """Fit, stop and choose on the train and validation clips of `trained`, be tested on the test clips of `whole`."""
    table = training_table(Dataset.of(trained, rows), lite0(), CFG.preprocess, workspace)
    path = FeatureStore(workspace.store).tables.path(table.key)
    result, folder = cross_validate(workspace.root, table, path, CFG.search, CFG.train, InProcess())
    return make_candidate(table, result, folder, lite0(), whole, rows, CFG, workspace)


def moved(manifest: Manifest, subject: str, side: Split) -> Manifest:
    """The manifest with one subject on another side."""
    clips = (dataclasses.replace(c, split=side) if c.subject == subject else c for c in manifest.clips)
    return Manifest(tuple(clips))


def test_an_honest_pipeline_is_tested_once_on_every_test_clip(corpus):
    workspace, manifest, rows = corpus
    made = pipeline(workspace, manifest, manifest, rows)
    assert made.test is not None and set(made.test.evaluations) == set(RULES)
    digests = {row.clip: row.digest for row in rows}
    labels = {digests[c.id]: SIX.index(c.emotion) for c in manifest.of(Split.TEST).clips}
    for numbers in made.test.evaluations.values():
        verdicts = numbers["verdicts"]
        right = np.mean([verdicts[d] == label for d, label in labels.items()])
        assert verdicts.keys() == labels.keys() and Evaluation.from_json(numbers).accuracy.value == pytest.approx(right)


def test_faces_cut_anew_and_clips_lost_do_not_make_a_test_set_unseen(corpus):
    workspace, manifest, rows = corpus
    made = pipeline(workspace, manifest, manifest, rows)
    again = evaluate_on_test_set(made.bundle, manifest, rows, CFG.preprocess, workspace)
    assert again.again and again.openings == made.test.openings
    other = CFG.preprocess.model_copy(update={"equalize": "none"})
    assert evaluate_on_test_set(made.bundle, manifest, rows, other, workspace).number == made.test.openings + 1
    lost = {manifest.of(Split.TEST).clips[0].id}
    fewer = [row for row in rows if row.clip not in lost]
    assert (
        evaluate_on_test_set(made.bundle, manifest, fewer, CFG.preprocess, workspace).number == made.test.openings + 2
    )


def test_a_pipeline_that_stops_or_chooses_on_test_clips_is_caught(corpus):
    workspace, manifest, rows = corpus
    leaking = manifest
    for subject in {c.subject for c in manifest.of(Split.TEST).clips}:
        leaking = moved(leaking, subject, Split.VALIDATION)
    before = sorted(workspace.lockbox.glob("*.json"))
    with pytest.raises(DataError, match=r"lockbox stays shut: 7 of 7 people and recordings .* train the model, .*s04"):
        pipeline(workspace, leaking, manifest, rows)
    assert sorted(workspace.lockbox.glob("*.json")) == before


def test_a_split_drawn_anew_after_training_is_caught(corpus):
    workspace, manifest, rows = corpus
    subject = manifest.of(Split.TRAIN).clips[0].subject
    with pytest.raises(DataError, match=rf"shut: 7 of .* the first is subject '{subject}'"):
        pipeline(workspace, manifest, moved(manifest, subject, Split.TEST), rows)


def test_a_recording_under_another_name_is_caught(corpus):
    workspace, manifest, rows = corpus
    known, test = rows[0], {c.id for c in manifest.of(Split.TEST).clips}
    twin = next(i for i, row in enumerate(rows) if row.clip in test)
    copied = [*rows[:twin], dataclasses.replace(rows[twin], digest=known.digest), *rows[twin + 1 :]]
    bundle = small_bundle(workspace.root / "small")
    with pytest.raises(DataError, match=rf"shut: 1 of .* the first is clip '{rows[twin].clip}'"):
        evaluate_on_test_set(bundle, manifest, copied, CFG.preprocess, workspace, seen={known.digest})


def test_without_test_clips_there_is_no_exam(corpus):
    workspace, manifest, rows = corpus
    bundle = small_bundle(workspace.root / "other")
    assert evaluate_on_test_set(bundle, manifest.of(Split.TRAIN), rows, CFG.preprocess, workspace) is None
