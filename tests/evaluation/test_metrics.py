from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from fer_core.emotions import SIX
from fer_core.errors import ShapeError
from fer_core.evaluation.metrics import (
    RULES,
    Evaluation,
    by_columns,
    by_group,
    clip_verdicts,
    evaluate,
    mean_recall,
    paired_difference,
    proportion,
    taken_for,
)
from fer_core.models.verdict import judge


@pytest.fixture
def judged() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """240 clips of 40 subjects, about three in four right."""
    rng = np.random.default_rng(3)
    labels = np.tile(np.arange(6), 40)
    verdicts = np.where(rng.random(240) < 0.75, labels, rng.integers(0, 6, 240))
    return verdicts, labels, [f"d:{i // 6}" for i in range(240)]


def test_numbers_are_scikit_learns(judged):
    verdicts, labels, subjects = judged
    got = evaluate(verdicts, labels, subjects)
    assert np.array_equal(got.confusion, confusion_matrix(labels, verdicts))
    assert got.mean_recall.value == pytest.approx(balanced_accuracy_score(labels, verdicts))
    assert got.accuracy.value == pytest.approx((labels == verdicts).mean())
    assert mean_recall(verdicts, labels, 6) == pytest.approx(got.mean_recall.value)
    assert (got.n_clips, got.n_subjects) == (240, 40)


def test_rows_of_the_normalised_matrix_sum_to_100(judged):
    assert np.allclose(evaluate(*judged).normalized().sum(axis=1), 100)


def test_every_value_lies_in_its_interval(judged):
    got = evaluate(*judged)
    for interval in (got.mean_recall, got.accuracy, *got.recall):
        assert interval.low <= interval.value <= interval.high


def test_order_of_clips_does_not_matter(judged):
    verdicts, labels, subjects = judged
    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = evaluate(verdicts[order], labels[order], [subjects[i] for i in order])
    assert shuffled.to_json() == evaluate(verdicts, labels, subjects).to_json()


