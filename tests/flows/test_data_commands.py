"""`ferflow data …` on real clips: what is written, what is said of it, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.manifest import read_manifest
from fer_core.clips.synthetic import synthesize
from tests.flows.test_cli import run
from tests.preprocess.films import face_frames, write_video

HEADER = "clip,path,subject,label,dataset\n"
EMOTIONS = ("anger", "fear", "surprise")


def recording(seed: int, n_frames: int = 8) -> list[np.ndarray]:
    """The portrait in a room of its own."""
    rng = np.random.default_rng(seed)
    room = np.kron(rng.integers(40, 220, (6, 8)), np.ones((20, 20))).astype(np.uint8)
    room[20:100, 40:120] = face_frames(1)[0][20:100, 40:120]
    return [np.roll(room, i, axis=1) for i in range(n_frames)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of four people, three emotions each, in a manifest of two databases."""
    root = tmp_path_factory.mktemp("lab")
    rows = []
    for person in range(4):
        for place, emotion in enumerate(EMOTIONS):
            name = f"p{person}_{emotion}"
            write_video(root / f"{name}.mp4", recording(10 * person + place))
            rows.append(f"{name},{name}.mp4,p{person},{emotion},{'one' if person < 2 else 'two'}\n")
    (root / "clips.csv").write_text(HEADER + "".join(rows))
    return root


