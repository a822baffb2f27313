"""Words of classes: what a label stands for, what may name a class, and in which order classes are."""

from __future__ import annotations

import pytest

from fer_core.emotions import SEVEN, SIX, checked_classes, label_fault, label_of, ordered


def test_a_word_stands_for_an_emotion_or_for_itself():
    words = ["Happy", " joy ", "SU", "No pain", "no-pain", "pain", "contempt", ""]
    assert [label_of(word) for word in words] == [
        "happiness", "happiness", "surprise", "no_pain", "no_pain", "pain", "contempt", "",
    ]  # fmt: skip


def test_the_seven_are_known_in_german_french_spanish_and_greek():
    for words in (
        "Wut Ekel Angst Freude Trauer Überraschung neutral", "colère dégoût peur joie tristesse surprise neutre",
        "ira asco miedo alegría tristeza sorpresa neutro", "Θυμός Αηδία Φόβος Χαρά Λύπη Έκπληξη Ουδέτερο",
        "ÄRGER EKEL FURCHT Glück traurig ueberraschung neu", "Colere degout PEUR Joie triste surprise neutre",
    ):  # fmt: skip
        assert tuple(label_of(word) for word in words.split()) == SEVEN
    assert label_of("U\u0308berraschung") == "surprise"


def test_emotions_keep_their_order_and_other_words_follow_by_the_alphabet():
    assert ordered(["pain", "neutral", "contempt", "fear", "anger", "fear"]) == (
        "anger", "fear", "neutral", "contempt", "pain",
    )  # fmt: skip
    assert ordered(reversed(SEVEN)) == SEVEN and SEVEN[:6] == SIX


def test_classes_are_in_the_same_order_however_they_are_listed():
    assert checked_classes(["pain", "no pain"]) == checked_classes(["no-pain", "Pain"]) == ("no_pain", "pain")
    assert checked_classes(["contempt", *SEVEN]) == (*SEVEN, "contempt")
    assert checked_classes(["Happy", "sad"]) == ("happiness", "sadness")
    assert checked_classes([2, 0, 1]) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["pain"], "2 to 20 classes, got 1"),
        ([f"c{i}" for i in range(21)], "2 to 20 classes, got 21"),
        (["happy", "pain", "happiness"], "'happiness' is listed twice"),
        (["pain", False], "put quotes around such a label"),
        (["pain", "schmerz!"], "'schmerz!' cannot be a class: a label has up to 30 letters a to z"),
        (["pain", "../x"], "cannot be a class"),
        (["pain", "a" * 31], "up to 30"),
        (["pain", "confidence"], "'confidence' cannot be a class: that is the name of a column"),
    ],
)
def test_lists_that_cannot_name_columns_are_refused(words, why):
    with pytest.raises(ValueError, match=why):
        checked_classes(words)


def test_every_emotion_may_be_a_class():
    assert not any(label_fault(label) for label in (*SEVEN, "contempt", "calm"))
