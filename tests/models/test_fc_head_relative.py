"""A head that compares each frame with the same person's neutral face."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fer_core.config import TrainConfig
from fer_core.errors import TrainingError
from fer_core.features.neutral_reference import NEUTRAL, beside_difference
from fer_core.models.base import Fits, FitSplit, build_classifier, read_of
from fer_core.models.fc_head import frame_scores
from fer_core.models.registry import model_of, requirements_of
from tests.tables import drawn_table

TRAIN = TrainConfig(epochs=12, widths=(32,), relative="neutral", stopping="never")
FIT, STOP, SCORED = np.arange(48), np.empty(0, int), np.arange(48, 72)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Small emotions on people who differ a lot; the neutral face is the person alone."""
    table = drawn_table(tmp_path_factory.mktemp("table"), noise=0.3)
    people = np.random.default_rng(1).normal(scale=6, size=(12, table.n_features))[np.arange(table.n_clips) // 6]
    features = table.features.float() + torch.from_numpy(np.repeat(people, 4, axis=0)).float()
    keys = {"people": "p", "features": "f", NEUTRAL: "n"}
    described = {NEUTRAL: people.astype(np.float16)}
    return dataclasses.replace(table, features=features.half(), described=described, part_keys=keys)


def fitted(table, **changes):
    return Fits(table).fitted(model_of(TRAIN.model_copy(update=changes)), FitSplit(FIT, STOP, 0)).classifier


def right(classifier, table) -> float:
    return float((classifier.scores(table, SCORED).argmax(axis=1) == table.labels[SCORED]).mean())


def test_people_who_differ_more_than_their_expressions_are_told_apart_by_the_difference(table):
    assert right(fitted(table), table) > right(fitted(table, relative="none"), table) + 0.2


def test_it_reads_features_beside_their_difference_to_the_neutral_face_of_their_clip(table):
    classifier = fitted(table)
    rows = table.frames_of(SCORED)
    neutral = torch.from_numpy(np.repeat(table.described[NEUTRAL][SCORED], 4, axis=0))
    wanted = frame_scores(classifier.head, beside_difference(table.features[rows], neutral))
    assert np.array_equal(classifier.frame_scores(table, SCORED), wanted.numpy())


def test_its_record_says_so_and_gives_the_same_scores_again(table):
    classifier = fitted(table)
    record = classifier.to_record()
    assert (record.relative, record.n_features) == ("neutral", table.n_features)
    again = build_classifier(record, classifier.to_tensors(), 6)
    assert again.reads_neutral and np.array_equal(again.scores(table, SCORED), classifier.scores(table, SCORED))


@pytest.mark.parametrize("model", ["head", "appearance-displacement"])
def test_only_then_are_neutral_faces_asked_for(table, model):
    for relative in ("none", "neutral"):
        train = TrainConfig(model=model, relative=relative)
        assert requirements_of(train).neutral == model_of(train).reads_neutral == (relative == "neutral")
    assert requirements_of(TrainConfig(relative="neutral")).course and not requirements_of(TrainConfig()).course
    assert NEUTRAL in read_of(table, model_of(TRAIN)) and NEUTRAL not in read_of(table, model_of(TrainConfig()))


def test_a_table_without_neutral_faces_is_refused(table):
    with pytest.raises(TrainingError, match="holds no neutral faces to compare with"):
        fitted(dataclasses.replace(table, described={}))


@pytest.mark.parametrize("given", [{"transfer": "last_block"}, {"augment": {"views": 2}}])
def test_tuned_blocks_and_views_have_no_stored_neutral_face(given):
    with pytest.raises(ValidationError, match=r"set transfer=frozen and augment\.views=1, or relative=none"):
        TrainConfig(relative="neutral", **given)
