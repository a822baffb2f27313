"""The search space: what is drawn when, and that every draw is a setting."""

from __future__ import annotations

import optuna
import pytest

from fer_core.config import AugmentConfig, SearchConfig, TrainConfig
from fer_core.search.space import presets, suggest

BASE = TrainConfig(transfer="last_block", augment=AugmentConfig(views=3, rotation=4.0))
TODAY = {"lr", "batch_size", "widths", "class_weights"}


def draw(cfg, params=None, seed=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    if params:
        study.enqueue_trial(params)
    trial = study.ask()
    return trial, suggest(trial, cfg, BASE)


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ({}, set()),
        ({"transfer": ("frozen", "last_block")}, {"transfer"}),
        ({"views": (1, 4)}, {"views"}),
        ({"sampling": ("none", "over")}, {"sampling"}),
    ],
    ids=["nothing", "transfer", "views", "sampling"],
)
def test_what_is_listed_is_searched_and_nothing_else(listed, names):
    cfg = SearchConfig(**listed)
    trial, drawn = draw(cfg)
    assert set(trial.params) == TODAY | names
    if "transfer" not in names:
        assert drawn.transfer == "last_block"
    if "views" not in names:
        assert drawn.augment == BASE.augment
    assert all(set(params) == TODAY | names for params in presets(cfg, TrainConfig()).values())


def test_views_are_drawn_but_their_ranges_are_the_settings_own():
    seen = {draw(SearchConfig(views=(1, 4)), seed=s)[1].augment for s in range(12)}
    assert seen == {BASE.augment.model_copy(update={"views": v}) for v in (1, 4)}


def test_the_thesis_is_tried_frozen_and_without_views():
    cfg = SearchConfig(transfer=("last_block", "frozen"), views=(4, 1))
    for params in presets(cfg, TrainConfig()).values():
        _, drawn = draw(cfg, params)
        assert drawn.transfer == "frozen" and drawn.augment.views == 1
