"""The search space: what is drawn when, and that every draw is a setting."""

from __future__ import annotations

import optuna
import pytest

from fer_core.config import RECIPES, AugmentConfig, BackboneConfig, RunConfig, SearchConfig, TrainConfig, load_config
from fer_core.errors import ConfigError
from fer_core.experiments.search.space import is_conditional, presets, suggest, suggest_backbone
from fer_core.model_names import MODEL_NAMES

BASE = TrainConfig(sampling="under", transfer="last_block", augment=AugmentConfig(views=3, rotation=4.0))
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
        ({"sampling": ("over",)}, {"sampling"}),
    ],
    ids=["nothing", "transfer", "views", "sampling", "one sampler"],
)
def test_what_is_listed_is_searched_and_nothing_else(listed, names):
    cfg = SearchConfig(**listed)
    trial, drawn = draw(cfg)
    assert set(trial.params) == TODAY | names
    if "transfer" not in names:
        assert drawn.transfer == "last_block"
    if "views" not in names:
        assert drawn.augment == BASE.augment
    assert drawn.sampling in listed.get("sampling", [BASE.sampling])
    assert all(set(params) == TODAY | names for params in presets(cfg, TrainConfig()).values())


def test_views_are_drawn_but_their_ranges_are_the_settings_own():
    seen = {draw(SearchConfig(views=(1, 4)), seed=s)[1].augment for s in range(12)}
    assert seen == {BASE.augment.model_copy(update={"views": v}) for v in (1, 4)}


def test_the_thesis_is_tried_frozen_unsampled_and_without_views():
    cfg = SearchConfig(sampling=("over", "none"), transfer=("last_block", "frozen"), views=(4, 1))
    for params in presets(cfg, TrainConfig()).values():
        _, drawn = draw(cfg, params)
        assert (drawn.sampling, drawn.transfer, drawn.augment.views) == ("none", "frozen", 1)


def test_neutral_faces_are_searched_only_where_frames_can_be_compared_with_them():
    cfg = SearchConfig(transfer=("frozen", "last_block"), views=(1, 4), relative=("none", "neutral"))
    seen = set()
    for seed in range(40):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
        drawn = suggest(trial, cfg, TrainConfig())
        compares = (drawn.transfer, drawn.augment.views) == ("frozen", 1)
        assert ("relative" in trial.params) == compares
        assert compares or drawn.relative == "none"
        seen.add((compares, drawn.relative))
    assert seen == {(True, "none"), (True, "neutral"), (False, "none")}
    assert is_conditional(cfg) and not is_conditional(SearchConfig(relative=("none", "neutral")))
    _, kept = draw_from(SearchConfig(transfer=("last_block",)), TrainConfig(relative="neutral"))
    assert (kept.transfer, kept.relative) == ("last_block", "none")
    for params in presets(cfg, TrainConfig()).values():
        assert params["relative"] == "none", "the thesis reads each frame alone"


EVERY = SearchConfig(models=tuple(MODEL_NAMES))


def test_models_are_drawn_each_with_settings_of_its_own():
    base = TrainConfig(class_weights="balanced", seed=3)
    seen = {}
    for seed in range(80):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        trial = study.ask()
        drawn = suggest(trial, EVERY, base)
        seen[drawn.model] = set(trial.params)
        assert drawn.seed == 3 and drawn.class_weights == trial.params["class_weights"]
        if drawn.model in RECIPES:
            recipe = RECIPES[drawn.model] | {"lr": trial.params["lr"]}
            assert {name: getattr(drawn, name) for name in recipe} == recipe
    assert set(seen) == set(EVERY.models)
    assert seen["head"] == seen["appearance-displacement"] == TODAY | {"model"}
    assert seen["fan-self"] == seen["c3d"] == seen["lstm-c3d"] == {"model", "class_weights", "lr"}
    assert seen["lbp-svm"] == seen["lbp-forest"] == {"model", "class_weights"}


def test_models_drawn_keep_what_was_given_and_nothing_of_each_other():
    base = TrainConfig(epochs=5, widths=(64,), dropout=0.2, sampling="over")
    for seed in range(40):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
        drawn = suggest(trial, SearchConfig(models=("head", "lstm", "fan-self", "lbp-svm"), full=True), base)
        if drawn.model in RECIPES:
            own = RECIPES[drawn.model] | {"lr": trial.params["lr"], "epochs": 5}
            own |= {"dropout": 0.2} if drawn.model == "lstm" else {}
            told = {"model": drawn.model, "class_weights": drawn.class_weights}
            assert drawn == TrainConfig(**own | told), "nor a sampler or widths, which it does not read"
        assert drawn.epochs == (60 if drawn.model == "lbp-svm" else 5)
        assert TrainConfig.model_validate_json(drawn.model_dump_json()) == drawn


def test_every_model_is_tried_first_by_its_own_recipe():
    tried = presets(EVERY, TrainConfig())
    assert {params["model"] for params in tried.values()} == set(EVERY.models)
    assert tried["table-4.1"]["model"] == "head" and tried["fan-self"]["lr"] == 4e-3
    for params in tried.values():
        study = optuna.create_study()
        study.enqueue_trial(params)
        trial = study.ask()
        suggest(trial, EVERY, TrainConfig())
        assert trial.params == params, "nothing is left to chance"


def test_a_model_that_is_not_searched_is_the_settings_own():
    _, drawn = draw_from(SearchConfig(), TrainConfig(model="lstm"))
    assert drawn.model == "lstm" and drawn.epochs == 60
    assert presets(SearchConfig(), TrainConfig(model="lbp-svm")) == {"lbp-svm": {"class_weights": "none"}}


def draw_from(cfg, base):
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask()
    return trial, suggest(trial, cfg, base)


def test_backbones_are_drawn_for_models_that_read_features_and_each_is_tried_with_every_preset():
    cfg = SearchConfig(backbones=("fer2013", "fer2013+face-api"), models=("head", "displacement-svm"))
    seen = set()
    for seed in range(30):
        trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed)).ask()
        drawn = suggest(trial, cfg, TrainConfig())
        label = suggest_backbone(trial, cfg, drawn)
        assert ("backbone" in trial.params) == (drawn.model == "head") == bool(label)
        seen.add(label)
    assert seen == {"", *cfg.backbones}
    tried = presets(cfg, TrainConfig())
    assert {params.get("backbone") for name, params in tried.items() if name.startswith("table-4.1")} == seen - {""}
    assert "backbone" not in tried["displacement-svm"]


def test_a_searched_backbone_is_published_or_the_settings_own():
    own = BackboneConfig(name="vgg16", weights="mine.safetensors")
    cfg = RunConfig(backbone=own, search=SearchConfig(backbones=("fer2013+face-api", "vgg16", "fer2013")))
    assert cfg.searched_backbones == {
        "fer2013+face-api": BackboneConfig(names=("fer2013", "face-api")), "vgg16": own,
        "fer2013": BackboneConfig(name="fer2013"),
    }  # fmt: skip
    assert RunConfig(backbone=own).searched_backbones == {"vgg16": own}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (["vgg17"], "there is no 'vgg17'"),
        (["fer2013", "fer2013"], "names one twice"),
        (["onnx"], "an ONNX file is searched only if backbone.name is onnx too"),
    ],
)
def test_backbones_that_cannot_be_searched_are_refused(labels, says):
    with pytest.raises(ConfigError, match=says):
        load_config(overrides=[f"search.backbones={labels}"])
