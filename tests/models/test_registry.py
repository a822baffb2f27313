"""Every model learns: above chance on people it has not seen, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_core.config import TrainConfig
from fer_core.errors import ConfigError
from fer_core.evaluation.metrics import mean_recall
from fer_core.model_names import compared_names
from fer_core.models.base import Fits, FitSplit
from fer_core.models.registry import models_of
from fer_core.store import canonical_json

TRAIN = TrainConfig(widths=(16,), epochs=12, batch_size=30)
FIT, STOP, SCORED = np.arange(42), np.arange(42, 54), np.arange(54, 72)
CHANCE = 1 / 6


@pytest.mark.parametrize("model", models_of(compared_names(), TRAIN, epochs=10), ids=compared_names())
def test_every_rival_does_better_than_chance_on_new_people(drawn, model):
    fitted = Fits(drawn).fitted(model, FitSplit(FIT, STOP, 0))
    scores = fitted.classifier.scores(drawn, SCORED)
    assert scores.shape == (len(SCORED), 6)
    assert np.allclose(scores.sum(axis=1), 1) and (scores >= 0).all()
    assert mean_recall(scores.argmax(axis=1), drawn.labels[SCORED], 6) > 2 * CHANCE
    assert fitted.classifier.n_parameters > 0 and fitted.seconds > 0


@pytest.mark.parametrize("name", ["fan-relation", "lstm", "lbp-forest", "displacement-svm"])
def test_same_seed_same_scores(drawn, name):
    (model,) = models_of([name], TRAIN, epochs=2)
    first, second = (
        Fits(drawn).fitted(model, FitSplit(FIT, STOP, 7)).classifier.scores(drawn, SCORED) for _ in range(2)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", ["head-mean", "fan-self", "lstm", "c3d", "lbp-svm", "lbp-forest"])
def test_what_is_scored_has_no_part_in_the_fit(drawn, name):
    """What is learnt is the same to the bit whatever the scored clips are, show and are called."""
    labels, features = drawn.labels.copy(), drawn.features.clone()
    labels[SCORED] = labels[SCORED][::-1]
    features[torch.from_numpy(drawn.frames_of(SCORED))] *= -3
    described = {descriptor: rows.copy() for descriptor, rows in drawn.described.items()}
    for rows in described.values():
        rows[SCORED] = rows.max() - rows[SCORED]
    other = replace(drawn, labels=labels, features=features, described=described)
    (model,) = models_of([name], TRAIN, epochs=2)
    a, b = (Fits(table).fitted(model, FitSplit(FIT, STOP, 0)).classifier.to_tensors() for table in (drawn, other))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ["fan-self", "lstm"])
def test_features_are_scaled_by_the_clips_trained_on_and_not_by_those_stopped_on(drawn, name):
    (model,) = models_of([name], TRAIN, epochs=1)
    found = Fits(drawn).fitted(model, FitSplit(FIT, STOP, 0)).classifier.to_tensors()["0.mean"]
    rows = drawn.features[torch.from_numpy(drawn.frames_of(FIT))]
    assert torch.allclose(found, rows.double().mean(dim=0).float(), atol=1e-5)


def test_everyones_imbalance_scheme_is_the_heads():
    every = models_of(compared_names(), TRAIN.model_copy(update={"class_weights": "square_root"}))
    single = [model for model in every if not hasattr(model, "first")]
    assert all("square_root" in canonical_json(model.setting) for model in single)


def test_recipes_keep_their_epochs_unless_told():
    fan, lstm = models_of(["fan-self", "lstm"], TRAIN)
    assert (fan.recipe.epochs, fan.recipe.lr, fan.recipe.batch_size, fan.recipe.optimizer) == (180, 4e-3, 48, "sgd")
    assert (fan.recipe.momentum, fan.recipe.weight_decay) == (0.9, 1e-4)
    assert (fan.recipe.schedule, fan.recipe.step_epochs, fan.recipe.step_gamma) == ("step", 60, 0.2)
    assert lstm.recipe.epochs == 60
    assert all(r.recipe.epochs == 7 for r in models_of(["fan-self", "lstm"], TRAIN, epochs=7))
    [fused] = models_of(["lstm-c3d"], TRAIN, epochs=7)
    assert fused.first.recipe.epochs == fused.second.recipe.epochs == 7


def test_settings_tell_rivals_apart():
    every = [canonical_json(r.setting) for r in models_of(compared_names(), TRAIN)]
    assert len(set(every)) == len(compared_names())
    assert canonical_json(models_of(["lstm"], TRAIN, epochs=3)[0].setting) not in every


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(ConfigError, match=r"no model 'lbp-svn' \(did you mean 'lbp-svm'\?\); there are head-mean, "):
        models_of(["lbp-svn"], TRAIN)
    with pytest.raises(ConfigError, match="'lstm' is named 2 times"):
        models_of(["lstm", "c3d", "lstm"], TRAIN)
