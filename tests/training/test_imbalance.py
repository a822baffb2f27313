"""Class weights and samplers, against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from fer_core.config import WeightScheme
from fer_core.errors import TrainingError
from fer_core.training.imbalance import class_weights, sample

COUNTS = np.array([1246, 1495, 1165, 2875, 1904, 1960])  # Table 4.2


@pytest.mark.parametrize("scheme", get_args(WeightScheme))
def test_weights_have_mean_one_and_never_favour_the_larger_class(scheme):
    weights = class_weights(COUNTS, scheme)
    assert weights.mean() == pytest.approx(1)
    by_size = weights[np.argsort(COUNTS)]
    assert (np.diff(by_size) <= 1e-12).all()


UNEVEN = (1, 10, 400, 30_000)
BY_HAND: dict[WeightScheme, Callable[[int], float]] = {
    "none": lambda n: 1.0,
    "inverse_frequency": lambda n: 30_411 / n,
    "balanced": lambda n: 30_411 / (4 * n),
    "square_root": lambda n: math.sqrt(30_411 / n),
    "effective_number": lambda n: 1 / sum(0.999**j for j in range(n)),  # the sum of the series of eq. 2
}


@pytest.mark.parametrize("scheme", get_args(WeightScheme))
def test_weights_are_their_formula_over_its_mean(scheme):
    raw = [BY_HAND[scheme](n) for n in UNEVEN]
    expected = [weight / (sum(raw) / len(raw)) for weight in raw]
    assert class_weights(np.array(UNEVEN), scheme) == pytest.approx(expected, rel=1e-9)


def test_square_root_by_numbers():
    assert class_weights(np.array([1, 4, 100]), "square_root") == pytest.approx([1.875, 0.9375, 0.1875])


def test_balanced_is_scikit_learns_up_to_scale():
    labels = np.repeat(np.arange(6), COUNTS)
    theirs = compute_class_weight("balanced", classes=np.arange(6), y=labels)
    assert class_weights(COUNTS, "balanced") == pytest.approx(theirs / theirs.mean())


def test_73_a_class_with_zero_count_is_refused():
    with pytest.raises(TrainingError, match=r"got counts \[3, 0\]"):
        class_weights(np.array([3, 0]), "balanced")


@pytest.mark.parametrize(("sampling", "size"), [("over", 30), ("under", 5), ("none", None)])
def test_samplers_even_the_classes_out(sampling, size):
    labels = np.repeat([0, 1, 2], [5, 12, 30])
    rows = np.arange(100, 147)
    drawn = sample(rows, labels, sampling, np.random.default_rng(0))
    counts = np.bincount(labels[drawn - 100])
    if size is None:
        assert np.array_equal(drawn, rows)
    else:
        assert counts.tolist() == [size] * 3
    if sampling == "over":
        assert set(drawn) == set(rows)  # every frame is still there
    if sampling == "under":
        assert len(set(drawn)) == len(drawn)
