"""Two spellings of one name are one; names that differ in more are two."""

from __future__ import annotations

import pytest

from fer_core.clips.spelling import People, existing_path, is_missing, person_key, same_name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("001", "1"), ("1.0", "1"), ("S001", "s001"), ("s01", "S1"), ("J\u00fcrgen", "Ju\u0308rgen"), (" a  b ", "A b"),
        ("p1_02", "p01_2"), ("\uff11", "1"), ("\u200ba", "a"), ("STRASSE", "stra\u00dfe"),
    ],
)  # fmt: skip
def test_spellings_of_one_name_share_a_key(one, other):
    assert same_name(one) == same_name(other)
    assert person_key(f"lab:{one}") == person_key(f"lab:{other}") != person_key(f"other:{one}")


@pytest.mark.parametrize(
    ("one", "other"), [("1", "10"), ("1.05", "1.5"), ("s1", "s2"), ("0", "00a"), ("u", "\u00fc"), ("100", "1")]
)
def test_other_names_have_other_keys(one, other):
    assert same_name(one) != same_name(other)


def test_the_first_spelling_is_kept_and_the_others_are_told():
    people = People()
    assert [people.name(s) for s in ("lab:01", "lab:1", "", "x:1", "lab:1.0")] == [
        "lab:01",
        "lab:01",
        "",
        "x:1",
        "lab:01",
    ]
    assert people.joined == {"lab:01": ("lab:1", "lab:1.0")}


@pytest.mark.parametrize(
    "word", ["", "nan", "NaN", "NULL", "#N/A", "None", "NA", "<NA>", "-", ".", "?", "unknown", "-99"]
)
def test_words_for_no_value(word):
    assert is_missing(word)


@pytest.mark.parametrize("word", ["0", "s1", "nana", "no", "-1", "other", "neutral"])
def test_words_that_are_values(word):
    assert not is_missing(word)


def test_a_path_that_is_there_in_no_form_stays_as_it_is(tmp_path):
    assert existing_path(tmp_path / "\u00fc.mp4") == tmp_path / "\u00fc.mp4"
