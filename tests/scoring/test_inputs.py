from __future__ import annotations

import os
from pathlib import Path

import pytest

from fer_core.clips.datasets import scan
from fer_core.errors import ClipStatus, DataError
from fer_core.scoring.inputs import collect, passed_over


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "tree"
    for name in ("a.mp4", "b/A.MOV", "b/c.webm", "frames/1.png", "frames/2.png", "mixed/x.avi", "mixed/poster.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for junk in (".DS_Store", "._a.mp4", "readme.md", ".cache/x.mp4"):
        (root / junk).parent.mkdir(exist_ok=True)
        (root / junk).touch()
    return root


def names(items) -> list[str]:
    return [item.clip.id for item in items]


def test_folder_gives_videos_and_frame_folders_in_order_of_name(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert names(collect(["tree"])) == [
        "tree/a.mp4",
        "tree/b/A.MOV",
        "tree/b/c.webm",
        "tree/frames",
        "tree/mixed/x.avi",
    ]
    assert names(collect(["tree/frames"])) == ["tree/frames"]


def test_paths_are_absolute_and_inside_their_root(tree):
    for item in collect([tree]):
        assert item.clip.path.is_absolute() and item.clip.path.is_relative_to(item.root)


def test_fault_6_named_files_are_taken_whatever_they_are_called(tmp_path):
    (tmp_path / "video.txt").touch()
    items = collect([tmp_path / "video.txt", tmp_path / "not-there.mp4"])
    assert [item.clip.path.name for item in items] == ["video.txt", "not-there.mp4"]


def test_order_given_is_kept_and_nothing_is_merged(tree):
    one = tree / "a.mp4"
    assert [item.clip.path for item in collect([tree / "b", one, one])][2:] == [one, one]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.mp4", "file:///etc/passwd", "s3://bucket/a.mp4", "a\0.mp4"])
def test_fault_103_addresses_are_refused_without_a_look(address):
    (item,) = collect([address])
    assert item.refused is not None and item.refused.status is ClipStatus.REJECTED


def test_a_manifest_row_that_is_refused_keeps_its_place_id_and_label(tree):
    manifest = tree / "clips.csv"
    refused = "two,../../etc/passwd,fear\nthree,http://x/a.mp4,\n"
    manifest.write_text(f"clip,path,label\none,a.mp4,happy\n{refused}four,b/c.webm,\n,../x,anger\n")
    items = collect([manifest])
    assert names(items) == ["one", "two", "three", "four", "../x"]
    assert [item.clip.emotion for item in items] == ["happiness", "fear", None, None, "anger"]
    assert [item.refused and item.refused.status for item in items] == [
        None, ClipStatus.REJECTED, ClipStatus.REJECTED, None, ClipStatus.REJECTED,
    ]  # fmt: skip


def test_link_that_the_user_names_is_meant_and_one_in_a_tree_is_not_walked(tree, tmp_path):
    (tmp_path / "named").symlink_to(tree / "a.mp4")
    assert collect([tmp_path / "named"])[0].clip.path == tree / "a.mp4"
    (tree / "elsewhere").symlink_to(tmp_path)
    assert sum("elsewhere" in name for name in names(collect([tree]))) == 1


def test_fault_50_links_that_go_round_end(tree):
    (tree / "b" / "up").symlink_to(tree)
    found = names(collect([tree], follow_links=True))
    assert len(found) == len(set(found)) == 5


def test_fault_46_names_that_are_no_utf8_are_taken(tree):
    name = os.fsdecode(b"\xff\xfe.mp4")
    try:
        (tree / name).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert any(item.clip.path.name == name for item in collect([tree]))


def test_nothing_to_score_is_an_error_that_says_what_is(tmp_path):
    with pytest.raises(DataError, match=r"nothing to score in .*; name video files, pictures, folders of them"):
        collect([tmp_path])


def test_every_file_of_a_folder_is_a_clip_or_passed_over_with_its_reason(tree):
    (tree / "film.MTS").touch()
    (tree / "no suffix").write_bytes(b"\0\0\0\x18ftypisom")
    (tree / "code.ts").write_text("export const a = 1")
    (tree / "camera.ts").write_bytes((b"G" + bytes(187)) * 3)
    (tree / "verdicts").mkdir()
    for name in ("verdicts.parquet", "frames.parquet", "1.jpg"):
        (tree / "verdicts" / name).touch()
    taken = {item.clip.path.relative_to(tree).as_posix() for item in collect([tree])}
    assert taken > {"no suffix", "camera.ts", "film.MTS"}
    left = {Path(found.path).relative_to(tree).as_posix(): found.reason for found in passed_over([tree])}
    assert left == {
        ".DS_Store": "hidden", "._a.mp4": "hidden", ".cache": "hidden", "code.ts": "not a video",
        "readme.md": "not a video", "mixed/poster.jpg": "a picture beside a video", "verdicts": "results of ferflow",
    }  # fmt: skip


def test_unrelated_pictures_are_stills_and_numbered_ones_a_clip(tmp_path):
    stills = ["people/Anna.jpg", "people/Ben.jpg", "sparse/IMG_1.jpg", "sparse/IMG_40.jpg"]
    for name in (*stills, "film/1.png", "film/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "people/wave.gif").write_bytes(b"GIF89a")  # has a row that says how to convert it
    stills.insert(2, "people/wave.gif")
    found = [item.clip.path.relative_to(tmp_path).as_posix() for item in collect([tmp_path])]
    assert found == ["film", *stills]


@pytest.mark.parametrize("layout", ["{label}/im{i}.png", "train/{label}/{label}_{i}.jpg", "{label}/s{i}/1.jpg"])
def test_scan_and_score_find_the_same_clips(tmp_path, layout):
    for label in ("anger", "fear"):
        for i in range(3):
            path = tmp_path / layout.format(label=label, i=i)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\xff\xd8\xff")
    scanned = {clip.path for clip in scan("folder", tmp_path).manifest.clips}
    assert {item.clip.path for item in collect([tmp_path])} == scanned and len(scanned) == 6
