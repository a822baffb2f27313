"""A manifest is read back as it was written, and one that would make the data lie is refused, saying where."""

from __future__ import annotations

import csv
import random
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize

import pytest

from fer_core.clips.cells import plain_cell, safe_cell
from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest, content_digests, fingerprint, read_manifest, write_manifest
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.errors import DataError

HEADER = "path,label,subject\n"


def clip(name: str, root: Path = Path("/data"), **fields: object) -> Clip:
    values: dict = {"id": name, "path": root / f"{name}.mp4", "subject": "d:s1", "emotion": Emotion.FEAR} | fields
    return Clip(**values)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes, name: str = "clips.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# Reading


def test_the_generic_form_gives_ids_keys_and_absolute_paths(write, tmp_path):
    path = write("path,label,subject,dataset,apex\ns1/a.mp4,happy,s1,lab,20\ns1/b,Fearful,s1,lab,\n")
    first, second = read_manifest(path).clips
    assert first == Clip(
        id="s1/a", path=tmp_path / "s1/a.mp4", subject="lab:s1", emotion=Emotion.HAPPINESS, dataset="lab", apex=20
    )
    assert (second.emotion, second.apex, second.id) == (Emotion.FEAR, None, "s1/b")


def test_a_subject_that_is_keyed_or_of_no_dataset_stays_as_it_is(write):
    clips = read_manifest(write("path,label,subject,dataset\na.mp4,fear,x:1,lab\nb.mp4,fear,1,\n")).clips
    assert [c.subject for c in clips] == ["x:1", "1"]


def test_optional_columns_are_read(write):
    path = write(
        "clip,path,label,subject,split,start,end,intensity,group_sex,remark\n"
        "one,a.mp4,sad,s1,val,0,,2,female,hello\ntwo,b.mp4,joy,s2,TRAIN,,,,,\n"
    )
    one, two = read_manifest(path).clips
    assert (one.id, one.split) == ("one", Split.VALIDATION)
    assert one.groups == {"intensity": "2", "sex": "female"}
    assert (two.split, two.groups) == (Split.TRAIN, {})


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + HEADER.encode() + b"a.mp4,fear,s1\n",
        (HEADER + "a.mp4,fear,s1\n").replace("\n", "\r\n").encode(),
        (HEADER + "a.mp4,fear,s1\n").replace(",", ";").encode(),
        (HEADER + "\n\na.mp4, Fear ,s1\n,,\n").encode(),
        b"Path,LABEL,Subject\na.mp4,fear,s1",
        b"sep=;\npath;label;subject\na.mp4;fear;s1\n",
        b"\xef\xbb\xbfsep=,\r\n" + HEADER.encode() + b"a.mp4,fear,s1\r\n",
        (HEADER + "a.mp4,fear,s1\n").replace(",", "\t").encode(),
        b'"","path","label","subject"\n"1","a.mp4","fear","s1"\n',
        b'"path","label","subject"\n"1","a.mp4","fear","s1"\n',
        b",path,label,subject\n0,a.mp4,fear,s1\n",
    ],
    ids=[
        "bom",
        "crlf",
        "semicolon",
        "blank lines and spaces",
        "column case, no last newline",
        "Excel's sep",
        "bom, sep, crlf",
        "tabs",
        "R's write.csv",
        "R's write.table",
        "pandas's index",
    ],
)
def test_068_what_spreadsheets_save_is_accepted(write, data):
    assert [(c.id, c.emotion, c.subject) for c in read_manifest(write(data)).clips] == [("a", Emotion.FEAR, "s1")]


def test_files_that_differ_by_suffix_only_are_two_clips(write):
    clips = read_manifest(write(HEADER + "a.mp4,fear,s1\na.mov,fear,s1\nb.mp4,fear,s1\n")).clips
    assert [c.id for c in clips] == ["a.mp4", "a.mov", "b"]


