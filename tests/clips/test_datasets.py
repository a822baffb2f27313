"""Every reader on its database in true form: who is kept, who is dropped and why, and what the report says."""

from __future__ import annotations

import os
from pathlib import Path
from unicodedata import normalize

import pytest

from fer_core.clips.clip import Split, frame_files
from fer_core.clips.datasets import READERS, Scan, may_leave, reader_options, scan
from fer_core.clips.manifest import read_manifest, write_manifest
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.errors import ConfigError, DataError
from tests.builders import databases as build
from tests.builders.media import put, put_frames, put_video


def kept(found: Scan) -> dict[str, tuple[str, str, int | None]]:
    return {c.id: (c.subject, str(c.emotion), c.apex) for c in found.manifest.clips}


BUILT = {
    "ckplus": build.ckplus,
    "mug": build.mug,
    "mmi": build.mmi,
    "ised": build.ised,
    "afew": build.afew,
    "ravdess": build.ravdess,
    "cremad": build.cremad,
    "folder": build.class_folders,
}


@pytest.mark.parametrize("name", BUILT)
def test_what_is_found_is_kept_or_dropped_for_a_reason_and_survives_the_csv(tmp_path, name):
    found = scan(name, BUILT[name](tmp_path / "db"))
    assert found.found == found.kept + sum(found.dropped.values()) and all(found.dropped.values())
    assert sum(found.class_counts().values()) == sum(found.subject_counts().values()) == found.kept
    dataset = "db" if name == "folder" else name
    for c in found.manifest.clips:
        assert c.path.exists() and c.dataset == dataset and c.emotion in SIX
        assert not c.subject or c.subject.startswith(f"{dataset}:")
        assert not any(part.startswith(".") for part in c.path.relative_to(tmp_path).parts)
    write_manifest(found.manifest, tmp_path / "out" / "clips.csv")
    assert read_manifest(tmp_path / "out" / "clips.csv", subject="none").clips == found.manifest.clips


@pytest.mark.parametrize("name", BUILT)
def test_a_scan_is_the_same_whatever_the_directory_order(tmp_path, name, monkeypatch):
    root = BUILT[name](tmp_path / "db")
    first = scan(name, root)
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(sorted(iterdir(self), reverse=True)))
    assert scan(name, root) == first


@pytest.mark.parametrize("name", ["mug", "mmi", "ravdess", "cremad"])
def test_clips_that_return_to_neutral_come_with_a_word_about_the_apex(tmp_path, name):
    found = scan(name, BUILT[name](tmp_path))
    unknown = sum(c.apex is None for c in found.manifest.clips)
    assert (
        f"{name}: the apex of {unknown} clips is not annotated; set preprocess.apex=estimate for them" in found.warnings
    )


@pytest.mark.parametrize("name", [n for n in READERS if n != "manifest"])
def test_an_empty_or_missing_folder_is_a_sentence(tmp_path, name):
    with pytest.raises(DataError, match="looked for"):
        scan(name, tmp_path)
    with pytest.raises(DataError, match="no folder to scan"):
        scan(name, tmp_path / "nowhere")


def test_readers_and_options_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no reader 'ckpuls' \(did you mean 'ckplus'\?\)"):
        scan("ckpuls", tmp_path)
    with pytest.raises(
        ConfigError, match=r"no option 'follow_link' \(did you mean 'follow_links'\?\); it has follow_links"
    ):
        scan("ckplus", tmp_path, follow_link=True)
    assert reader_options("ravdess") == {"follow_links": False, "song": False}


@pytest.mark.parametrize("name", BUILT)
def test_only_open_databases_and_drawn_faces_may_leave_the_machine(tmp_path, name):
    assert scan(name, BUILT[name](tmp_path / "db")).redistribute == (name in ("ravdess", "cremad"))


