from __future__ import annotations

import numpy as np
import pytest

from fer_core.emotions import SIX
from fer_core.errors import DataError
from fer_core.evaluation.conformal import prediction_sets
from fer_core.reports.confidence_plots import sets_figure


@pytest.fixture(scope="module")
def drawn():
    """Overconfident probabilities: labels are drawn from their square roots. Six clips a person."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(6, 0.3), 1200)
    softer = np.sqrt(probabilities) / np.sqrt(probabilities).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(6, p=row) for row in softer])
    return probabilities, labels, [f"s{i // 6}" for i in range(1200)]


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_sets_hold_the_truth_as_often_as_asked_though_the_probabilities_lie(drawn, confidence):
    made = prediction_sets(*drawn, confidence=confidence)
    assert abs(made.covered.accuracy.value - confidence) < 0.03
    assert made.covered.accuracy.low < confidence < made.covered.accuracy.high


def test_achieved_coverage_is_counted_from_the_sets(drawn):
    labels = drawn[1]
    made = prediction_sets(*drawn)
    held = made.sets[np.arange(len(labels)), labels]
    assert made.covered.accuracy.value == held.mean()
    for column, emotion in enumerate(SIX):
        assert made.covered.recall[column].value == held[labels == column].mean()
        assert made.to_json()["coverage_by_class"][emotion][0] == held[labels == column].mean()
    assert sum(made.to_json()["sizes"]) == len(labels)


def test_more_confidence_means_larger_sets(drawn):
    small, large = (prediction_sets(*drawn, confidence=c) for c in (0.8, 0.95))
    assert (small.sets <= large.sets).all() and small.sizes.mean() < large.sizes.mean()
    assert len(sets_figure([small, large]).axes) == 2


def test_no_clip_takes_part_in_its_own_threshold(drawn):
    """Altering one person's labels must leave that person's own sets as they are."""
    probabilities, labels, subjects = drawn
    altered = labels.copy()
    altered[:6] = (altered[:6] + 1) % 6
    before, after = (prediction_sets(probabilities, y, subjects, folds=200).sets for y in (labels, altered))
    assert np.array_equal(before[:6], after[:6])


def test_too_few_clips_for_a_confidence_are_refused():
    probabilities = np.full((12, 6), 1 / 6)
    with pytest.raises(DataError, match="need 100 clips of other people, but a fold has 10"):
        prediction_sets(probabilities, np.arange(12) % 6, [f"s{i}" for i in range(12)], confidence=0.99, folds=6)