def told(*args: object) -> dict:
    done = run(*args, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def refused(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 1 and done.stdout == "", done.stdout
    (last,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    return last


def test_split_writes_sides_and_how_they_were_made(lab, tmp_path, workspace):
    out = tmp_path / "split.csv"
    found = told("data", "split", lab / "clips.csv", "--out", out, "--set", "split.test=0.5", "--no-people")
    (made,) = found["splits"]
    manifest = read_manifest(out)
    assert {c.subject: c.split for c in manifest.clips}.keys() == {"one:p0", "one:p1", "two:p2", "two:p3"}
    assert sum(made["clips"]["test"].values()) == sum(made["clips"]["train"].values()) == 6
    assert json.loads(out.with_suffix(".split.json").read_text())["fingerprint"] == made["fingerprint"]
    assert found["compared"] == 12 and found["not_compared"] == {}
    again = told("data", "split", lab / "clips.csv", "--out", out, "--set", "split.test=0.5", "--no-people")
    assert again["splits"][0]["fingerprint"] == made["fingerprint"]


def test_split_anew_ignores_the_sides_there_are(lab, tmp_path, workspace):
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    one = told("data", "split", lab / "clips.csv", "--out", first, "--no-people")
    two = told("data", "split", first, "--out", second, "--no-people")
    assert one["splits"][0]["fingerprint"] == two["splits"][0]["fingerprint"]


def test_every_fold_tests_each_person_once(lab, tmp_path, workspace):
    found = told(
        "data", "split", lab / "clips.csv", "--out", tmp_path / "s.csv", "--every", "--no-people",
        "--set", "split.scheme=one_subject_out",
    )  # fmt: skip
    files = [Path(made["out"]) for made in found["splits"]]
    assert [f.name for f in files] == [f"s-{i}.csv" for i in range(4)]
    tested = [{c.subject for c in read_manifest(f).clips if c.split == "test"} for f in files]
    assert sorted(map(tuple, tested)) == [("one:p0",), ("one:p1",), ("two:p2",), ("two:p3",)]
    assert [made["settings"]["fold"] for made in found["splits"]] == [0, 1, 2, 3]


def test_every_needs_a_scheme_of_many_splits(lab, tmp_path, workspace):
    assert "--every needs split.scheme folds or one_subject_out, but it is fractions" in refused(
        "data", "split", lab / "clips.csv", "--out", tmp_path / "s.csv", "--every"
    )


@pytest.fixture(scope="module")
def copied(lab) -> Path:
    """The lab's manifest with a re-encoded copy of one clip under a fifth person."""
    write_video(lab / "copy.avi", recording(0), "mpeg4")
    path = lab / "copied.csv"
    path.write_text((lab / "clips.csv").read_text() + "copy,copy.avi,p9,anger,two\n")
    return path


def test_a_copy_under_another_name_is_refused_with_both_names_and_a_person_can_allow_it(copied, tmp_path, workspace):
    split = ("data", "split", copied, "--out", tmp_path / "s.csv", "--no-people", "--every")
    split = (*split, "--set", "split.scheme=one_subject_out")
    error = refused(*split)
    assert "'p0_anger' and 'copy' ('one:p0' and 'two:p9') look like one recording" in error
    assert not (tmp_path / "s-0.csv").exists()
    allowed = told(*split, "--set", 'split.allow_pairs=[["p0_anger", "copy"]]')
    assert allowed["allowed"] == [["p0_anger", "copy"]]


def test_fault_70_the_same_content_under_two_subjects_is_refused(lab, tmp_path, workspace):
    (lab / "same.mp4").write_bytes((lab / "p0_anger.mp4").read_bytes())
    path = lab / "same.csv"
    path.write_text((lab / "clips.csv").read_text() + "same,same.mp4,p8,anger,two\n")
    error = refused("data", "split", path, "--out", tmp_path / "s.csv", "--no-people")
    assert "clips 'p0_anger' and 'same' have the same content, but subjects 'one:p0' and 'two:p8'" in error
    path.write_text((lab / "clips.csv").read_text() + "same,same.mp4,p0,fear,one\n")
    error = refused("data", "split", path, "--out", tmp_path / "s.csv", "--no-people")
    assert "have the same content, but labels 'anger' and 'fear'" in error


def test_a_clip_that_does_not_decode_is_named_and_the_split_made(lab, tmp_path, workspace):
    (lab / "broken.mp4").write_bytes(b"no video" * 200)
    path = lab / "broken.csv"
    path.write_text((lab / "clips.csv").read_text() + "broken,broken.mp4,p0,anger,one\n")
    found = told("data", "split", path, "--out", tmp_path / "s.csv", "--no-people")
    assert found["compared"] == 12 and list(found["not_compared"]) == ["broken"]
    assert "no video of a known kind" in found["not_compared"]["broken"]


def test_a_clip_that_is_not_there_is_refused_by_name(lab, tmp_path, workspace):
    path = lab / "gone.csv"
    path.write_text((lab / "clips.csv").read_text() + "gone,gone.mp4,p0,anger,one\n")
    error = refused("data", "split", path, "--out", tmp_path / "s.csv", "--no-people")
    assert "clip 'gone':" in error and "restore it or drop its row" in error


def test_merge_counts_each_source_and_what_the_caps_took(lab, tmp_path, workspace):
    out = tmp_path / "all.csv"
    found = told("data", "merge", lab / "clips.csv", lab / "clips.csv", "--out", out, "--per-source", 4)
    assert {name: sum(counts.values()) for name, counts in found["databases"].items()} == {"one": 4, "two": 4}
    assert found["left_out"] == 4
    shown = run("data", "merge", lab / "clips.csv", "--out", out, "--per-source", 4).stdout
    assert "Left out by caps and balance: 4 clips" in shown


def test_diff_says_what_changed(lab, tmp_path):
    changed = lab / "changed.csv"
    changed.write_text((lab / "clips.csv").read_text().replace("p1_fear.mp4,p1,fear", "p1_fear.mp4,p1,anger"))
    found = told("data", "diff", lab / "clips.csv", changed)
    assert not found["same_data"]
    assert found["changed"] == [{"clip": "p1_fear", "field": "emotion", "before": "fear", "after": "anger"}]
    assert "~ p1_fear: emotion fear -> anger" in run("data", "diff", lab / "clips.csv", changed).stdout


@pytest.mark.slow
def test_diff_compares_the_rows_of_clips_that_are_gone_and_of_nobody_known(lab, tmp_path):
    shutil.copytree(lab, tmp_path / "lab")
    before, after = tmp_path / "lab" / "clips.csv", tmp_path / "lab" / "after.csv"
    rows = [row for row in before.read_text().splitlines(keepends=True) if "p1_fear" not in row]
    after.write_text("".join(rows).replace("p0_fear.mp4,p0", "p0_fear.mp4,"))
    (tmp_path / "lab" / "p1_fear.mp4").unlink()
    found = told("data", "diff", before, after)
    assert found["removed"] == ["p1_fear"] and found["same_data"] is None and found["fingerprints"][0] == ""
    assert found["changed"] == [{"clip": "p0_fear", "field": "subject", "before": "one:p0", "after": ""}]
    assert len(found["not_compared"]) == 1 and "clip 'p1_fear'" in found["not_compared"][0]
    shown = run("data", "diff", before, after).stdout
    assert "Contents are not compared: " in shown and "The rows:\n- p1_fear\n" in shown


def test_one_person_under_two_ids_is_suspected_not_refused(tmp_path, workspace):
    synthesize(tmp_path / "drawn", 8, 0)
    path = tmp_path / "drawn" / "manifest.csv"
    rows = path.read_text().splitlines()
    twice = [row.replace("s003,", "other,") if "fear" in row or "anger" in row else row for row in rows]
    path.write_text("\n".join(twice) + "\n")
    found = told("data", "split", path, "--out", tmp_path / "s.csv")
    pairs = [(pair["first"], pair["second"]) for pair in found["lookalikes"]]
    assert ("ferflow-synthetic:other", "ferflow-synthetic:s003") in pairs


@pytest.fixture
def linked(tmp_path) -> Path:
    """A manifest whose second clip lies behind a link to another tree."""
    for person in ("here/p0", "elsewhere/p1"):
        (tmp_path / person).mkdir(parents=True)
        for i, emotion in enumerate(EMOTIONS):
            write_video(tmp_path / person / f"{emotion}.mp4", recording(40 + 10 * (person[-1] == "1") + i))
    (tmp_path / "here" / "p1").symlink_to(tmp_path / "elsewhere" / "p1")
    rows = [f"{p}_{e},{p}/{e}.mp4,{p},{e},lab\n" for p in ("p0", "p1") for e in EMOTIONS]
    path = tmp_path / "here" / "clips.csv"
    path.write_text(HEADER + "".join(rows))
    return path


def test_links_inside_a_tree_are_followed_only_when_asked(linked, tmp_path, workspace):
    split = ("data", "split", linked, "--out", tmp_path / "s.csv", "--no-people", "--set", "split.test=0.5")
    error = refused(*split)
    assert "clip 'p1_anger':" in error and "'p1' on its way is a link; --follow-links" in error
    assert told(*split, "--follow-links")["compared"] == 6
    tree = tmp_path / "tree"
    for emotion in ("anger", "fear"):
        (tree / emotion).mkdir(parents=True)
    (tree / "anger" / "linked.mp4").symlink_to(tmp_path / "here" / "p0" / "anger.mp4")
    (tree / "fear" / "own.mp4").write_bytes((tmp_path / "here" / "p0" / "fear.mp4").read_bytes())
    scan = ("data", "scan", "folder", tree, "--out", tmp_path / "o.csv")
    without, following = told(*scan), told(*scan, "--follow-links")
    assert (without["kept"], without["dropped"]) == (1, {"symbolic link": 1})
    assert (following["kept"], following["dropped"]) == (2, {})


def test_frames_are_written_once_and_what_cannot_be_is_told(lab, tmp_path):
    tree = tmp_path / "in"
    (tree / "a").mkdir(parents=True)
    for name in ("a/one.mp4", "two.mp4"):
        (tree / name).write_bytes((lab / "p0_anger.mp4").read_bytes())
    (tree / "text.mp4").write_text("hello " * 100)
    found = told("data", "frames", tree, tmp_path / "out")
    assert (found["videos"], found["frames"], found["already_there"]) == (3, 16, 0)
    assert {Path(path).name: bad["status"] for path, bad in found["failed"].items()} == {"text.mp4": "unsupported"}
    assert sorted(p.name for p in (tmp_path / "out" / "a" / "one").glob("*.jpg"))[::7] == ["0000001.jpg", "0000008.jpg"]
    again = run("data", "frames", tree, tmp_path / "out")
    assert "16 frames of 2 videos" in again.stdout and "2 were there" in again.stdout
    assert "unsupported: " in again.stdout


def test_frames_of_what_holds_no_video_are_refused(lab, tmp_path):
    assert "is no video and no folder of videos" in refused("data", "frames", lab / "clips.csv", tmp_path / "out")


def test_forget_takes_the_rows_and_names_the_files_that_stay(lab, tmp_path, workspace):
    shutil.copytree(lab, tmp_path / "lab")
    manifest = tmp_path / "lab" / "clips.csv"
    forget = ("data", "forget", "one:p1", "--set", f"manifest={manifest}")
    dry = told(*forget, "--dry-run")
    assert dry["rows"] == 3 and len(read_manifest(manifest)) == 12
    done = run(*forget)
    assert done.exit_code == 0 and len(read_manifest(manifest)) == 9
    assert done.stdout.count("Remains, file of theirs, yours to delete: ") == 3
    assert "no clip of subject 'one:p1'" in refused(*forget)