def test_drawn_faces_may_leave_the_machine(tmp_path):
    put_video(tmp_path / "fear/a.mp4")
    assert scan("folder", tmp_path, dataset="my-synthetic").redistribute
    assert not may_leave(scan("folder", tmp_path, dataset="lab").manifest.clips[0])


# CK+


def test_ckplus_reads_both_trees_and_every_trap(tmp_path):
    found = scan("ckplus", build.ckplus(tmp_path))
    assert kept(found) == {
        "S005/001": ("ckplus:S005", "disgust", 10),
        "S010/002": ("ckplus:S010", "anger", 2),
        "S010/004": ("ckplus:S010", "surprise", 2),
        "S012/005": ("ckplus:S012", "happiness", 1),
        "S999/003": ("ckplus:S999", "sadness", 2),
    }
    assert found.dropped == {"contempt": 1, "empty folder": 1, "junk": 2, "neutral": 1, "no label": 2, "one frame": 1}
    assert "ckplus: 9 labelled sequences, but 327 are published" in found.warnings
    assert any("in 1 sequences the last frame is not the one the label names" in w for w in found.warnings)


def test_ckplus_neutral_is_kept_only_when_asked_for(tmp_path):
    found = scan("ckplus", build.ckplus(tmp_path), classes=SEVEN)
    assert kept(found)["S011/002"] == ("ckplus:S011", "neutral", 2) and "neutral" not in found.dropped


def test_ckplus_as_published_has_no_warning(tmp_path):
    found = scan("ckplus", build.ckplus_published(tmp_path))
    assert (found.found, found.kept, len(found.manifest.subjects)) == (593, 309, 106)
    assert list(found.class_counts().values()) == [45, 59, 25, 69, 28, 83]
    assert found.dropped == {"contempt": 18, "no label": 266} and found.warnings == ()
    assert found.as_published[:3] == (
        "327 labelled sequences", "309 clips of the six emotions", "106 subjects with one of the six"
    )  # fmt: skip


def test_ckplus_48x48_is_not_ckplus(tmp_path):
    put(tmp_path / "ckextended.csv", "emotion,pixels,Usage\n")
    with pytest.raises(DataError, match="48x48 re-upload of CK\\+ without subject ids"):
        scan("ckplus", tmp_path)


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "\xff"])
def test_ckplus_label_that_is_no_number_is_dropped(tmp_path, text):
    build.ckplus_sequence(tmp_path, "S001/001", 1)
    build.ckplus_sequence(tmp_path, "S001/002", 1)
    put(tmp_path / "Emotion/S001/002/S001_002_00000003_emotion.txt", text)
    assert scan("ckplus", tmp_path).dropped == {"unreadable label": 1}


# MUG


def test_mug_keeps_the_people_with_sessions(tmp_path):
    found = scan("mug", build.mug(tmp_path))
    assert kept(found) == {
        "001/anger/take000": ("mug:001", "anger", None),
        "001/anger/take001": ("mug:001", "anger", None),
        "001/fear/take000nsg": ("mug:001", "fear", None),
        "002/session0/happiness/take000": ("mug:002", "happiness", None),
        "002/session1/happiness/take000": ("mug:002", "happiness", None),
        "003/sadness": ("mug:003", "sadness", None),
    }
    assert found.dropped == {
        "empty folder": 2, "junk": 1, "neutral": 1, "not an emotion folder": 1, "take named 'end'": 1
    }  # fmt: skip
    assert "mug: 3 subjects, but 52 or 86 are published" in found.warnings
    assert "mug: 0 takes of the six emotions with 64 frames or more, but 1254 are published" in found.warnings
    assert any("takes, but 1462 are published" in warning for warning in found.warnings)
    assert "001/surprise/take002end" in kept(scan("mug", tmp_path, end_takes=True))
    assert kept(scan("mug", tmp_path / "subjects3")) == kept(found)


# MMI


