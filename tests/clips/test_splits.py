"""No split, however made, shows one person on two sides; classes and shares follow as far as people allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest
from fer_core.clips.splits import check_split, every_split, grouped_folds, inner_split, n_splits, split
from fer_core.config import SplitConfig
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.errors import ConfigError, DataError
from fer_core.published import TABLE_3_2


def people(n: int, seed: int = 0, per_person: int = 6, dataset: str = "lab") -> Manifest:
    """`n` people with up to `per_person` clips each, classes as unequal as Table 3.2."""
    rng = np.random.default_rng(seed)
    share = np.sum(list(TABLE_3_2.values()), axis=0)
    clips = []
    for s in range(n):
        for k, c in enumerate(rng.choice(6, size=rng.integers(1, per_person + 1), p=share / share.sum())):
            name = f"{dataset}/{s}/{k}"
            clips.append(Clip(name, Path("/d") / name, f"{dataset}:{s}", SIX[c], dataset))
    return Manifest(tuple(clips))


def arrays(manifest: Manifest) -> tuple[list[str], np.ndarray]:
    return [c.subject for c in manifest.clips], manifest.labels()


def sides(manifest: Manifest) -> dict[Split, set[str]]:
    return {side: set(manifest.of(side).subjects) for side in Split}


def assert_apart(manifest: Manifest) -> None:
    train, validation, test = sides(manifest).values()
    assert not (train & test or train & validation or validation & test)


@pytest.mark.parametrize("seed", range(12))
def test_fractions_keep_subjects_apart_and_come_near_the_shares(seed):
    done = split(people(60, seed), SplitConfig(test=0.25, validation=0.1, seed=seed))
    assert_apart(done)
    assert all(c.split for c in done.clips)
    n = len(done)
    assert abs(len(done.of(Split.TEST)) / n - 0.25) < 0.04
    assert abs(len(done.of(Split.VALIDATION)) / n - 0.1) < 0.04
    for side in Split:
        assert all(done.of(side).class_counts().values()), f"{side} lacks a class"


@pytest.mark.parametrize("seed", range(4))
def test_the_thesis_split_follows_table_3_2(seed):
    done = split(people(120, seed), SplitConfig(scheme="thesis", seed=seed))
    assert_apart(done)
    total = np.sum(list(TABLE_3_2.values()), axis=0)
    counts = done.class_counts()
    for emotion, n_test, n_all in zip(SIX, TABLE_3_2[Split.TEST], total, strict=True):
        assert abs(done.of(Split.TEST).class_counts()[emotion] / counts[emotion] - n_test / n_all) < 0.1
    assert 0 < len(done.of(Split.VALIDATION)) / len(done) < 0.06


def test_a_split_is_its_seeds_and_no_orders():
    table = people(30)
    cfg = SplitConfig(test=0.3, seed=4)
    assert split(table, cfg) == split(table, cfg)
    assert any(sides(split(table, cfg)) != sides(split(table, SplitConfig(test=0.3, seed=s))) for s in range(5))


@pytest.mark.parametrize("seed", range(25))
def test_folds_test_every_clip_once_and_never_a_person_they_trained_on(seed):
    subjects, labels = arrays(people(23, seed))
    folds = grouped_folds(subjects, labels, 5, seed)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(labels)))
    for train, test in folds:
        assert len(test) and not set(np.array(subjects)[train]) & set(np.array(subjects)[test])
        assert sorted([*train, *test]) == list(range(len(labels)))


@pytest.mark.parametrize("seed", range(10))
def test_folds_are_stratified(seed):
    subjects, labels = arrays(people(80, seed))
    whole = np.bincount(labels, minlength=6) / len(labels)
    for _, test in grouped_folds(subjects, labels, 4, seed):
        assert np.abs(np.bincount(labels[test], minlength=6) / len(test) - whole).max() < 0.08


@pytest.mark.parametrize("n", [2, 3, 5, 6, 7])
def test_as_many_folds_as_people_leave_none_empty(n):
    for seed in range(10):
        subjects, labels = arrays(people(n, seed + 100))
        if len(set(labels)) > 1:
            assert all(len(test) for _, test in grouped_folds(subjects, labels, n, seed))


def test_folds_without_stratification_when_every_class_is_smaller_than_the_folds():
    subjects = [f"s{i}" for i in range(8)]
    folds = grouped_folds(subjects, np.array([0, 0, 1, 1, 2, 2, 3, 3]), 4, 0)
    assert [len(test) for _, test in folds] == [2, 2, 2, 2]


@pytest.mark.parametrize("seed", range(25))
def test_the_inner_split_keeps_people_apart_and_every_class_to_fit_on(seed):
    subjects, labels = arrays(people(30, seed))
    fit, stop = inner_split(subjects, labels, 0.15, seed)
    assert len(fit) and len(stop)
    assert not set(np.array(subjects)[fit]) & set(np.array(subjects)[stop])
    assert sorted([*fit, *stop]) == list(range(len(labels)))
    assert set(labels[fit]) == set(labels)
    assert abs(len(stop) / len(labels) - 0.15) < 0.08


def test_a_class_one_person_shows_stays_on_the_side_that_learns():
    table = people(20, per_person=4)
    only = replace(table.clips[-1], id="only", path=Path("/d/only"), emotion=Emotion.NEUTRAL, subject="lab:alone")
    for seed in range(10):
        done = split(Manifest((*table.clips, only), SEVEN), SplitConfig(test=0.25, validation=0.2, seed=seed))
        assert "lab:alone" in sides(done)[Split.TRAIN]


def test_leave_one_subject_out_tests_each_person_once():
    table = people(9)
    done = every_split(table, cfg := SplitConfig(scheme="one_subject_out"))
    assert len(done) == n_splits(table, cfg) == 9
    assert sorted(next(iter(sides(s)[Split.TEST])) for s in done) == list(table.subjects)
    assert all(len(sides(s)[Split.TRAIN]) == 8 for s in done)


def test_every_fold_is_a_manifest():
    done = every_split(people(20), SplitConfig(scheme="folds", folds=4))
    assert sorted(c.id for s in done for c in s.of(Split.TEST).clips) == sorted(c.id for c in done[0].clips)
    for s in done:
        assert_apart(s)


def test_cross_database_trains_on_some_and_tests_on_others(caplog):
    lab, field = people(10, 1, dataset="lab"), people(8, 2, dataset="field")
    calm = replace(field.clips[0], id="n", path=Path("/d/n"), emotion=Emotion.NEUTRAL)
    other = people(3, 3, dataset="other")
    table = Manifest((*lab.clips, *field.clips, calm, *other.clips), SEVEN)
    cfg = SplitConfig(scheme="cross_database", train_on=("lab",), test_on=("field",), validation=0.2)
    done = split(table, cfg)
    assert done.of(Split.TRAIN, Split.VALIDATION).datasets == ("lab",) and done.of(Split.VALIDATION).clips
    assert [c.id for c in done.of(Split.TEST).clips] == [c.id for c in field.clips]
    assert "1 test clips are of classes lab lacks" in caplog.text
    with pytest.raises(ConfigError, match="no database 'fiel' in the manifest; it has field, lab, other"):
        split(table, cfg.model_copy(update={"test_on": ("fiel",)}))
    with pytest.raises(ConfigError, match="and others to test on"):
        split(table, cfg.model_copy(update={"test_on": ("lab",)}))


def test_the_official_split_is_kept_and_people_on_both_sides_only_train(caplog):
    clips = []
    for i, (side, subject) in enumerate(
        [("train", "a"), ("train", "b"), ("train", "a"), ("validation", "c"), ("validation", "b"), ("validation", "")]
    ):
        emotion = SIX[i % 2]
        clips.append(Clip(f"{i}", Path(f"/{i}"), subject and f"afew:{subject}", emotion, groups={"official": side}))
    done = split(Manifest(tuple(clips)), SplitConfig(scheme="official"))
    assert [(c.id, c.split) for c in done.clips] == [
        ("0", Split.TRAIN), ("1", Split.TRAIN), ("2", Split.TRAIN), ("3", Split.TEST), ("5", Split.TEST)
    ]  # fmt: skip
    assert "1 clips of people who are also in train" in caplog.text
    assert "rests on the official split alone" in caplog.text
    with pytest.raises(DataError, match="1 of 7 clips have no official side"):
        split(Manifest((*clips, Clip("x", Path("/x"), "s", Emotion.FEAR))), SplitConfig(scheme="official"))


# What cannot be split


def test_people_must_be_known_to_be_kept_apart():
    table = people(10)
    clips = (replace(table.clips[0], subject=""), *table.clips[1:])
    for scheme in ("fractions", "thesis", "folds", "one_subject_out"):
        with pytest.raises(DataError, match=r"1 of \d+ clips have no subject"):
            split(Manifest(clips), SplitConfig(scheme=scheme))


def test_fewer_people_than_folds_are_refused():
    subjects, labels = arrays(people(4, 5))
    with pytest.raises(
        DataError, match=r"5 subject-disjoint folds need 5 subjects, but there are 4; set search\.folds"
    ):
        grouped_folds(subjects, labels, 5, 0)
    with pytest.raises(DataError, match=r"but there are 4; set split\.folds to 4 or less"):
        split(people(4, 5), SplitConfig(scheme="folds", folds=5))
    with pytest.raises(DataError, match="needs at least 2 subjects, but there is 1"):
        inner_split(["s"] * 4, np.array([0, 1, 0, 1]), 0.2, 0)


def test_065_one_class_is_refused():
    for make in (lambda s, y: grouped_folds(s, y, 2, 0), lambda s, y: inner_split(s, y, 0.2, 0)):
        with pytest.raises(DataError, match="one class only; at least 2 classes are needed"):
            make(["a", "b", "c"], np.zeros(3, dtype=int))
    table = people(6)
    with pytest.raises(DataError, match="one class only"):
        split(Manifest(tuple(replace(c, emotion=Emotion.FEAR) for c in table.clips)), SplitConfig())


def side(*rows: tuple[Split, Emotion]) -> Manifest:
    return Manifest(tuple(Clip(f"{i}", Path(f"/{i}"), f"s{i}", e, split=s) for i, (s, e) in enumerate(rows)))


def test_064_a_class_without_a_training_clip_is_refused():
    table = side((Split.TRAIN, Emotion.FEAR), (Split.TRAIN, Emotion.ANGER), (Split.TEST, Emotion.DISGUST))
    with pytest.raises(DataError, match="disgust has 1 test clips but none to train on"):
        check_split(table)
    with pytest.raises(DataError, match="the training side has only fear; it needs at least 2 classes"):
        check_split(side((Split.TRAIN, Emotion.FEAR), (Split.TEST, Emotion.ANGER)))
    with pytest.raises(DataError, match="the training side has no labelled clip"):
        check_split(side((Split.TEST, Emotion.ANGER)))


def test_064_a_class_without_a_test_clip_is_a_warning():
    table = side((Split.TRAIN, Emotion.FEAR), (Split.TRAIN, Emotion.ANGER), (Split.TEST, Emotion.ANGER))
    assert check_split(table) == ("fear has no test clip: its recall there is undefined (NaN)",)


def test_settings_that_contradict_are_refused():
    with pytest.raises(ConfigError, match=r"test \+ validation < 1"):
        split(people(10), SplitConfig(test=0.6, validation=0.5))
    with pytest.raises(ConfigError, match=r"split\.fold is 5, but 'folds' makes 5 here"):
        split(people(10), SplitConfig(scheme="folds", fold=5))


def test_a_split_spreads_other_classes_as_it_does_emotions():
    labels = ("pain", "no_pain", "unsure")
    own = Manifest(tuple(replace(c, emotion=labels[SIX.index(c.emotion) % 3]) for c in people(40).clips), labels)
    for scheme in ("fractions", "thesis", "folds"):
        done = split(own, SplitConfig(scheme=scheme))
        assert_apart(done)
        assert done.classes == labels and all(done.of(Split.TEST).class_counts().values())
