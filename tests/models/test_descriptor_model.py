"""Support vectors and forests: what they choose inside a training side, and what they are fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fer_core.clips.splits import grouped_folds
from fer_core.config import TrainConfig
from fer_core.evaluation.abstention import confidence_auroc
from fer_core.evaluation.calibration import calibrated_apart
from fer_core.evaluation.metrics import mean_recall
from fer_core.features.descriptors.motion import displacement
from fer_core.models.base import ClipClassifier, ClipModel, Fits, FitSplit, Fitted
from fer_core.models.descriptor_model import INNER_FOLDS
from fer_core.models.fusion import Fusion
from fer_core.models.registry import model_of
from fer_core.models.svm import COSTS, to_unit_length
from fer_core.models.temperature import negative_log_likelihood
from tests.models.conftest import drawn_courses

FIT, STOP, SCORED = np.arange(42), np.arange(42, 54), np.arange(54, 72)
WHOLE = np.concatenate([FIT, STOP])


@pytest.fixture(scope="module")
def hard(drawn):
    """The drawn clips with eight numbers each for a descriptor, so noisy that the cost matters."""
    rng = np.random.default_rng(0)
    rows = 1.6 * rng.normal(size=(6, 8))[drawn.labels] + rng.normal(size=(drawn.n_clips, 8))
    return replace(drawn, described={"texture": rows})


def support_vectors(cost):
    return make_pipeline(StandardScaler(), SVC(kernel="linear", C=cost))


def test_support_vectors_are_fitted_to_the_whole_training_side_at_the_cost_that_inner_folds_by_subject_prefer(hard):
    model = model_of(TrainConfig(model="lbp-svm"))
    fitted = Fits(hard).fitted(model, FitSplit(FIT, STOP, 3))
    rows = hard.described["texture"][WHOLE]
    labels, subjects = hard.labels[WHOLE], [hard.subjects[c] for c in WHOLE]
    inner = grouped_folds(subjects, labels, INNER_FOLDS, 3)
    recalls = [
        mean_recall(cross_val_predict(support_vectors(cost), rows, labels, cv=inner), labels, 6) for cost in COSTS
    ]
    assert recalls[COSTS.index(fitted.selected["cost"])] == max(recalls) > min(recalls)
    expected = support_vectors(fitted.selected["cost"]).fit(rows, labels)
    assert np.array_equal(fitted.classifier.coef, expected[-1].coef_)


def test_support_vectors_are_surer_of_clips_they_get_right_than_of_those_they_get_wrong(hard):
    scores = np.zeros((hard.n_clips, 6))
    for train, held_out in grouped_folds(hard.subjects, hard.labels, 6, 0):
        fitted = Fits(hard).fitted(model_of(TrainConfig(model="lbp-svm")), FitSplit(train, held_out[:0], 0))
        scores[held_out] = fitted.classifier.scores(hard, held_out)
    assert confidence_auroc(scores, hard.labels) > 0.8, "votes of the pairs reach 0.56 here"
    calibrated = calibrated_apart(scores, hard.labels, hard.subjects)
    before, after = (negative_log_likelihood(p, hard.labels) for p in (scores, calibrated))
    assert before == pytest.approx(after, rel=0.15), "calibrated inside the fold already, whatever the cost"


def test_a_forest_is_fitted_to_the_whole_training_side(drawn):
    model = model_of(TrainConfig(model="lbp-forest"))
    sides = FitSplit(FIT, STOP, 0), FitSplit(WHOLE, STOP[:0], 0), FitSplit(FIT, STOP[:0], 0)
    found, whole, part = (Fits(drawn).fitted(model, side).classifier.scores(drawn, SCORED) for side in sides)
    assert np.array_equal(found, whole) and not np.array_equal(found, part)


@pytest.mark.parametrize("model", ["lbp-svm", "lbp-forest"])
def test_a_class_that_one_subject_alone_shows_is_no_hindrance_to_inner_folds(drawn, model):
    alone = replace(drawn, labels=np.where((drawn.labels == 5) & (np.arange(72) // 6 > 0), 0, drawn.labels))
    scores = (
        Fits(alone).fitted(model_of(TrainConfig(model=model)), FitSplit(FIT, STOP, 0)).classifier.scores(alone, SCORED)
    )
    assert scores.shape == (len(SCORED), 6) and np.allclose(scores.sum(axis=1), 1)


@dataclass(frozen=True)
class Remembering(ClipModel):
    """Right about the clips it was fitted to, and evenly undecided about others."""

    @property
    def stops_early(self):
        return False

    def fit(self, fits, side):
        return Fitted(RememberingClassifier(frozenset(side.fit.tolist())), seconds=0.0)


@dataclass(frozen=True)
class RememberingClassifier(ClipClassifier):
    met: frozenset[int]
    n_parameters: int = 0

    def scores(self, inputs, clips):
        known = np.array([c in self.met for c in clips])[:, None]
        return np.where(known, np.eye(6)[inputs.labels[clips]], 1 / 6)

    to_record = to_tensors = build = None  # it is never kept


def test_a_fading_expression_is_told_from_a_growing_one_on_new_people(drawn):
    train, held_out = grouped_folds(drawn.subjects, drawn.labels, 3, 0)[0]
    fitted = Fits(drawn).fitted(model_of(TrainConfig(model="displacement-svm")), FitSplit(train, held_out[:0], 0))
    courses = [course for c, course in enumerate(drawn_courses()) if c in held_out]
    backwards = np.stack([displacement(course[::-1]) for course in courses])
    forwards = drawn.described["displacement"][held_out]
    assert fitted.classifier.fades(forwards).mean() < 0.1 and fitted.classifier.fades(backwards).mean() > 0.9
    assert not fitted.classifier.fades(np.zeros_like(forwards)).any(), "a face that keeps still does not fade"


def test_a_change_is_read_at_unit_length_where_inner_folds_prefer_it(drawn):
    rng = np.random.default_rng(0)
    ways = np.eye(6)[drawn.labels] + 0.1 * rng.normal(size=(drawn.n_clips, 6))
    faint = np.where(rng.random(drawn.n_clips) < 0.5, 0.02, 1.0)[:, None]
    rows = np.repeat((faint * ways)[:, :, None], 2, axis=2)
    table = replace(drawn, described={"displacement": rows})
    fitted = Fits(table).fitted(model_of(TrainConfig(model="displacement-svm")), FitSplit(FIT, STOP, 0))
    assert fitted.selected["unit_length"] == 1 and fitted.classifier.record.unit_length
    unit = replace(table, described={"displacement": to_unit_length(rows.reshape(len(rows), -1)).reshape(rows.shape)})
    found = fitted.classifier.scores(unit, SCORED)
    assert np.allclose(found, fitted.classifier.scores(table, SCORED), atol=1e-9)
    assert mean_recall(found.argmax(axis=1), drawn.labels[SCORED], 6) == 1
    assert not to_unit_length(np.zeros((1, 3))).any()


def test_unit_length_gives_way_to_plain_values_that_are_better_by_more_than_a_standard_error():
    model = model_of(TrainConfig(model="displacement-svm"))
    n = len(COSTS)
    plain_first = [0.90, *[0.80] * (n - 1), 0.91, *[0.80] * (n - 1)]
    assert model.select(plain_first, n_clips=100) == 0 and model.select(plain_first, n_clips=100_000) == n
    assert model_of(TrainConfig(model="lbp-svm")).select([0.5, 0.9, 0.8, 0.9, 0.1], n_clips=10) == 1


def test_a_descriptor_without_signs_tells_no_fading_expression(hard):
    fitted = Fits(hard).fitted(model_of(TrainConfig(model="lbp-svm")), FitSplit(FIT, STOP, 3))
    assert not fitted.classifier.fades(hard.described["texture"]).any()


def test_a_share_is_learnt_from_parts_that_have_not_met_the_clips_it_is_learnt_on(drawn):
    fused = Fusion("fused", "", model_of(TrainConfig(model="displacement-svm")), Remembering("r", ""), learned=True)
    fitted = Fits(drawn).fitted(fused, FitSplit(FIT, STOP, 0))
    assert fitted.classifier.share > 0.5, "a part that only remembers says nothing of new people"
    assert fitted.classifier.second.met == set(WHOLE.tolist()), "and is then fitted to all of them"