def test_mmi_reads_emotion_by_name_and_apex_from_markers(tmp_path):
    found = scan("mmi", build.mmi(tmp_path))
    assert kept(found) == {
        "2/S001-002": ("mmi:S001", "happiness", None),
        "10/S001-010": ("mmi:S001", "anger", 8),
        "224/S002-106": ("mmi:S002", "surprise", 30),
        "229/S054-001": ("mmi:S054", "disgust", None),
    }
    assert found.dropped == {
        "junk": 1, "no label": 1, "other class (code 7)": 1, "other class (code 9)": 1, "profile view": 1,
        "still image": 1, "unreadable annotation": 1,
    }  # fmt: skip
    assert [dict(c.groups) for c in found.manifest.clips] == [
        {"view": "frontal"}, {"view": "dual"}, {"view": "frontal"}, {}
    ]  # fmt: skip
    assert any(w.startswith("mmi: 2 clips have no view") for w in found.warnings)


def test_mmi_annotation_that_grows_when_parsed_is_harmless(tmp_path):
    build.mmi_session(tmp_path / "Sessions", 1, "S001-001", "1")
    build.mmi_session(tmp_path / "Sessions", 2, "S001-002", "1")
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE a [<!ENTITY e0 "lol">{entities}]><a>&e11;</a>'
    put(tmp_path / "Sessions/2/S001-002.xml", bomb)
    assert scan("mmi", tmp_path).dropped == {"unreadable annotation": 1}


# ISED


@pytest.mark.parametrize(
    ("form", "header"), [("cells", False), ("cells", True), ("wrapped", False), ("struct", False)],
    ids=["cells", "header row", "wrapped cells", "struct"],
)  # fmt: skip
def test_ised_finds_its_table_however_it_is_nested(tmp_path, form, header):
    found = scan("ised", build.ised(tmp_path, form=form, header=header))
    assert kept(found) == {
        "videos/PS 1/4": ("ised:1", "happiness", 29),
        "videos/PS 1/5": ("ised:1", "surprise", 11),
        "videos/PS 5/3": ("ised:5", "sadness", 84),
        "videos/PS 5/6": ("ised:5", "disgust", 0),
    }
    assert found.dropped == {"junk": 1, "no label": 1, "unknown code 8": 1, "video missing": 1}
    assert found.manifest.clips[2].groups == {
        "sex": "female", "spectacles": "0", "beard": "0", "occlusion": "1", "intensity": "4"
    }  # fmt: skip
    assert "ised: 6 rows in ISED_details.mat, but 428 or 427 are published" in found.warnings


def test_ised_faint_clips_can_be_left_out(tmp_path):
    found = scan("ised", build.ised(tmp_path), least_intensity=4)
    assert list(kept(found)) == ["videos/PS 1/4", "videos/PS 5/3"]
    assert found.dropped["intensity below 4"] == 3


@pytest.mark.parametrize("data", [b"", b"nonsense", b"MATLAB 5.0 MAT-file" + b"\0" * 200], ids=["empty", "text", "cut"])
def test_ised_table_that_cannot_be_read_is_a_sentence(tmp_path, data):
    build.ised(tmp_path)
    put(tmp_path / "ISED_details.mat", data)
    with pytest.raises(DataError, match=r"ISED_details\.mat"):
        scan("ised", tmp_path)


# AFEW


def test_afew_takes_people_from_the_xml_and_sides_from_the_folders(tmp_path):
    found = scan("afew", build.afew(tmp_path))
    assert kept(found) == {
        "Train_AFEW/Angry/000552400": ("afew:Ann Lee", "anger", None),
        "Train_AFEW/Happy/000010000": ("afew:Bo Ray", "happiness", None),
        "Train_AFEW/Sad/000020000": ("", "sadness", None),
        "Val_AFEW/Fear/000040000": ("afew:Ann Lee", "fear", None),
        "Val_AFEW/Surprise/000030000": ("afew:Cy Moe", "surprise", None),
    }
    assert [c.groups["official"] for c in found.manifest.clips] == ["train"] * 3 + ["validation"] * 2
    assert found.dropped == {"junk": 1, "neutral": 1, "not an emotion folder": 1}
    assert any("the actor of 1 of 5 clips is unknown" in w for w in found.warnings)
    assert "afew: 1 train clips of angry, but 133 are published" in found.warnings
    assert any("1 actors are on both official sides" in w for w in found.warnings)


