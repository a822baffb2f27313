"""How each family of models treats frames; learning is tested in each model's own file."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fer_core.config import TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.features.descriptors.descriptor import COURSE_FRAMES, course_config, frames_evenly
from fer_core.features.descriptors.volume import SIDE, volume
from fer_core.models import clip_network
from fer_core.models.attention import Attention, thirds
from fer_core.models.base import ClipClassifier, ClipModel, Fits, FitSplit, Fitted
from fer_core.models.c3d import C3D, _jitter, c3d_small
from fer_core.models.clip_network import Standardize, standardize
from fer_core.models.fc_head import FCHead, FCHeadRule
from fer_core.models.fusion import Fusion, learned_share
from fer_core.models.lstm import LSTM
from fer_core.training.fit_epochs import build_loss
from tests.models.conftest import FRAMES

QUICK = TrainConfig(epochs=2, batch_size=16)
BALANCED = TrainConfig(epochs=1, batch_size=16, class_weights="balanced")
FIT, STOP, SCORED = np.arange(48), np.arange(48, 60), np.arange(60, 72)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 29])
def test_training_shows_one_frame_of_each_third(n):
    drawn = thirds(np.full(400, n), np.random.default_rng(0))
    assert drawn.min() >= 0 and drawn.max() < n
    assert (np.diff(drawn, axis=1) >= 0).all()
    assert set(drawn.ravel()) == set(range(n)), "every frame is shown some time"
    if n >= 3:
        assert (drawn < np.array([n // 3, 2 * n // 3, n])).all() and (drawn >= [0, n // 3, 2 * n // 3]).all()


def test_attention_shows_a_clip_once_per_frame_and_judges_it_by_all(drawn):
    model = Attention("fan", "", QUICK, relation=True)
    shown = list(model.training(drawn, FIT, np.random.default_rng(0)))
    assert all(inputs.shape[1:] == (3, drawn.n_features) for inputs, _ in shown)
    assert (np.bincount(np.concatenate([clips for _, clips in shown]))[FIT] == FRAMES).all()
    for inputs, clips in model.whole(drawn, SCORED):
        expected = drawn.features[torch.from_numpy(drawn.frames_of(clips))]
        assert torch.equal(inputs.reshape(expected.shape), expected)


def uneven(table: FeatureTable) -> FeatureTable:
    """The clips with 1, 2, 3, 4, 1, ... of their frames; a class then has more of them than another."""
    keep = np.concatenate([table.frames_of(np.array([c]))[: 1 + c % FRAMES] for c in range(table.n_clips)])
    lengths = 1 + np.arange(table.n_clips) % FRAMES
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return replace(table, features=table.features[keep], offsets=offsets)


def test_clips_of_different_lengths_are_scored_as_if_alone(drawn):
    table = uneven(drawn)
    for model in (Attention("fan", "", QUICK, relation=False), LSTM("lstm", "", QUICK)):
        fitted = Fits(table).fitted(model, FitSplit(FIT, STOP, 0)).classifier
        together = fitted.scores(table, SCORED[::-1])
        alone = np.concatenate([fitted.scores(table, SCORED[i : i + 1]) for i in range(len(SCORED))])
        assert np.allclose(together[::-1], alone, atol=1e-6)


@pytest.mark.parametrize(
    "model", [Attention("fan", "", BALANCED, relation=False), LSTM("lstm", "", BALANCED), C3D("c3d", "", BALANCED)]
)
def test_class_weights_are_of_what_an_epoch_draws_so_balanced_classes_weigh_the_same_in_all(drawn, monkeypatch, model):
    table, fit = uneven(drawn), FIT[:41]  # one clip short of evenness
    weights = []
    monkeypatch.setattr(clip_network, "build_loss", lambda found, cfg: weights.append(found) or build_loss(found, cfg))
    Fits(table).fitted(model, FitSplit(fit, STOP, 0))
    shown = np.concatenate([clips for _, clips in model.training(table, fit, np.random.default_rng(0))])
    drawn_of = np.bincount(table.labels[shown], minlength=6)
    assert len(set(drawn_of)) > 1
    assert weights[0] * drawn_of == pytest.approx([(weights[0] * drawn_of).mean()] * 6)


def test_an_lstm_minds_the_order_of_the_frames_and_attention_does_not(drawn):
    table = drawn
    back = np.concatenate([table.frames_of(np.array([c]))[::-1] for c in range(table.n_clips)])
    turned = replace(table, features=table.features[back])
    for model, minds in ((LSTM("lstm", "", QUICK), True), (Attention("fan", "", QUICK, relation=True), False)):
        fitted = Fits(drawn).fitted(model, FitSplit(FIT, STOP, 0)).classifier
        same = np.allclose(fitted.scores(drawn, SCORED), fitted.scores(turned, SCORED), atol=1e-5)
        assert same != minds


@pytest.mark.parametrize(("n", "wanted"), [(1, 8), (2, 8), (8, 8), (40, 16), (7, 3)])
def test_frames_are_taken_evenly_from_first_to_last(n, wanted):
    places = frames_evenly(n, wanted)
    assert len(places) == wanted and places[-1] == n - 1 and (places[0] == 0 or n == 1)
    assert np.diff(places).max() - np.diff(places).min() <= 1


def test_standardized_features_have_mean_0_and_deviation_1_on_the_training_side(drawn):
    table = drawn
    still = replace(table, features=torch.cat([table.features, torch.full((len(table.features), 1), 3.0).half()], 1))
    rows = still.features[torch.from_numpy(still.frames_of(FIT))]
    layer = Standardize(still.n_features)
    standardize(layer, still, FIT)
    scaled = layer(rows)
    assert torch.allclose(scaled.mean(0), torch.zeros(still.n_features), atol=1e-3)
    assert torch.allclose(scaled.std(0, correction=0)[:-1], torch.ones(still.n_features - 1), atol=1e-3)
    assert not scaled[:, -1].any()


def test_a_frame_of_many_features_is_no_longer_than_one_of_512(drawn):
    many = replace(drawn, features=drawn.features.repeat(1, 10))
    layer = Standardize(many.n_features)
    standardize(layer, many, FIT)
    lengths = layer(many.features[torch.from_numpy(many.frames_of(FIT))]).square().sum(1)
    assert many.n_features > 512 and lengths.mean().item() == pytest.approx(512, rel=0.01)


def test_c3d_small_costs_less_than_a_gflop_a_clip():
    net = c3d_small(6, 0.5).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        scores = net(torch.zeros(1, 1, COURSE_FRAMES, SIDE, SIDE))
    assert scores.shape == (1, 6)
    assert 0.01e9 < counter.get_total_flops() < 1e9


def test_a_volume_runs_from_the_first_face_to_the_last():
    faces = np.stack([np.full((224, 224), 10 * i, np.uint8) for i in range(20)])
    found = volume(faces)
    assert found.shape == (16, 56, 56) and found.dtype == np.uint8
    assert found[0].max() == 0 and found[-1].min() == 190
    assert volume(faces[:1]).shape == (16, 56, 56)


def test_jitter_mirrors_and_shifts_all_frames_alike():
    grey = torch.arange(56.0).expand(1, 16, 56, 56)
    seen = [_jitter(grey, np.random.default_rng(s)) for s in range(20)]
    assert all(torch.equal(j[0, 0], j[0, 7]) and j.shape == grey.shape for j in seen)
    assert {bool(j[0, 0, 0, 0] > j[0, 0, 0, -1]) for j in seen} == {True, False}


def test_the_course_is_the_whole_clip_at_16_frames():
    from fer_core.config import PreprocessConfig
    from fer_core.preprocess.selection import select

    cfg = course_config(PreprocessConfig(max_frames=3))
    frames = select(40, None, cfg)
    assert len(frames) == 16 and frames[-1] == 39 and frames[0] <= 3


@dataclass(frozen=True)
class Sure(ClipModel):
    """Says the truth with a share, another class with the rest; counts its fits."""

    share: float
    fits: tuple[list[int], ...] = ()

    def fit(self, fits, side):
        self.fits[0].append(side.seed)
        return Fitted(SureClassifier(self.share), seconds=2.0)

    def __hash__(self):
        return hash((self.name, self.share))


@dataclass(frozen=True)
class SureClassifier(ClipClassifier):
    share: float
    n_parameters: int = 5

    def scores(self, inputs, clips):
        truth = np.eye(6)[inputs.labels[clips]]
        return self.share * truth + (1 - self.share) * np.roll(truth, 1, axis=1)

    to_record = to_tensors = build = None  # it is never kept


def test_fused_scores_are_the_parts_averaged_or_weighed_by_what_the_stop_clips_teach(drawn):
    counted: tuple[list[int], ...] = ([],)
    good, bad = Sure("good", "", 0.9, counted), Sure("bad", "", 0.2, counted)
    fits = Fits(drawn)
    even = fits.fitted(Fusion("even", "", good, bad, learned=False), FitSplit(FIT, STOP, 3))
    learnt = fits.fitted(Fusion("learnt", "", bad, good, learned=True), FitSplit(FIT, STOP, 3))
    truth = drawn.labels[SCORED]
    assert np.allclose(even.classifier.scores(drawn, SCORED)[range(12), truth], 0.55)
    assert np.allclose(learnt.classifier.scores(drawn, SCORED)[range(12), truth], 0.9)
    assert counted[0] == [3, 3], "each part is fitted once"
    assert even.classifier.n_parameters == 10 and learnt.classifier.n_parameters == 11 and even.seconds >= 4


def test_a_share_is_learnt_only_as_far_as_the_clips_tell():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 30)
    alike = [rng.dirichlet(np.ones(6), 30) + 2 * np.eye(6)[labels] * rng.random((30, 1)) for _ in range(2)]
    a, b = (scores / scores.sum(axis=1, keepdims=True) for scores in alike)
    noise = rng.dirichlet(np.ones(6), 30)
    assert learned_share(a, b, labels) == 0.5
    assert learned_share(a, noise, labels) > 0.6 and learned_share(noise, a, labels) < 0.4


def test_the_rules_of_a_head_share_one_fit_and_ties_go_to_the_higher_mean(drawn):
    head = FCHead("head", "", QUICK)
    vote, mean = FCHeadRule("v", "", head, "majority_vote"), FCHeadRule("m", "", head, "mean_scores")
    fits = Fits(drawn)
    a, b = (fits.fitted(rule, FitSplit(FIT, STOP, 0)).classifier for rule in (vote, mean))
    assert a.head is b.head
    frames = a.frame_scores(drawn, SCORED)
    from fer_core.models.verdict import judge

    expected = [judge(frames[4 * i : 4 * i + 4], "majority_vote").index for i in range(len(SCORED))]
    scores = a.scores(drawn, SCORED)
    assert scores.argmax(axis=1).tolist() == expected
    assert np.allclose(scores.sum(axis=1), 1)
