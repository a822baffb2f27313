"""Merging keeps every clip once and every person as long as it can; a diff says what turns one table into another."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fer_core.clips.clip import Clip, Split
from fer_core.clips.combine import Change, diff, merge
from fer_core.clips.manifest import Manifest
from fer_core.emotions import Emotion
from fer_core.errors import ConfigError, DataError


def source(name: str, people: int, **counts: int) -> Manifest:
    """`counts` clips of each emotion, dealt out to the people in turn."""
    clips = [
        Clip(f"{e}{i}", Path(f"/{name}/{e}{i}"), f"{name}:{i % people}", Emotion(e), name)
        for e, n in counts.items()
        for i in range(n)
    ]
    return Manifest(tuple(clips))


def table(manifest: Manifest) -> dict[str, dict[str, int]]:
    rows = manifest.counts_by(lambda c: c.dataset)
    return {name: {str(e): n for e, n in row.items() if n} for name, row in rows.items()}


def test_a_merge_keeps_every_clip_and_tells_the_same_ids_apart():
    a, b = source("a", 3, fear=4), source("b", 2, fear=2, anger=1)
    merged = merge([a, b])
    assert table(merged) == {"a": {"fear": 4}, "b": {"anger": 1, "fear": 2}}
    assert [c.id for c in merged.clips] == ["a/fear0", "a/fear1", "fear2", "fear3", "b/fear0", "b/fear1", "anger0"]
    assert [c.path for c in merged.clips] == [c.path for c in (*a.clips, *b.clips)]


def test_a_clip_in_two_manifests_is_one():
    a = source("a", 3, fear=4)
    assert merge([a, Manifest(a.clips[1:3])]) == a


@pytest.mark.parametrize(
    ("field", "value"), [("emotion", Emotion.ANGER), ("subject", "a:9"), ("split", Split.TEST)], ids=str
)  # fmt: skip
def test_069_a_clip_that_differs_between_manifests_is_refused(field, value):
    a = source("a", 3, fear=4)
    other = Manifest((replace(a.clips[2], **{field: value}),))
    with pytest.raises(DataError, match=rf"/a/fear2 has {field}.*in one manifest.*in another"):
        merge([a, other])


def test_two_clips_of_one_name_in_one_database_are_refused():
    a = source("a", 3, fear=2)
    other = Manifest(tuple(replace(c, path=Path("/else") / c.id) for c in a.clips))
    with pytest.raises(DataError, match=r"clip 'a/fear0' is both /a/fear0 and /else/fear0; give one manifest another"):
        merge([a, other])


def test_063_merged_sides_keep_people_apart():
    a = source("a", 1, fear=1)
    both = [replace(a.clips[0], split=Split.TRAIN), replace(a.clips[0], id="x", path=Path("/x"), split=Split.TEST)]
    with pytest.raises(DataError, match="subject 'a:0' is in train"):
        merge([Manifest((clip,)) for clip in both])


def test_caps_and_balance():
    a, b = source("a", 5, fear=20, anger=4), source("b", 3, fear=6, sadness=2)
    assert table(merge([a, b], per_class=5)) == {"a": {"anger": 4, "fear": 5}, "b": {"fear": 5, "sadness": 2}}
    assert table(merge([a, b], balance=True)) == {"a": {"anger": 4, "fear": 6}, "b": {"fear": 6, "sadness": 2}}
    assert table(merge([a, b], balance=True, per_class=3))["a"] == {"anger": 3, "fear": 3}
    assert {k: sum(v.values()) for k, v in table(merge([a, b], per_source=7)).items()} == {"a": 7, "b": 7}
    with pytest.raises(ConfigError, match="per_source must be at least 1, but got 0"):
        merge([a, b], per_source=0)


def test_a_cap_takes_clips_before_people():
    a = source("a", 5, fear=40)
    for cap in (5, 10, 20):
        merged = merge([a], per_source=cap)
        assert set(Counter(c.subject for c in merged.clips).values()) == {cap // 5}


def test_which_clips_stay_rests_on_the_seed_and_on_nothing_else_merged():
    a, b = source("a", 5, fear=20), source("b", 3, fear=9)
    alone, beside = merge([a], per_class=6), merge([b, a], per_class=6)
    assert {c.path for c in alone.clips} == {c.path for c in beside.clips if c.dataset == "a"}
    assert merge([a], per_class=6, seed=1) != alone
    assert merge([Manifest(a.clips[::-1])], per_class=6).clips == alone.clips[::-1]


def test_a_diff_names_what_was_added_removed_renamed_and_changed():
    a = source("a", 2, fear=3)
    zero, one, two = a.clips
    other = replace(two, id="new", path=Path("/a/new"))
    after = Manifest((replace(zero, emotion=Emotion.ANGER, groups={"sex": "x"}), replace(one, id="uno"), other))
    plain = diff(a, after)
    assert (plain.added, plain.removed, plain.renamed) == (("new", "uno"), ("fear1", "fear2"), ())
    assert plain.changed == (Change("fear0", "emotion", "fear", "anger"), Change("fear0", "group_sex", "", "x"))
    known = diff(a, after, {"fear0": "0", "fear1": "1", "fear2": "2"}, {"fear0": "00", "uno": "1", "new": "3"})
    assert (known.added, known.removed, known.renamed) == (("new",), ("fear2",), (("fear1", "uno"),))
    assert Change("fear0", "content", "0", "00") in known.changed


def test_a_manifest_does_not_differ_from_itself_in_another_order():
    a = source("a", 2, fear=3, anger=2)
    assert not diff(a, Manifest(a.clips[::-1]))
    assert diff(a, Manifest(a.clips[:-1]))


def test_063_a_person_of_one_database_spelt_in_two_ways_is_one_in_a_merger(caplog):
    first, second, other = (
        Manifest((Clip(id=name, path=Path(f"/{name}.mp4"), subject=subject, emotion="fear", dataset=dataset),))
        for name, subject, dataset in (("a", "lab:001", "lab"), ("b", "lab:1", "lab"), ("c", "x:1", "x"))
    )
    assert merge([first, second, other]).subjects == ("lab:001", "x:1")
    assert "one person: 'lab:001' is also written 'lab:1'" in caplog.text