def test_afew_without_xml_knows_nobody_and_says_so(tmp_path):
    found = scan("afew", build.afew(tmp_path, xml=False))
    assert found.manifest.subjects == ()
    assert any("rests on the official split alone" in w for w in found.warnings)


# RAVDESS


def test_ravdess_keeps_each_take_once(tmp_path):
    found = scan("ravdess", build.ravdess(tmp_path))
    assert kept(found) == {
        "01-01-05-01-01-01-01": ("ravdess:01", "anger", None),
        "01-01-06-02-01-01-02": ("ravdess:02", "fear", None),
        "01-01-08-01-02-02-02": ("ravdess:02", "surprise", None),
    }
    assert found.dropped == {
        "audio only": 1, "calm": 1, "duplicate": 2, "junk": 1, "neutral": 1, "not a RAVDESS clip": 1, "song": 1
    }  # fmt: skip
    assert found.manifest.clips[1].groups == {"sex": "female", "intensity": "strong"}
    assert "ravdess: 3 speech clips of the six emotions, but 1152 are published" in found.warnings
    assert "01-02-03-01-01-01-01" in kept(scan("ravdess", tmp_path, song=True))


def test_ravdess_keeps_a_take_without_sound_whose_twin_is_not_there_or_not_usable(tmp_path):
    for name in ("02-01-05-01-01-01-01", "02-01-06-01-01-01-01", "02-01-08-01-01-01-01", "01-01-08-01-01-01-01"):
        put_video(tmp_path / f"Actor_01/{name}.mp4")
    put(tmp_path / "Actor_01/01-01-06-01-01-01-01.mp4", "")
    put_video(tmp_path / "Actor_01/02-01-08-01-01-01-01.mkv")
    found = scan("ravdess", tmp_path)
    assert set(kept(found)) == {"02-01-05-01-01-01-01", "02-01-06-01-01-01-01", "01-01-08-01-01-01-01"}
    assert found.dropped == {"duplicate": 2, "empty file": 1}


# CREMA-D


def test_cremad_leaves_out_bad_clips_and_pointers(tmp_path):
    found = scan("cremad", build.cremad(tmp_path))
    assert kept(found) == {
        "1001_DFA_ANG_XX": ("cremad:1001", "anger", None),
        "1001_IEO_HAP_HI": ("cremad:1001", "happiness", None),
        "1002_DFA_DIS_XX": ("cremad:1002", "disgust", None),
        "1002_DFA_FEA_XX": ("cremad:1002", "fear", None),
    }
    assert found.dropped == {"known to be bad": 4, "neutral": 1, "pointer file": 1}
    assert found.manifest.clips[0].groups == {"sex": "male", "age": "50s", "level": "XX"}
    assert any("1 files are Git LFS pointers" in w for w in found.warnings)


def test_cremad_keeps_a_clip_in_two_containers_once_and_no_sound(tmp_path):
    root = build.cremad(tmp_path)
    put_video(root / "VideoFlash/1001_DFA_ANG_XX.mp4")
    put_video(root / "VideoFlash/1003_DFA_ANG_XX.mp4")
    put(root / "VideoFlash/1003_DFA_ANG_XX.flv", "")
    put(root / "VideoFlash/1004_DFA_ANG_XX.wav", "sound")
    found = scan("cremad", root)
    assert [c.path.suffix for c in found.manifest.clips if c.id == "1001_DFA_ANG_XX"] == [".flv"]
    assert [c.path.suffix for c in found.manifest.clips if c.id == "1003_DFA_ANG_XX"] == [".mp4"]
    assert (found.dropped["duplicate"], found.dropped["empty file"], found.dropped["audio only"]) == (1, 1, 1)