def test_interval_is_wider_when_clips_of_a_subject_stand_or_fall_together():
    labels = np.tile(np.arange(6), 40)
    subjects = [f"d:{i // 6}" for i in range(240)]
    right = np.repeat(np.arange(40) % 4 > 0, 6)  # whole subjects right or wrong
    verdicts = np.where(right, labels, (labels + 1) % 6)
    by_subject = evaluate(verdicts, labels, subjects).accuracy
    by_clip = evaluate(verdicts, labels, [str(i) for i in range(240)]).accuracy
    assert by_subject.high - by_subject.low > 1.8 * (by_clip.high - by_clip.low)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """A binomial of 60 independent subjects: the bootstrap's 95 % interval holds 0.8 in 89 to 99 % of samples."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        verdicts = np.where(rng.random(60) < 0.8, 0, 1)
        interval = evaluate(verdicts, np.zeros(60, int), [str(i) for i in range(60)]).accuracy
        hits += interval.low <= 0.8 <= interval.high
    assert 89 <= hits <= 99


def test_fault_64_class_without_clips_is_nan_and_out_of_the_mean():
    labels = np.array([0, 0, 1, 1])
    got = evaluate(np.array([0, 1, 1, 1]), labels, ["a", "b", "c", "d"])
    assert np.isnan(got.recall[5].value)
    assert got.mean_recall.value == pytest.approx(0.75)
    assert np.isnan(got.normalized()[5]).all()
    assert got.to_json()["recall"]["surprise"] == [None, None, None]


def test_lengths_that_differ_are_refused():
    with pytest.raises(ShapeError, match="got 3 verdicts, 2 labels, 2 subjects"):
        evaluate(np.zeros(3, int), np.zeros(2, int), ["a", "b"])


def test_a_model_does_not_differ_from_itself(judged):
    verdicts, labels, subjects = judged
    got = paired_difference(verdicts, verdicts, labels, subjects, 6)
    assert (got.value, got.standard_error, got.low, got.high) == (0, 0, 0, 0)


def test_paired_difference_is_tighter_than_two_separate_intervals(judged):
    verdicts, labels, subjects = judged
    better = verdicts.copy()
    better[np.flatnonzero(verdicts != labels)[:10]] = labels[np.flatnonzero(verdicts != labels)[:10]]
    got = paired_difference(better, verdicts, labels, subjects, 6)
    single = evaluate(verdicts, labels, subjects).mean_recall
    assert got.low > 0
    assert got.high - got.low < single.high - single.low
    swapped = paired_difference(verdicts, better, labels, subjects, 6)
    assert swapped.value == pytest.approx(-got.value)


@pytest.mark.parametrize("rule", RULES)
def test_clip_verdicts_judge_each_clips_own_frames(rule):
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(6), 20)
    offsets = np.array([0, 3, 4, 12, 20])
    verdicts, shares = clip_verdicts(scores, offsets, np.array([3, 0]), rule)
    expected = [judge(scores[12:20], rule), judge(scores[0:3], rule)]
    assert verdicts.tolist() == [v.index for v in expected]
    assert np.array_equal(shares, [v.scores for v in expected])


def test_groups_partition_the_clips(judged):
    verdicts, labels, subjects = judged
    groups = ["f" if i % 2 else "m" for i in range(240)]
    got = by_group(verdicts, labels, subjects, groups)
    assert list(got) == ["f", "m"]
    assert np.array_equal(got["f"].confusion + got["m"].confusion, evaluate(*judged).confusion)
    assert got["f"].classes == SIX


def test_only_columns_that_tell_clips_apart_are_looked_at(judged):
    columns = {"sex": ["f", ""] * 120, "age": ["20"] * 240}
    got = by_columns(*judged, columns)
    assert {name: list(groups) for name, groups in got.items()} == {"sex": ["(none)", "f"]}


def test_a_cell_is_that_of_the_normalised_matrix_with_an_interval(judged):
    matrix = evaluate(*judged).normalized()
    got = taken_for(*judged, SIX[2], SIX[5])
    assert got.value == pytest.approx(matrix[2, 5] / 100) and got.low < got.value < got.high
    recall = evaluate(*judged).recall[2]
    same = taken_for(*judged, SIX[2], SIX[2])
    assert (same.value, same.low, same.high) == (recall.value, recall.low, recall.high)


def test_a_cell_of_an_absent_class_is_undefined():
    got = taken_for(np.array([0, 1]), np.array([0, 1]), ["a", "b"], SIX[2], SIX[5])
    assert np.isnan([got.value, got.low, got.high]).all()


def test_an_evaluation_survives_the_way_through_json(judged):
    verdicts, labels, subjects = judged
    known = labels != 4  # an absent class: NaN
    first = evaluate(verdicts[known], labels[known], [s for s, k in zip(subjects, known, strict=True) if k])
    again = Evaluation.from_json({**first.to_json(), "verdicts": {}})
    assert again.to_json() == first.to_json() and np.isnan(again.recall[4].value)


def test_a_model_no_better_than_chance_is_warned_of_and_a_good_one_is_not():
    labels, subjects = np.tile(np.arange(6), 20), [f"s{i // 6}" for i in range(120)]
    constant = evaluate(np.full(120, 4), labels, subjects)
    assert constant.chance == 1 / 6 and not constant.above_chance and len(constant.never_right) == 5
    assert "its mean recall of 16.7 [16.7, 16.7] % is not above chance, 16.7 %" in constant.chance_warning()
    good = evaluate(np.where(np.arange(120) % 7, labels, 0), labels, subjects)
    assert good.above_chance and good.chance_warning() == ""


def test_chance_is_of_the_classes_that_have_clips():
    labels = np.tile([0, 3], 10)
    assert evaluate(labels, labels, [f"s{i // 2}" for i in range(20)]).chance == 0.5


def test_proportion_has_wilsons_interval():
    found = proportion(9, 10)
    assert found.value == 0.9 and (found.low, found.high) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert (proportion(0, 5).low, proportion(5, 5).high) == pytest.approx((0, 1), abs=1e-9)
    with pytest.raises(ShapeError, match=r"got right=3, total=2"):
        proportion(3, 2)
