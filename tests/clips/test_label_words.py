"""A map of label words is read in each form, and one that would make the labels lie is refused."""

from __future__ import annotations

import pytest

from fer_core.clips.label_words import label_hint, mapped_label, read_label_map
from fer_core.emotions import SIX
from fer_core.errors import DataError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "word,label\n1,happy\n2,fear\nbored,none\n"),
        ("m.csv", "\ufeff1;Freude\n2;peur\n\nbored;other\n"),
        ("m.yaml", "1: happiness\n2: fear\nbored: none\n"),
        ("m.yml", "happiness: [1]\nfear: ['02', two]\nother: [bored]\n"),
    ],
)
def test_every_form_of_a_map_is_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    words = read_label_map(tmp_path / name, SIX)
    labels = [mapped_label(word, words) for word in ("1", "02", "1.0", "sad", "Bored")]
    assert labels[:4] == ["happiness", "fear", "happiness", "sadness"] and labels[4] in ("none", "other")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "1,pain\n", "'1' stands for 'pain', which is no label here; use one of anger"),
        ("m.csv", "1,fear\n01,anger\n", "'01' stands for 'fear' and 'anger'; keep one"),
        ("m.csv", "1,fear,x\n", "line 1: 3 cells, but a word and a label are two"),
        ("m.csv", "", "names no word"),
        ("m.yaml", "- fear\n", "holds no words with their labels"),
        ("m.yaml", "no: fear\n", "put quotes around yes, no"),
        ("m.yaml", "a: [\n", "is no YAML"),
    ],
)
def test_a_map_that_would_lie_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_label_map(tmp_path / name, SIX)
    with pytest.raises(DataError, match="cannot be read"):
        read_label_map(tmp_path / "nowhere.csv", SIX)


def test_a_typing_error_is_told_from_a_word_of_another_task():
    assert label_hint("happines", SIX) == "is unknown; did you mean 'happiness'?"
    assert label_hint("suprise", SIX) == "is unknown; did you mean 'surprise'?"
    for word in ("pain", "boredom", "an1", "excited"):
        assert label_hint(word, SIX).startswith("is not one of the six; use one of anger")
