from __future__ import annotations

import numpy as np
import pytest

from fer_core.errors import ShapeError
from fer_core.evaluation.abstention import SHOWN, confidence_auroc, coverage_curve
from fer_core.reports.confidence_plots import coverage_figure


@pytest.fixture(scope="module")
def drawn():
    """Calibrated probabilities with labels drawn from them, six clips a person."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(6, 0.3), 900)
    labels = np.array([rng.choice(6, p=row) for row in probabilities])
    return probabilities, labels, [f"s{i // 6}" for i in range(900)]


def test_everything_answered_is_plain_accuracy(drawn):
    probabilities, labels, _ = drawn
    curve = coverage_curve(*drawn)
    assert curve.coverage[0] == 1 and curve.accuracy[0] == (probabilities.argmax(axis=1) == labels).mean()
    assert np.all(np.diff(curve.coverage) < 0) and np.all(np.diff(curve.threshold) > 0)


def test_each_point_is_what_its_threshold_answers(drawn):
    probabilities, labels, _ = drawn
    curve = coverage_curve(*drawn)
    for place in (0, 20, 60):
        answered = probabilities.max(axis=1) >= curve.threshold[place]
        right = probabilities.argmax(axis=1)[answered] == labels[answered]
        assert curve.coverage[place] == answered.mean() and curve.accuracy[place] == pytest.approx(right.mean())
        assert curve.low[place] <= curve.accuracy[place] <= curve.high[place]


def test_calibrated_confidence_buys_accuracy_and_noise_does_not(drawn):
    probabilities, _, subjects = drawn
    curve = coverage_curve(*drawn)
    assert curve.at(0.5)[1].value > curve.at(1.0)[1].value + 0.1
    blind = np.random.default_rng(1).integers(6, size=len(probabilities))
    flat = coverage_curve(probabilities, blind, subjects)
    assert flat.at(0.5)[1].low < flat.at(1.0)[1].value < flat.at(0.5)[1].high
    assert curve.mean_risk < 1 - curve.accuracy[0] < flat.mean_risk


def test_a_coverage_can_be_asked_for(drawn):
    curve = coverage_curve(*drawn)
    threshold, _ = curve.at(0.8)
    assert curve.coverage[curve.threshold == threshold][0] >= 0.8
    assert set(curve.to_json()) == {"threshold", "coverage", "accuracy", "low", "high"}


def test_equally_confident_clips_are_answered_together():
    probabilities = np.tile([0.7, 0.3], (10, 1))
    curve = coverage_curve(probabilities, np.zeros(10, int), [f"s{i}" for i in range(10)])
    assert curve.coverage.tolist() == [1.0] and [curve.at(c)[0] for c in SHOWN] == [0.7] * len(SHOWN)
    assert curve.mean_risk == 0
    assert coverage_figure(curve).axes


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ShapeError, match=r"got \(3, 2\) probabilities, 2 labels, 3 subjects"):
        coverage_curve(np.ones((3, 2)) / 2, np.zeros(2, int), ["a", "b", "c"])


def test_auroc_is_how_often_a_right_clip_is_surer_than_a_wrong_one():
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    assert confidence_auroc(probabilities, np.array([0, 1, 0, 1])) == 0.75, "three of the four pairs are in order"
    assert confidence_auroc(probabilities, np.array([0, 0, 1, 1])) == 1
    assert confidence_auroc(np.full((4, 2), 0.5), np.array([0, 0, 1, 1])) == 0.5, "equal confidence says nothing"
    assert np.isnan(confidence_auroc(probabilities, np.zeros(4, dtype=int)))
