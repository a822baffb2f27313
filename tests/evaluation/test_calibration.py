from __future__ import annotations

import numpy as np
import pytest

from fer_core.errors import ShapeError
from fer_core.evaluation.calibration import (
    apply_temperature,
    brier_score,
    calibrated_apart,
    reliability,
)
from fer_core.models.temperature import fit_temperature, negative_log_likelihood


@pytest.fixture(scope="module")
def honest() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them: calibrated by construction."""
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.full(6, 0.6), 6000)
    labels = np.array([rng.choice(6, p=row) for row in scores])
    return scores, labels


def test_temperature_one_changes_nothing():
    scores = np.random.default_rng(0).dirichlet(np.ones(6), 5).astype(np.float32)
    assert np.array_equal(apply_temperature(scores, 1.0), scores)


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.7, 9.0])
def test_temperature_keeps_the_verdict_and_the_sum(temperature):
    scores = np.random.default_rng(0).dirichlet(np.ones(6), 50)
    got = apply_temperature(scores, temperature)
    assert np.array_equal(got.argmax(axis=1), scores.argmax(axis=1))
    assert np.allclose(got.sum(axis=1), 1)
    assert (got.max(axis=1) < scores.max(axis=1)).all() == (temperature > 1)
    assert np.allclose(apply_temperature(scores[0], temperature), got[0])


def test_temperatures_multiply():
    scores = np.random.default_rng(0).dirichlet(np.ones(6), 20)
    assert np.allclose(apply_temperature(apply_temperature(scores, 2.0), 1.5), apply_temperature(scores, 3.0))


@pytest.mark.parametrize("planted", [0.4, 1.0, 2.5])
def test_fit_finds_the_planted_temperature(honest, planted):
    scores, labels = honest
    distorted = apply_temperature(scores, 1 / planted)
    assert fit_temperature(distorted, labels) == pytest.approx(planted, rel=0.06)


def test_fitting_never_raises_the_likelihood_loss():
    rng = np.random.default_rng(2)
    scores, labels = rng.dirichlet(np.ones(6), 40), rng.integers(0, 6, 40)
    fitted = apply_temperature(scores, fit_temperature(scores, labels))
    assert negative_log_likelihood(fitted, labels) <= negative_log_likelihood(scores, labels) + 1e-9


def test_nobodys_own_label_is_in_what_calibrates_them(honest):
    scores, labels = (values[:300] for values in honest)
    subjects = [f"s{i % 30}" for i in range(300)]
    calm = calibrated_apart(apply_temperature(scores, 0.3), labels, subjects)
    assert np.abs(calm - scores).max() < 0.2 and np.array_equal(calm.argmax(1), scores.argmax(1))
    mine = np.array([s == "s7" for s in subjects])
    other = np.where(mine, (labels + 1) % 6, labels)
    assert np.array_equal(
        calibrated_apart(scores, other, subjects)[mine], calibrated_apart(scores, labels, subjects)[mine]
    )


def test_vote_shares_of_zero_are_calibrated_too():
    shares, labels = np.eye(6)[[0, 1, 2, 3]], np.array([0, 1, 2, 4])
    temperature = fit_temperature(shares, labels)
    assert np.isfinite(temperature)
    assert negative_log_likelihood(apply_temperature(shares, temperature), labels) < np.log(6)


def test_honest_scores_have_a_small_error_and_sharpened_ones_a_large(honest):
    scores, labels = honest
    assert reliability(scores, labels).expected_error < 0.02
    assert reliability(apply_temperature(scores, 0.3), labels).expected_error > 0.15


def test_reliability_counts_every_clip_once(honest):
    scores, labels = honest
    got = reliability(scores, labels)
    assert got.count.sum() == len(labels)
    right = np.nansum(got.accuracy * got.count)
    assert right == pytest.approx((scores.argmax(axis=1) == labels).sum())


def test_certain_clips_land_in_the_last_bin():
    got = reliability(np.eye(6), np.arange(6))
    assert got.count.tolist() == [0] * 9 + [6]
    assert got.expected_error == 0


def test_brier_score_runs_from_0_to_2():
    assert brier_score(np.eye(6), np.arange(6)) == 0
    assert brier_score(np.eye(6), (np.arange(6) + 1) % 6) == 2
    assert brier_score(np.full((6, 6), 1 / 6), np.arange(6)) == pytest.approx(5 / 6)


def test_scores_without_clips_are_refused():
    with pytest.raises(ShapeError, match="n >= 1"):
        fit_temperature(np.empty((0, 6)), np.empty(0, int))
    with pytest.raises(ShapeError, match=r"\(3, 6\) and \(2,\)"):
        brier_score(np.eye(6)[:3], np.zeros(2, int))