def test_mmi_and_ised_and_afew_keep_a_recording_in_two_containers_once(tmp_path):
    for name in ("mmi", "ised", "afew"):
        root = BUILT[name](tmp_path / name)
        once = scan(name, root)
        for clip in once.manifest.clips:
            put_video(clip.path.with_suffix(".mkv"))
        twice = scan(name, root)
        assert twice.manifest == once.manifest
        assert twice.dropped["duplicate"] == once.kept + once.dropped.get("duplicate", 0)


def test_cremad_label_may_be_what_raters_saw(tmp_path):
    found = scan("cremad", build.cremad(tmp_path), label="face_vote")
    assert {i: emotion for i, (_, emotion, _) in kept(found).items()} == {
        "1001_DFA_ANG_XX": "anger", "1002_DFA_DIS_XX": "anger"
    }  # fmt: skip
    assert found.dropped["tie of the raters"] == 1 and found.dropped["neutral"] == 1


def test_cremad_of_pointers_only_says_how_to_get_the_videos(tmp_path):
    with pytest.raises(DataError, match="5 files are Git LFS pointers, not videos; run 'git lfs pull'"):
        scan("cremad", build.cremad(tmp_path, pointers=True))


# Class folders


SUBJECT = r"(?P<subject>s\d+)_"


def test_folder_reads_videos_stills_and_frame_folders(tmp_path):
    found = scan("folder", build.class_folders(tmp_path), subject=SUBJECT, dataset="lab")
    assert kept(found) == {
        "Happy/s1_a.mkv": ("lab:s1", "happiness", None),
        "Happy/s1_a.mp4": ("lab:s1", "happiness", None),
        "anger/s3_still": ("lab:s3", "anger", None),
        "anger/s2_b": ("lab:s2", "anger", None),
        "sad/s4/session 1/s4_c": ("lab:s4", "sadness", None),
    }
    assert found.dropped == {
        "contempt": 1, "empty file": 1, "empty folder": 1, "junk": 3, "neutral": 1, "not a class folder": 1,
        "not a video": 1, "pointer file": 1,
    }  # fmt: skip
    assert [f.name for f in frame_files(tmp_path / "anger/s2_b")] == ["frame9.jpg", "frame10.jpg", "frame11.jpg"]
    assert any("folder 'happy_people' is no class" in w for w in found.warnings)


def test_folder_without_a_regex_knows_nobody_and_says_so(tmp_path):
    found = scan("folder", build.class_folders(tmp_path))
    assert found.manifest.subjects == () and found.manifest.datasets == (tmp_path.name,)
    assert any("subjects are unknown, so no split can keep people apart" in w for w in found.warnings)


def test_folder_regex_finds_people_and_groups_anywhere_in_the_path(tmp_path):
    put_video(tmp_path / "fear/p1-female/x.mp4")
    put_video(tmp_path / "fear/nobody/x.mp4")
    found = scan("folder", tmp_path, subject=r"(?P<subject>p\d)-(?P<sex>\w+)/", dataset="lab")
    assert [(c.subject, c.groups) for c in found.manifest.clips] == [("lab:p1", {"sex": "female"})]
    assert found.dropped == {"no subject": 1}


@pytest.mark.parametrize(
    ("regex", "message"), [("(", "is no regular expression"), ("s[0-9]", "has no group 'subject'")]
)
def test_folder_regex_is_judged_before_anything_is_read(tmp_path, regex, message):
    with pytest.raises(ConfigError, match=message):
        scan("folder", tmp_path / "nowhere", subject=regex)


