"""Classes and folds that there are too few people for are refused before anything is made, by the people that count."""

from __future__ import annotations

import pytest

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest
from fer_core.config import SearchConfig
from fer_core.dataset.load import check_classes, check_folds
from fer_core.errors import DataError


def plain(tmp_path, *people, labels=("pain", "no_pain")):
    """A manifest of clips that do not exist: (subject, side, classes) each."""
    clips = [
        Clip(f"{s}/{label}", tmp_path / f"{s}-{label}.mp4", s, label, split=side)
        for s, side, shown in people
        for label in shown
    ]
    return Manifest(tuple(clips), labels)


def folded(folds):
    return SearchConfig(folds=folds)


BOTH = ("pain", "no_pain")


def test_a_class_that_nobody_to_train_on_shows_is_refused_with_the_classes_that_are(tmp_path):
    some = plain(tmp_path, ("a", Split.TRAIN, BOTH), ("b", Split.TRAIN, BOTH), labels=(*BOTH, "fear"))
    with pytest.raises(DataError, match=r"shows fear; add clips, .* classes=\[pain, no_pain\]"):
        check_classes(some)
    tested = plain(
        tmp_path,
        ("a", Split.TRAIN, BOTH),
        ("b", Split.TRAIN, BOTH),
        ("c", Split.TEST, ["fear"]),
        labels=(*BOTH, "fear"),
    )
    with pytest.raises(DataError, match=r"shows fear \(the test set has 1 of fear\); add clips"):
        check_folds(tested, folded(2))


def test_a_class_whose_people_are_all_in_one_fold_is_refused(tmp_path):
    lone = [(s, Split.TRAIN, ["no_pain"]) for s in "abcde"]
    with pytest.raises(DataError, match=r"pain is shown by 1 of the 6 people to train on \(f\), and fold \d of 3"):
        check_folds(plain(tmp_path, *lone, ("f", Split.TRAIN, BOTH)), folded(3))
    check_folds(plain(tmp_path, *lone, ("f", Split.TRAIN, BOTH), ("g", Split.VALIDATION, BOTH)), folded(3))


def test_folds_that_there_are_too_few_people_for_are_told_by_the_people_that_count(tmp_path):
    with pytest.raises(
        DataError, match=r"5 .*folds need 5 people, but there is 1 to train on \(and 1 in the test set, who cannot be\)"
    ):
        check_folds(plain(tmp_path, ("a", Split.TRAIN, BOTH), ("b", Split.TEST, BOTH)), folded(5))
    with pytest.raises(DataError, match=r"there are 3 to train on \(and 2 .*search\.folds to 3 or less, or put fewer"):
        sides = [Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST, Split.TEST]
        check_folds(plain(tmp_path, *((s, side, BOTH) for s, side in zip("abcde", sides, strict=True))), folded(5))
    with pytest.raises(DataError, match=r"fold \d of 2 leaves 1 person to train on, .* set search\.folds to 3 or more"):
        check_folds(plain(tmp_path, *((s, Split.TRAIN, BOTH) for s in "abc")), folded(2))
    check_folds(plain(tmp_path, *((s, Split.TRAIN, BOTH) for s in "abc")), folded(3))