def test_a_stretch_that_cuts_nothing_off_is_accepted(write):
    path = write("path,label,subject,apex,start,end\na.mp4,fear,s1,9.0,0,9\nb.mp4,fear,s1,,,\n")
    assert [c.apex for c in read_manifest(path).clips] == [9, None]


def test_other_classes_and_empty_labels_are_left_out_and_said(write, caplog):
    rows = "a.mp4,fear,s1\nb.mp4,contempt,s1\nc.mp4,neutral,s1\nd.mp4,,s1\n"
    path = write(HEADER + rows)
    assert [c.id for c in read_manifest(path).clips] == ["a"]
    assert "1 rows (contempt), 1 rows (neutral), 1 rows (no label)" in caplog.text
    assert [c.emotion for c in read_manifest(path, classes=SEVEN).clips] == [Emotion.FEAR, Emotion.NEUTRAL]


def test_clips_to_be_scored_need_no_label(write):
    path = write("path,subject\na.mp4,s1\n")
    assert [c.emotion for c in read_manifest(path, labelled=False).clips] == [None]
    with pytest.raises(DataError, match="no column 'label'"):
        read_manifest(path)
    kept = read_manifest(write(HEADER + "a.mp4,,s1\nb.mp4,fear,s1\nc.mp4,calm,s1\n"), labelled=False).clips
    assert [c.emotion for c in kept] == [None, Emotion.FEAR, None]


def test_clips_without_subjects_are_read_only_when_the_user_says_so(write):
    path = write("path,label\na.mp4,fear\n")
    with pytest.raises(DataError, match=r"no column 'subject'.*subject=none"):
        read_manifest(path)
    assert [c.subject for c in read_manifest(path, subject="none").clips] == [""]


@pytest.mark.parametrize("spelling", ["1", "01", "1.0", " 001 "])
def test_063_a_person_in_two_spellings_is_one(write, spelling, caplog):
    """A leak otherwise: the two would be put on two sides of a split."""
    path = write(f"path,label,subject,dataset\na.mp4,fear,001,lab\nb.mp4,fear,{spelling},lab\nc.mp4,fear,1,other\n")
    assert [c.subject for c in read_manifest(path).clips] == ["lab:001", "lab:001", "other:1"]
    assert ("one person: 'lab:001'" in caplog.text) is (spelling.strip() != "001")


def test_063_people_whose_ids_are_kept_stay_two_once_written_too(write, tmp_path):
    path = write("path,label,subject,keep_id\na.mp4,fear,s1,yes\nb.mp4,fear,S1,yes\n")
    manifest = read_manifest(path)
    assert manifest.subjects == ("S1", "s1")
    write_manifest(manifest, tmp_path / "again.csv")
    assert read_manifest(tmp_path / "again.csv").subjects == ("S1", "s1")