def test_folder_sides_are_read_and_063_a_person_on_two_is_refused(tmp_path):
    put_video(tmp_path / "train/fear/s1_a.mp4")
    put_video(tmp_path / "val/fear/s2_a.mp4")
    found = scan("folder", tmp_path, subject=SUBJECT)
    assert [c.split for c in found.manifest.clips] == [Split.TRAIN, Split.VALIDATION]
    put_video(tmp_path / "val/anger/s1_b.mp4")
    with pytest.raises(DataError, match=r"1 subjects are in two of the split's folders \(.*:s1\).*keep_split=false"):
        scan("folder", tmp_path, subject=SUBJECT)
    assert {c.split for c in scan("folder", tmp_path, subject=SUBJECT, keep_split=False).manifest.clips} == {None}


def test_049_links_are_not_followed_unless_told(tmp_path):
    put_video(tmp_path / "elsewhere/s2_x.mp4")
    put_video(tmp_path / "db/fear/s1_a.mp4")
    (tmp_path / "db/fear/s2_x.mp4").symlink_to(tmp_path / "elsewhere/s2_x.mp4")
    (tmp_path / "db/anger").symlink_to(tmp_path / "elsewhere")
    found = scan("folder", tmp_path / "db")
    assert found.kept == 1 and found.dropped == {"symbolic link": 2}
    assert scan("folder", tmp_path / "db", follow_links=True).kept == 3


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("ckplus", "Emotion_labels/Emotion"),
        ("mug", "subjects3"),
        ("mmi", "mmi-facial-expression-database_download_2011-02-23"),
        ("ised", "videos"),
        ("afew", "Val_AFEW"),
        ("cremad", "VideoFlash"),
    ],
)
def test_049_a_database_whose_folders_are_links_is_the_same_once_they_are_followed(tmp_path, name, part):
    root = BUILT[name](tmp_path / "db")
    whole = scan(name, root)
    (tmp_path / "elsewhere").mkdir()
    (root / part).rename(tmp_path / "elsewhere" / "part")
    (root / part).symlink_to(tmp_path / "elsewhere" / "part")
    with pytest.raises(DataError, match=r"symbolic link|looked for"):
        scan(name, root)
    assert scan(name, root, follow_links=True) == whole


def test_050_a_loop_of_links_ends(tmp_path):
    put_video(tmp_path / "fear/a.mp4")
    (tmp_path / "fear/loop").symlink_to(tmp_path / "fear")
    found = scan("folder", tmp_path, follow_links=True)
    assert found.dropped == {"nested too deep": 1}


