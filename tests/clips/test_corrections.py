from __future__ import annotations

import pytest

from fer_core.clips.corrections import correct, read_corrections
from fer_core.clips.manifest import content_digests, read_manifest, write_manifest
from fer_core.errors import DataError

HEADER = "clip,clip_digest,label,verdict,confidence,who,when,model,model_version\n"
WHEN = "2026-11-27T00:10:15Z"


@pytest.fixture
def manifest(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.mp4").write_bytes(f"content of {name}".encode())
    path = tmp_path / "clips.csv"
    path.write_text("clip,path,subject,label\na,a.mp4,s1,fear\nb,b.mp4,s2,anger\nc,c.mp4,s3,\nd,d.mp4,s4,fear\n")
    return path


def said(folder, rows):
    path = folder / "corrections.csv"
    path.write_text(HEADER + "".join(f"{','.join(row)}\n" for row in rows))
    return path


def read(path):
    return read_manifest(path, labelled=False, subject="none", classes=None)


def test_labels_go_into_the_manifest_with_who_and_when(manifest, tmp_path):
    clips = read(manifest)
    digests = content_digests(clips)
    path = said(
        tmp_path,
        [
            ("x/a.mp4", digests["a"], "surprise", "fear", "0.3", "Ann", WHEN, "face-emotion", "3"),
            ("b", digests["b"], "anger", "disgust", "0.4", "Ann", WHEN, "face-emotion", "3"),
            ("c", digests["c"], "happiness", "happiness", "0.4", "Ann", WHEN, "face-emotion", "3"),
            ("d", digests["d"], "", "fear", "0.4", "Ann", WHEN, "face-emotion", "3"),
            ("gone", "0" * 32, "fear", "fear", "0.4", "Ann", WHEN, "face-emotion", "3"),
        ],
    )
    found = correct(clips, digests, read_corrections(path))
    assert found.changed == {"a": ("fear", "surprise"), "c": ("", "happiness")}
    assert (found.confirmed, found.unclear, found.unmatched) == (("b",), ("d",), ("gone",))
    write_manifest(found.manifest, manifest)
    again = {c.id: (c.emotion, c.labelled_by, c.labelled_at) for c in read(manifest).clips}
    assert again["a"] == ("surprise", "Ann", WHEN) and again["b"] == ("anger", "Ann", WHEN)
    assert again["d"] == ("fear", "", "")


def test_manifest_without_a_review_has_no_columns_for_it(manifest):
    write_manifest(read(manifest), manifest)
    assert "labelled" not in manifest.read_text()


def test_later_word_on_the_same_clip_counts(tmp_path):
    rows = [
        ("a", "1" * 32, label, "fear", "0.3", "Ann", when, "m", "1")
        for label, when in (("anger", "2026-11-27T00:00:02Z"), ("fear", "2026-11-27T00:00:01Z"))
    ]
    (only,) = read_corrections(said(tmp_path, rows))
    assert only.label == "anger"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("a", "xyz", "fear", "fear", "0.3", "Ann", WHEN, "m", "1"), "line 2: clip_digest is 'xyz', not 32 hex digits"),
        (("a", "1" * 32, "fear", "fear", "0.3", "", WHEN, "m", "1"), "line 2: nobody is named under 'who'"),
        (("a", "1" * 32, "fear", "fear", "0.3", "Ann", "noon", "m", "1"), "line 2: 'when' is 'noon', no time"),
        (("a", "1" * 32, "<b>", "fear", "0.3", "Ann", WHEN, "m", "1"), "line 2: '<b>' is no label"),
    ],
)
def test_bad_row_is_named(tmp_path, row, sentence):
    with pytest.raises(DataError, match=f"corrections.csv {sentence}"):
        read_corrections(said(tmp_path, [row]))