def test_missing_values_as_programs_write_them_are_missing_in_every_column(write):
    path = write(
        "clip,path,label,subject,apex,split,group_sex,group_beard\n"
        "NaN,a.mp4,fear,s1,NA,#N/A,NULL,none\n<NA>,b.mp4,fear,s2,.,-,unknown,full\n"
    )
    clips = read_manifest(path).clips
    assert [(c.id, c.apex, c.split, c.groups) for c in clips] == [
        ("a", None, None, {"beard": "none"}), ("b", None, None, {"beard": "full"})
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_041_a_path_in_the_other_unicode_form_is_found(write, tmp_path, form):
    other = "NFD" if form == "NFC" else "NFC"
    there = tmp_path / normalize(form, "Jürgen") / normalize(form, "Überraschung é.mp4")
    there.parent.mkdir()
    there.write_bytes(b"x")
    rows = f"{normalize(other, 'Jürgen/Überraschung é.mp4')},Überraschung,s1\n"
    assert [c.path for c in read_manifest(write(HEADER + rows)).clips] == [there]


# Refusing


REFUSED = {
    "063 subject in two splits": (
        "path,label,subject,split\na.mp4,fear,s1,train\nb.mp4,fear,s1,test\n",
        r"clips\.csv line 3: subject 's1' is in train \(line 2\) and test.*Run 'ferflow data split'",
    ),
    "066 label typo": (HEADER + "a.mp4,fear,s1\nb.mp4,happines,s1\n", r"line 3: label 'happines'.*mean 'happiness'"),
    "066 label of another task": (HEADER + "a.mp4,pain,s1\n", r"'pain' is not one of the six; .* leave it out, map it"),
    "066 many unknown words": (
        HEADER + "a.mp4,pain,s1\nb.mp4,fear,s1\nc.mp4,bored,s1\nd.mp4,pain,s1\n",
        r"line 2: label 'pain' .* Unknown are 2 words: pain \(2\), bored \(1\)",
    ),
    "blanks for commas": ('"path" "label" "subject"\n"1" "a.mp4" "fear" "s1"\n', r"blanks separate.*R: write\.csv"),
    "a column under another name": ("filename,label,subject\na.mp4,fear,s1\n", "no column 'path'.*Rename 'filename'"),
    "windows path": (HEADER + "x\\a.mp4,fear,s1\n", r"line 2: path 'x\\a.mp4' has backslashes, .*write slashes"),
    "windows drive": (HEADER + "C:\\x\\a.mp4,fear,s1\n", "drive, which are never opened; backslashes are Windows's"),
    "063 one person in two splits, spelt differently": (
        "path,label,subject,split\na.mp4,fear,S01,train\nb.mp4,fear,s1,test\n",
        r"subject 'S01' is in train \(line 2\) and test",
    ),
    "subject missing as a word": (HEADER + "a.mp4,fear,NaN\n", "line 2: the subject is empty; fill it in"),
    "066 label unlike any": (HEADER + "a.mp4,xyzzy,s1\n", "line 2: label 'xyzzy'.*use one of anger, disgust"),
    "066 split typo": ("path,label,subject,split\na.mp4,fear,s1,trian\n", "line 2: split 'trian'.*mean 'train'"),
    "067 not utf-8": (HEADER.encode() + b"a.mp4,fear,s1\nb.mp4,fear,Jos\xe9\n", r"line 3: byte 0xE9 is not UTF-8"),
    "067 utf-16": ((HEADER + "a.mp4,fear,s1\n").encode("utf-16"), r"line 1: byte 0xFF is not UTF-8"),
    "069 same clip, other label": (
        HEADER + "a.mp4,fear,s1\nb.mp4,fear,s1\na.mp4,anger,s1\n",
        "line 4: 'a.mp4' has label 'anger' here and 'fear' in line 2",
    ),
    "069 same clip, other subject": (HEADER + "a.mp4,fear,s1\na.mp4,fear,s2\n", "line 3: 'a.mp4' has subject 's2'"),
    "071 empty": ("", "is empty"),
    "071 blank": ("\n \n", "is empty"),
    "071 header only": (HEADER, "no usable row.*only a header"),
    "071 other classes only": (HEADER + "a.mp4,calm,s1\n", "no usable row.*1 x calm"),
    "no subject column": ("path,label,subjct\na.mp4,fear,s1\n", "no column 'subject'.*Rename 'subjct'?"),
    "column twice": ("path,label,subject,Label\na.mp4,fear,s1,fear\n", "column 'label' occurs twice"),
    "empty subject": (HEADER + "a.mp4,fear,\n", "line 2: the subject is empty; fill it in or drop the row"),
    "apex no number": ("path,label,subject,apex\na.mp4,fear,s1,last\n", "line 2: apex 'last' is not a frame number"),
    "apex negative": ("path,label,subject,apex\na.mp4,fear,s1,-1\n", "line 2: apex '-1' is not a frame number"),
    "apex infinite": ("path,label,subject,apex\na.mp4,fear,s1,inf\n", "line 2: apex 'inf' is not a frame number"),
    "start of a stretch": ("path,label,subject,start\na.mp4,fear,s1,9\n", "line 2: start=9, end=None take a stretch"),
    "end of a stretch": ("path,label,subject,end,apex\na.mp4,fear,s1,9,8\n", "start=None, end=9 take a stretch"),
    "too many cells": (HEADER + "a,b.mp4,fear,s1\n", "line 2: 4 cells, but the header has 3"),
    "open quote": (HEADER + '"a.mp4,fear,s1\n', "line 2: not a CSV row"),
    "clip named twice": ("clip,path,label,subject\nx,a.mp4,fear,s1\nx,b.mp4,fear,s1\n", "line 3: clip 'x'.*line 2"),
    "line after a cell of two lines": (HEADER + '"a\nb.mp4",fear,s1\nc.mp4,feer,s1\n', "line 4: label 'feer'"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_manifest_that_would_lie_is_refused_with_line_and_remedy(write, text, message):
    with pytest.raises(DataError, match=message):
        read_manifest(write(text))


def test_069_duplicate_rows_are_one_clip(write, caplog):
    assert len(read_manifest(write(HEADER + "a.mp4,fear,s1\na.mp4,afraid,s1\n"))) == 1
    assert "1 rows (duplicate)" in caplog.text


@pytest.mark.parametrize(
    "path",
    [
        "../out.mp4", "a/../../out.mp4", "a/../b.mp4", r"..\out.mp4", "/etc/passwd", "//server/a.mp4",
        r"\\server\a.mp4", r"C:\a.mp4", "file:a.mp4", "file:///etc/passwd", "http://127.0.0.1/a.mp4", "HTTPS://x/a.mp4",
        "s3://b/a.mp4", "concat:a.mp4|b.mp4", "subfile:,,start,0,end,9,,:a.mp4", "data:video/mp4;base64,AAAA", " http://x/a.mp4",
        "a\0.mp4", "", ".", "  ",
    ],
)  # fmt: skip
def test_103_paths_that_lead_out_are_refused_before_anything_is_opened(write, path):
    text = f'clip,path,label,subject\nx,"{path}",fear,s1\ny,ok.mp4,fear,s1\n'
    with pytest.raises(DataError, match=r"clips\.csv line 2: (the )?path"):
        read_manifest(write(text))
    told: list[tuple[int, str, str | None]] = []
    refuse = lambda place, clip, error: told.append((place, clip.id, clip.emotion))  # noqa: E731
    kept = read_manifest(write(text), on_bad_path=refuse)
    assert [c.id for c in kept.clips] == ["y"] and told == [(0, "x", "fear")]


@pytest.mark.parametrize("root", ["data", "../data", "/data/../etc", "http://x", "file:///", "/a\0b"])
def test_103_a_root_is_one_plain_absolute_folder(write, root):
    with pytest.raises(DataError, match="line 2"):
        read_manifest(write(f"path,label,subject,root\na.mp4,fear,s1,{root}\n"))


def test_absolute_paths_are_taken_inside_the_manifests_folder_or_its_root(write, tmp_path):
    inside = write(f"path,label,subject,root\n{tmp_path}/s/a.mp4,fear,s1,\n/data/ck/b.mp4,fear,s1,/data/ck\n")
    assert [c.path for c in read_manifest(inside).clips] == [tmp_path / "s/a.mp4", Path("/data/ck/b.mp4")]


# Writing


NASTY = [
    "=1+1",
    "+a",
    "-a",
    "@a",
    "\ta",
    "\ra",
    "'=1",
    "''-x",
    "'a",
    "a'b",
    'a"b',
    "a,b",
    "a;b",
    "a\nb",
    "ä é 日本",
    "a\r\nb",
]


@pytest.mark.parametrize("text", ["", *NASTY])
def test_106_a_cell_is_no_formula_and_comes_back(text):
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert plain_cell(cell) == text


def test_106_no_cell_of_a_written_manifest_is_a_formula(tmp_path):
    clips = tuple(
        clip(name, tmp_path, subject=name, dataset="=cmd()", groups={"sex": "@x"}) for name in NASTY if "\0" not in name
    )
    path = tmp_path / "clips.csv"
    write_manifest(Manifest(clips), path)
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    kept = read_manifest(path).clips
    assert [(c.id, c.path, c.groups) for c in kept] == [(c.id, c.path, c.groups) for c in clips]


def test_what_is_written_is_read_back_the_same(tmp_path):
    rng = random.Random(0)
    for trial in range(40):
        trees = [tmp_path / "here", tmp_path / "here/deep", Path("/data/ck"), Path("/mnt/odd name,;'=/x")]
        clips = []
        for i in range(rng.randint(1, 12)):
            subject = f"d:{rng.randint(0, 4)}"
            clips.append(
                clip(
                    f"{rng.choice(NASTY)}/{i}",
                    rng.choice(trees),
                    subject=subject,
                    emotion=rng.choice(SIX),
                    dataset=rng.choice(["", "lab", "-lab"]),
                    apex=rng.choice([None, 0, 17]),
                    split=list(Split)[int(subject[-1]) % 3] if trial % 2 else None,
                    groups=rng.choice([{}, {"sex": "male"}, {"age": "7", "sex": "="}]),
                )
            )
        path = tmp_path / "here" / f"{trial}.csv"
        write_manifest(Manifest(tuple(clips)), path)
        assert read_manifest(path).clips == tuple(clips)


def test_a_name_with_a_colon_is_no_protocol_once_written(tmp_path):
    clips = (clip("take:1", tmp_path),)
    write_manifest(Manifest(clips), tmp_path / "m.csv")
    assert read_manifest(tmp_path / "m.csv").clips == clips


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(DataError, match="not UTF-8"):
        write_manifest(Manifest((clip("bad\udcff", tmp_path),)), tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


# The table


def test_063_a_manifest_keeps_subjects_apart():
    with pytest.raises(DataError, match=r"subject 'd:s1' is in train \(clip 'a'\) and test"):
        Manifest((clip("a", split=Split.TRAIN), clip("b", split=Split.TEST)))
    Manifest((clip("a", split=Split.TRAIN, subject=""), clip("b", split=Split.TEST, subject="")))


def test_ids_are_unique():
    with pytest.raises(DataError, match="the first is 'a'"):
        Manifest((clip("a"), clip("a")))


def test_sides_classes_and_subjects():
    table = Manifest(
        (
            clip("a", split=Split.TRAIN, subject="b", dataset="x"),
            clip("b", split=Split.TEST, subject="a", emotion=Emotion.ANGER, dataset="y-synthetic"),
            clip("c", emotion=None, subject="", dataset="x"),
        )
    )
    assert [c.id for c in table.of(Split.TRAIN, Split.TEST).clips] == ["a", "b"]
    assert [c.id for c in table.labelled().clips] == ["a", "b"]
    assert table.subjects == ("a", "b") and table.synthetic and not table.of(Split.TRAIN).synthetic
    assert list(table.class_counts().values()) == [1, 0, 1, 0, 0, 0]
    assert {k: v[Emotion.FEAR] for k, v in table.counts_by(lambda c: c.dataset).items()} == {"x": 1, "y-synthetic": 0}


# The fingerprint


def test_the_fingerprint_is_of_content_label_subject_and_side_alone():
    a, b = clip("a"), clip("b", subject="d:s2")
    digests = {"a": "00", "b": "11"}
    first = fingerprint(Manifest((a, b)), digests)
    renamed = replace(a, id="z", path=Path("/else/z.avi"), dataset="other", apex=3)
    assert len(first) == 32
    assert fingerprint(Manifest((b, a)), digests) == first
    assert fingerprint(Manifest((renamed, b)), {"z": "00", "b": "11"}) == first
    for fields in ({"emotion": Emotion.ANGER}, {"emotion": None}, {"subject": "d:s3"}, {"split": Split.TRAIN}):
        assert fingerprint(Manifest((replace(a, **fields), b)), digests) != first
    assert fingerprint(Manifest((a, b)), {"a": "00", "b": "12"}) != first
    assert fingerprint(Manifest((a,)), digests) != first
    with pytest.raises(DataError, match="1 clips have no content digest, the first is 'b'"):
        fingerprint(Manifest((a, b)), {"a": "00"})


def test_digests_are_read_once_each_and_a_missing_clip_is_named(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    clips = Manifest((clip("a", tmp_path), clip("b", tmp_path)))
    seen: list[tuple[int, int]] = []
    digests = content_digests(clips, lambda done, n: seen.append((done, n)))
    assert len(set(digests.values())) == 2 and seen == [(1, 2), (2, 2)]
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(DataError, match=r"clip 'b'.*cannot be read"):
        content_digests(clips)


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_a_manifest_that_cannot_be_read_is_a_sentence(tmp_path, name):
    with pytest.raises(DataError, match="the manifest cannot be read"):
        read_manifest(tmp_path / name)


# Classes


def test_classes_of_the_manifest_are_those_it_has_in_a_fixed_order(write):
    rows = "a.mp4,Pain,s1\nb.mp4,no pain,s1\nc.mp4,fear,s2\nd.mp4,contempt,s2\ne.mp4,other,s2\n"
    manifest = read_manifest(write(HEADER + rows), classes=None)
    assert manifest.classes == ("fear", "contempt", "no_pain", "pain")
    assert [c.emotion for c in manifest.clips] == ["pain", "no_pain", "fear", "contempt"]
    assert manifest.labels().tolist() == [3, 2, 0, 1]
    assert manifest.class_counts() == {"fear": 1, "contempt": 1, "no_pain": 1, "pain": 1}


def test_listed_classes_leave_known_other_ones_out_and_refuse_words_that_are_none(write):
    path = write(HEADER + "a.mp4,pain,s1\nb.mp4,no_pain,s1\nc.mp4,fear,s2\nd.mp4,contempt,s2\n")
    manifest = read_manifest(path, classes=("pain", "no_pain"))
    assert manifest.classes == ("pain", "no_pain") and manifest.labels().tolist() == [0, 1]
    with pytest.raises(DataError, match=r"line 3: label 'no_pain' is not one of the six; use one of .*from_manifest"):
        read_manifest(write(HEADER + "a.mp4,anger,s1\nb.mp4,no_pain,s1\n"))
    with pytest.raises(DataError, match=r"line 2: label 'no_pian' is unknown; did you mean 'no_pain'\?"):
        read_manifest(write(HEADER + "a.mp4,no_pian,s1\n"), classes=("pain", "no_pain"))
    with pytest.raises(DataError, match=r"line 2: label 'pain \(left\)' cannot be a class: a label has"):
        read_manifest(write(HEADER + "a.mp4,pain (left),s1\n"), classes=None)


def test_a_manifest_of_its_own_classes_is_read_back_as_it_was_written(tmp_path):
    clips = tuple(clip(f"c{i}", tmp_path, emotion=label) for i, label in enumerate(("pain", "no_pain")))
    manifest = Manifest(clips, ("pain", "no_pain"))
    write_manifest(manifest, tmp_path / "clips.csv")
    assert read_manifest(tmp_path / "clips.csv", classes=("pain", "no_pain")) == manifest
    assert manifest.of(Split.TEST).classes == manifest.labelled().classes == ("pain", "no_pain")


def test_a_clip_of_none_of_the_classes_is_refused():
    with pytest.raises(DataError, match="clip 'a': 'pain' is none of the classes anger, disgust"):
        Manifest((clip("a", emotion="pain"),))
