"""Every fitted model is kept in two files and read back the same; a refit repeats what the folds chose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fer_core.config import PRESETS, RECIPES, PreprocessConfig, TrainConfig, load_config
from fer_core.errors import RegistryError, WeightsError
from fer_core.experiments.search.study import refit
from fer_core.experiments.search.trial import TrialResult
from fer_core.features.inputs import ClipInputs
from fer_core.features.load_backbone import load_backbone
from fer_core.model_names import MODEL_NAMES
from fer_core.models.base import Fits, FitSplit, build_classifier
from fer_core.models.bundle import WEIGHTS, read_bundle, write_bundle
from fer_core.models.fc_head import HeadClassifier, build_head
from fer_core.models.forest import ForestClassifier
from fer_core.models.record import ModelFacts
from fer_core.models.registry import model_of, requirements_of
from fer_core.models.svm import SupportVectorsClassifier
from tests.saved_models import lite0

MODELS = tuple(MODEL_NAMES)
TRAIN = TrainConfig(widths=(16,), epochs=3, batch_size=30)
FIT, STOP, SCORED = np.arange(42), np.arange(42, 54), np.arange(54, 72)
FACTS = ModelFacts(preprocess=PreprocessConfig(size=96), synthetic=True)


def setting(model: str) -> TrainConfig:
    return TRAIN.with_model(model, **({"epochs": 2} if model.startswith(("fan", "lstm", "c3d")) else {}))


@pytest.fixture(scope="module")
def wide(drawn):
    """The drawn clips with as many features as lite0 gives."""
    mixing = torch.randn(drawn.n_features, 1280, generator=torch.Generator().manual_seed(0)) / 8
    return replace(drawn, features=(drawn.features.float() @ mixing).half())


@pytest.fixture(scope="module")
def fitted(wide):
    fits = Fits(wide)
    return {model: fits.fitted(model_of(setting(model)), FitSplit(FIT, STOP, 0)) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_every_model_read_from_its_two_files_gives_the_scores_it_was_fitted_with(wide, fitted, tmp_path, model):
    classifier = fitted[model].classifier
    written = write_bundle(tmp_path, classifier, lite0(), FACTS)
    again = read_bundle(tmp_path)
    assert np.array_equal(again.classifier.scores(wide, SCORED), classifier.scores(wide, SCORED))
    assert again.record == written.record and again.classifier.n_parameters == classifier.n_parameters
    assert again.classifier.rules == setting(model).rules
    assert (again.backbone is not None) == classifier.reads_features
    if not classifier.reads_features:
        assert (tmp_path / WEIGHTS).stat().st_size < 8_000_000, "no convolutions travel with it"


BY_HAND = {  # of 1280 features and six classes; a mean and a scale for each number that is standardised
    "fan-self": 2 * 1280 + (1280 + 1) + 6 * (1280 + 1),
    "fan-relation": 2 * 1280 + (1280 + 1) + (2560 + 1) + 6 * (2560 + 1),
    "lstm": 2 * 1280 + 4 * 64 * (1280 + 64 + 2) + 6 * (64 + 1),
    "c3d": 27 * (1 * 8 + 8 * 16 + 16 * 32 + 32 * 64) + 4 * (8 + 16 + 32 + 64) + 6 * (64 * 2 * 3 * 3 + 1),
    "lbp-change-svm": 2 * 2891 + 15 * (2891 + 1) + 2891,
    "displacement-svm": 2 * 288 + 15 * (288 + 1) + 288,  # and the direction in which expressions grow
}


@pytest.mark.parametrize("model", BY_HAND)
def test_numbers_learnt_are_all_that_must_be_kept_to_judge_a_clip(fitted, model):
    assert fitted[model].classifier.n_parameters == BY_HAND[model]


@pytest.mark.parametrize("model", MODELS)
def test_a_run_wants_what_its_model_reads(fitted, model):
    asked, classifier = requirements_of(setting(model)), fitted[model].classifier
    assert asked.plain == asked.backbone == classifier.reads_features
    assert set(asked.descriptors) == set(classifier.descriptors)
    assert asked.course == any(name != "texture" for name in classifier.descriptors)


@pytest.mark.parametrize("model", MODELS)
def test_frames_of_a_clip_judged_whole_have_its_scores(wide, fitted, model):
    classifier = fitted[model].classifier
    frames = classifier.frame_scores(wide, SCORED).reshape(len(SCORED), -1, 6)
    assert frames.dtype == np.float32
    if not classifier.scores_frames:
        assert np.array_equal(frames[:, 0], classifier.scores(wide, SCORED).astype(np.float32))
        assert (frames == frames[:, :1]).all()


@pytest.mark.parametrize("model", ["head", "fan-self", "c3d", "lbp-svm", "lbp-forest", "appearance-displacement"])
def test_a_refit_is_of_all_clips_by_the_median_of_the_folds_steps_and_share_and_chooses_costs_as_they_did(
    wide, fitted, model
):
    folds = tuple({name: factor * value for name, value in fitted[model].selected.items()} for factor in (0.5, 1, 1))
    trial = TrialResult(number=0, state="complete", train=setting(model), selected=folds)
    whole = refit(wide, trial)
    again = [name for name in whole.selected if name.endswith(("cost", "temperature", "unit_length"))]
    assert {k: v for k, v in whole.selected.items() if k not in again} == pytest.approx(
        {k: v for k, v in fitted[model].selected.items() if k not in again}
    )
    every = FitSplit(np.arange(wide.n_clips), np.empty(0, dtype=np.int64), setting(model).seed)
    if model == "lbp-svm":
        assert whole.selected == Fits(wide).fitted(model_of(setting(model)), every).selected
    assert type(whole.classifier) is type(fitted[model].classifier)
    again = refit(wide, trial)
    assert np.array_equal(whole.classifier.scores(wide, SCORED), again.classifier.scores(wide, SCORED))


@pytest.mark.parametrize("k", [2, 3, 6])
def test_support_vectors_decide_as_scikit_learn_does_where_a_class_wins_all_its_pairs(k):
    rng = np.random.default_rng(k)
    x, y = rng.normal(size=(90, 12)), rng.integers(0, k, 90)
    x[np.arange(90), y] += 1
    svc = SVC(kernel="linear", C=0.1, decision_function_shape="ovo")
    model = make_pipeline(StandardScaler(), svc).fit(x, y)
    ours = SupportVectorsClassifier.of(model, "texture", 1.0)
    new = rng.normal(size=(200, 12))
    margins = (new - ours.mean) / ours.scale @ ours.coef.T + ours.intercept
    theirs = model.decision_function(new)
    assert np.allclose(margins, theirs if k > 2 else -theirs[:, None])
    decided = ours.decision(margins)
    wins = decided.max(axis=1) > 0
    assert wins.mean() > 0.9 and (decided.argmax(axis=1) == model.predict(new))[wins].all()


def test_the_decision_of_a_class_is_its_smallest_margin_over_another():
    vectors = SupportVectorsClassifier(None, *np.empty((4, 0)), n_classes=3, onset=np.empty(0))
    found = vectors.decision(np.array([[0.5, 2.0, -1.0], [-3.0, -4.0, 0.25]]))  # of the pairs 0-1, 0-2, 1-2
    assert found.tolist() == [[0.5, -1.0, -2.0], [-4.0, 0.25, -0.25]]


def test_what_speaks_for_a_class_adds_up_to_its_margins(wide, fitted):
    classifier = fitted["displacement-svm"].classifier
    row = wide.described["displacement"][60].reshape(-1)
    margins = (classifier.rows({"displacement": row[None]})[0] - classifier.mean) / classifier.scale @ classifier.coef.T
    first = sum(margins[:5])  # the five pairs of the first class come first
    assert classifier.speaking_for(row, 0).sum() == pytest.approx(first)


def test_a_forest_gives_the_shares_that_scikit_learn_gives():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 9)).astype(np.float32), rng.integers(0, 6, 120)
    model = RandomForestClassifier(30, class_weight={0: 3.0, **dict.fromkeys(range(1, 6), 1.0)}, random_state=0)
    forest = ForestClassifier.of(model.fit(x, y), "texture", 1.0)
    new = rng.normal(size=(50, 9)).astype(np.float32)
    inputs = ClipInputs(features=torch.empty(50, 0), offsets=np.arange(51), described={"texture": new})
    assert np.allclose(forest.scores(inputs, np.arange(50)), model.predict_proba(new))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left", lambda t: t["left"].__setitem__(0, 0)),
        ("right", lambda t: t["right"].__setitem__(0, 10**9)),
        ("feature", lambda t: t["feature"].__setitem__(0, 10**9)),
        ("roots", lambda t: t["roots"].__setitem__(0, -1)),
        ("roots", lambda t: t.update(roots=t["roots"][:0])),
    ],
    ids=["circle", "outside", "feature", "root", "no root"],
)
def test_trees_that_lead_nowhere_are_refused(fitted, name, change):
    forest = fitted["lbp-forest"].classifier
    tensors = {key: value.clone() for key, value in forest.to_tensors().items()}
    change(tensors)
    with pytest.raises(WeightsError, match="do not lead from roots to leaves"):
        build_classifier(forest.to_record(), tensors, 6)


@pytest.mark.parametrize("model", MODELS)
def test_a_tensor_too_many_too_few_or_of_another_type_is_refused(fitted, model):
    record, tensors = fitted[model].classifier.to_record(), fitted[model].classifier.to_tensors()
    first = next(key for key, value in tensors.items() if value.ndim == 2 or key == "left")
    broken = (
        {**tensors, "surprise": torch.zeros(1)},
        {key: value for key, value in tensors.items() if key != first},
        {**tensors, first: tensors[first][:-1]},
        {**tensors, first: tensors[first].half()},
    )
    for wrong in broken:
        with pytest.raises((WeightsError, RuntimeError)):
            build_classifier(record, dict(wrong), 6)


def test_features_without_convolutions_are_refused(tmp_path):
    with pytest.raises(RegistryError, match="reads features, but there are no convolutions"):
        write_bundle(tmp_path, HeadClassifier(build_head(1280, (), 6, 0.0, 0)), None, FACTS)


@pytest.mark.parametrize("model", ["fan-self", "fan-relation"])
def test_the_appendix_is_a_preset_with_the_recipe_that_its_model_has_by_itself(model):
    packaged = load_config(PRESETS[model])
    assert packaged.train == TrainConfig(model=model)
    train = packaged.train
    assert (train.optimizer, train.lr, train.momentum, train.weight_decay) == ("sgd", 4e-3, 0.9, 1e-4)
    assert (train.schedule, train.step_epochs, train.step_gamma, train.epochs) == ("step", 60, 0.2, 180)
    assert train.batch_size == {"fan-self": 48, "fan-relation": 64}[model]
    assert (packaged.classes, packaged.backbone.name, packaged.backbone.normalize) == ("seven", "resnet18", "unit")
    with pytest.raises(WeightsError, match=r"no weights file at .*Resnet18_FER"):
        load_backbone(packaged.backbone)


def test_fields_that_are_given_win_over_the_recipe():
    told = TrainConfig(model="fan-self", lr=0.01, epochs=9)
    assert (told.lr, told.epochs, told.optimizer) == (0.01, 9, "sgd")
    assert TrainConfig.model_validate(told.model_dump()) == told
    head = TrainConfig(widths=(64,), lr=0.002, class_weights="balanced", seed=4)
    attention = head.with_model("fan-self")
    assert attention == TrainConfig(model="fan-self", lr=0.002, class_weights="balanced", seed=4)
    assert attention.with_model("lstm") == TrainConfig(model="lstm", lr=0.002, class_weights="balanced", seed=4)
    assert head.with_model("appearance-displacement").widths == (64,), "it has the head's layers"
    assert told.with_model("fan-self", epochs=3) == TrainConfig(model="fan-self", lr=0.01, epochs=3)


def test_a_model_compared_with_the_head_has_its_own_recipe():
    head = TrainConfig(widths=(64,), lr=0.002, epochs=5, class_weights="balanced", seed=4)
    assert head.with_recipe_of("lstm") == TrainConfig(model="lstm", class_weights="balanced", seed=4)
    assert head.with_recipe_of("appearance-displacement").widths == (64,)
    assert head.with_recipe_of("head") == head


@pytest.mark.parametrize("model", MODELS)
def test_a_setting_read_back_whole_is_the_same_and_turns_into_the_same_others(model):
    told = TrainConfig(epochs=5, lr=0.01, optimizer="adagrad", batch_size=7, label_smoothing=0.1).with_model(model)
    for setting in (told, TrainConfig(model=model)):
        whole = TrainConfig.model_validate_json(setting.model_dump_json())
        assert whole == setting
        assert [whole.with_model(other) for other in MODELS] == [setting.with_model(other) for other in MODELS]
    if model in RECIPES:
        five = (told.epochs, told.lr, told.optimizer, told.batch_size, told.label_smoothing)
        assert five == (5, 0.01, "adagrad", 7, 0.1)


def test_a_value_that_is_another_models_own_counts_as_given():
    assert TrainConfig(epochs=60, lr=0.001).with_model("fan-self").epochs == 60


@pytest.mark.parametrize("model", ["lstm-c3d", "lstm-c3d-learned"])
def test_what_is_given_to_two_networks_in_one_is_given_to_both(model):
    by_themselves = model_of(TrainConfig(model=model))
    assert (by_themselves.first.recipe, by_themselves.second.recipe) == (
        TrainConfig(model="lstm"), TrainConfig(model="c3d")
    )  # fmt: skip
    told = model_of(TrainConfig(model=model, epochs=5, lr=0.02, batch_size=8))
    assert told.first.recipe == TrainConfig(model="lstm", epochs=5, lr=0.02, batch_size=8)
    assert told.second.recipe == TrainConfig(model="c3d", epochs=5, lr=0.02, batch_size=8)
    assert model_of(TrainConfig(model=model), epochs=3).second.recipe.epochs == 3


@pytest.mark.parametrize(
    ("model", "given", "unread"),
    [
        ("lbp-svm", {"lr": 0.5, "optimizer": "adagrad", "seed": 3}, "lr, optimizer"),
        ("lbp-forest", {"sampling": "under", "label_smoothing": 0.3}, "sampling, label_smoothing"),
        ("lstm", {"sampling": "over", "lr": 0.5}, "sampling"),
        ("lstm", {"transfer": "last_block"}, "transfer"),
        ("c3d", {"augment": {"views": 4}}, "augment"),
        ("lstm-c3d", {"widths": [64]}, "widths"),
        ("fan-self", {"dropout": 0.2}, "dropout"),
    ],
)
def test_a_field_that_a_model_does_not_read_is_refused(model, given, unread):
    with pytest.raises(ValidationError, match=f"model '{model}' does not read {unread}; .* class_weights"):
        TrainConfig(model=model, **given)