def test_046_a_name_that_is_not_utf8_is_dropped(tmp_path):
    put_video(tmp_path / "fear/a.mp4")
    with open(os.fsencode(tmp_path / "fear") + b"/\xff.mp4", "wb") as file:
        file.write((tmp_path / "fear/a.mp4").read_bytes())
    assert scan("folder", tmp_path).dropped == {"name is not UTF-8": 1}


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{subject}/{label}/*", "P01/Freude/take 1.mp4"),
        ("{label}/{subject}/*", "HAP/P01/a.b.mp4"),
        ("{subject}_{label}_*", "P01_happy_3.mkv"),
        ("{label}-{subject}", "joie-P01.mp4"),
        ("**/{subject}/*_{label}", "2021/raw/P01/x_Χαρά.mp4"),
        ("{subject}/{}/{label}_*", "P01/session 2/happiness_2.mp4"),
    ],
)
def test_folder_patterns_read_any_layout(tmp_path, pattern, path):
    put_video(tmp_path / path)
    found = scan("folder", tmp_path, pattern=pattern, dataset="lab")
    assert [(c.subject, c.emotion) for c in found.manifest.clips] == [("lab:P01", "happiness")]


def test_folder_patterns_read_sides_groups_and_frame_folders(tmp_path):
    put_frames(tmp_path / "train/p1/fear/male/take", ["1.png", "2.png"])
    put_video(tmp_path / "odd.mp4")
    found = scan("folder", tmp_path, pattern="{split}/{subject}/{label}/{sex}/*", dataset="lab")
    (clip,) = found.manifest.clips
    assert (clip.subject, clip.emotion, clip.split, clip.groups) == ("lab:p1", "fear", Split.TRAIN, {"sex": "male"})
    assert found.dropped == {"does not fit the pattern": 1}


def test_folder_patterns_take_a_dot_in_a_folders_name_for_no_suffix(tmp_path):
    put_frames(tmp_path / "p2/anger/v1.5", ["1.png", "2.png"])
    (clip,) = scan("folder", tmp_path, pattern="{subject}/{label}/v{version}").manifest.clips
    assert clip.groups == {"version": "1.5"}


@pytest.mark.parametrize("pattern", ["", "a/*", "{subject}/{subject}", "{subject", "{label}}/*"])
def test_folder_patterns_that_read_nothing_are_refused(tmp_path, pattern):
    put_video(tmp_path / "p1/fear/a.mp4")
    if pattern:
        with pytest.raises(ConfigError, match=r"pattern .*write it like '\{subject\}/\{label"):
            scan("folder", tmp_path, pattern=pattern)
    else:  # the message of the layout that was expected names patterns
        with pytest.raises(DataError, match=r"label 'p1'.*--pattern '\{subject\}/\{label"):
            scan("folder", tmp_path)


def test_folder_patterns_say_where_a_word_ends(tmp_path):
    with pytest.raises(ConfigError, match="to say where the word ends"):
        scan("folder", tmp_path, pattern="{subject}{label}*")


def test_folder_labels_and_people_may_stand_in_a_table(tmp_path):
    for name in ("a.mp4", "x/b.mkv", "x/Jürgen.mp4", "x/d.mp4"):
        put_video(tmp_path / "clips" / name)
    decomposed = normalize("NFD", "jürgen")
    put(
        tmp_path / "t.csv",
        f"clip;label;subject;group_age\na.mp4;fear;001;20s\nb;anger;1;NA\n{decomposed};nan;2;\ne;fear;3;\n",
    )
    found = scan("folder", tmp_path / "clips", labels_from=str(tmp_path / "t.csv"), dataset="lab")
    assert kept(found) == {"a": ("lab:001", "fear", None), "x/b": ("lab:001", "anger", None)}
    assert found.manifest.clips[0].groups == {"age": "20s"} and found.joined == {"lab:001": ("lab:1",)}
    assert found.dropped == {"no label (nan)": 1, "not in the table": 1}
    assert "t.csv: 1 rows are of no clip here, the first in line 5" in found.warnings


def test_folder_a_table_of_people_is_joined_by_subject_however_spelt(tmp_path):
    put_video(tmp_path / "clips/p01/fear/a.mp4")
    put(tmp_path / "t.csv", "subject,group_sex\nP1,female\n")
    found = scan(
        "folder", tmp_path / "clips", pattern="{subject}/{label}/*", labels_from=str(tmp_path / "t.csv"), by="subject"
    )
    assert [c.groups for c in found.manifest.clips] == [{"sex": "female"}]


def test_folder_a_table_that_cannot_be_matched_is_refused(tmp_path):
    put_video(tmp_path / "clips/x/a.mp4")
    put_video(tmp_path / "clips/y/a.mp4")
    for rows, message in {
        "clip,label\na,fear\n": "line 2: several clips answer to this name",
        "clip,label\nx/a,fear\nx/a,anger\n": "line 3: 'x/a' stands in line 2 with other values",
        "clip,sex\na,female\n": "no column label, .*call it 'group_sex'",
        "name,label\na,fear\n": "no column 'clip'",
    }.items():
        put(tmp_path / "t.csv", rows)
        with pytest.raises(DataError, match=message):
            scan("folder", tmp_path / "clips", labels_from=str(tmp_path / "t.csv"))


def test_folder_words_of_ones_own_are_mapped(tmp_path):
    for word in ("1", "2", "Wut", "pain", "nothing"):
        put_video(tmp_path / f"clips/{word}/s1_a.mp4")
    put(tmp_path / "map.yaml", "1: happiness\n'02': fear\nnothing: none\n")
    found = scan("folder", tmp_path / "clips", labels=str(tmp_path / "map.yaml"), subject=SUBJECT)
    assert {i: e for i, (_, e, _) in kept(found).items()} == {
        "1/s1_a": "happiness", "2/s1_a": "fear", "Wut/s1_a": "anger"
    }  # fmt: skip
    assert found.dropped == {"none": 1, "not a class folder": 1}
    assert any(w == "folder 'pain' is no class" for w in found.warnings)


def test_063_people_spelt_in_two_ways_are_joined_and_said_unless_ids_are_kept(tmp_path):
    put_video(tmp_path / "fear/s1_a.mp4")
    put_video(tmp_path / "anger/S01_a.mp4")
    regex = "(?P<subject>[sS][0-9]+)_"
    found = scan("folder", tmp_path, subject=regex, dataset="lab")
    assert found.manifest.subjects == ("lab:S01",) and found.joined == {"lab:S01": ("lab:s1",)}
    kept_apart = scan("folder", tmp_path, subject=regex, dataset="lab", keep_ids=True)
    assert kept_apart.manifest.subjects == ("lab:S01", "lab:s1") and not kept_apart.joined


# Manifests


def test_manifest_rows_that_name_nobody_are_counted_by_the_word(tmp_path):
    words = ("nan", "NULL", "#N/A", "None", "-", ".", "?", "unknown", "")
    rows = [f"{i}.mp4,fear,{word}" for i, word in enumerate(words)]
    put(
        tmp_path / "clips.csv",
        "\n".join(["path,label,subject,sex", *(f"{r},f" for r in rows), "x.mp4,NA,s1,f", "y.mp4,fear,s1,f"]),
    )
    found = scan("manifest", tmp_path / "clips.csv")
    assert found.manifest.subjects == ("s1",) and found.kept == 1
    assert found.dropped == {
        **{f"no subject ({word})": 1 for word in words if word}, "no subject": 1, "no label (NA)": 1
    }  # fmt: skip
    assert any("column 'sex' is not read; call it 'group_sex'" in w for w in found.warnings)
    everyone = scan("manifest", tmp_path / "clips.csv", subject="none")
    assert (everyone.kept, everyone.manifest.subjects) == (10, ("s1",))


def test_manifest_reader_counts_what_is_missing(tmp_path):
    put_frames(tmp_path / "a", ["1.png", "2.png"])
    put(tmp_path / "clips.csv", "path,label,subject\na,fear,s1\nb.mp4,fear,s1\nc.mp4,contempt,s2\n")
    found = scan("manifest", tmp_path / "clips.csv")
    assert (found.kept, found.dropped) == (2, {"contempt": 1})
    assert f"clips.csv: 1 of 2 clips are not there, the first is {tmp_path}/b.mp4" in found.warnings
    assert any("2 of 2 clips name no apex" in w and "preprocess.apex=estimate" in w for w in found.warnings)
    put(tmp_path / "p.mp4", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "out.mp4").symlink_to("/etc/hostname")
    rows = "a,fear,s1\np.mp4,fear,s1\nempty,anger,s1\nout.mp4,anger,s1\n"
    put(tmp_path / "clips.csv", f"path,label,subject\n{rows}")
    found = scan("manifest", tmp_path / "clips.csv")
    assert (found.kept, found.dropped) == (2, {"pointer file": 1, "empty folder": 1})
    put(tmp_path / "clips.csv", "path,label\na,fear\n")
    found = scan("manifest", tmp_path / "clips.csv", subject="none")
    assert found.manifest.clips[0].emotion is Emotion.FEAR
    assert "clips.csv: clips without a subject cannot be split so that no person is on two sides" in found.warnings
