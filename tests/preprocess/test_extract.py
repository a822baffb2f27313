"""`%07d.jpg` folders: the video's own faces come out of them, and a stopped run goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fer_core.errors import ClipStatus, DataError, StoreError
from fer_core.preprocess.decode import VideoFile
from fer_core.preprocess.extract import NOTE, colours, extract_batch
from fer_core.preprocess.gray import gray
from fer_core.preprocess.pipeline import open_media
from fer_core.store import cache_key
from tests.preprocess.conftest import LIMITS, faces_of
from tests.preprocess.films import face_frames, write_video


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def test_frames_lie_as_the_videos_do_numbered_from_one(tmp_path: Path) -> None:
    tree = tmp_path / "in"
    (tree / "s1").mkdir(parents=True)
    videos = [
        write_video(tree / "s1" / "a.mp4", face_frames(5)),
        write_video(tree / "s1" / "a.avi", face_frames(4), "mpeg4"),
        write_video(tree / "odd %07d; name.mp4", face_frames(3)),
    ]
    made = list(extract_batch(videos, tmp_path / "out", LIMITS, tree))
    assert [str(m.folder.relative_to(tmp_path / "out")) for m in made] == ["s1/a.mp4", "s1/a.avi", "odd %07d; name"]
    assert [m.n_frames for m in made] == [5, 4, 3]
    assert names(made[0].folder) == [f"{i:07d}.jpg" for i in range(1, 6)]


def test_faces_of_the_folder_are_those_of_the_video(tmp_path: Path) -> None:
    sideways = [np.ascontiguousarray(np.rot90(f)) for f in face_frames(8)]
    video = write_video(tmp_path / "a.mp4", sideways, rotation=-90)
    (made,) = extract_batch([video], tmp_path / "out", LIMITS)
    ours, theirs = faces_of(made.folder), faces_of(video)
    assert ours.n_used == theirs.n_used == 4
    assert (ours.width, ours.height) == (theirs.width, theirs.height)
    assert np.abs(ours.ledger.box.astype(int) - theirs.ledger.box).max() <= 4


def test_colours_are_kept(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 220
    video = write_video(tmp_path / "red.mp4", [red] * 3, input_format="rgb24")
    (made,) = extract_batch([video], tmp_path / "out", LIMITS)
    blue, green, seen = cv2.imread(str(made.folder / "0000001.jpg")).reshape(-1, 3).mean(axis=0)
    assert seen > 190 and blue < 30 and green < 30


def test_a_second_run_does_no_work_and_a_changed_video_is_done_again(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", face_frames(5))
    (first,) = extract_batch([video], tmp_path / "out", LIMITS)
    stamps = {p: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    (second,) = extract_batch([video], tmp_path / "out", LIMITS)
    assert second.before and second.n_frames == 5
    assert {p: p.stat().st_mtime_ns for p in first.folder.iterdir()} == stamps
    write_video(video, face_frames(3))
    (third,) = extract_batch([video], tmp_path / "out", LIMITS)
    assert not third.before and names(third.folder) == ["0000001.jpg", "0000002.jpg", "0000003.jpg"]


def test_what_a_killed_run_left_is_no_frame_folder_and_is_cleared(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", face_frames(5))
    out = tmp_path / "out"
    part = out / f".part-{cache_key(folder=str(out / 'a'))}"
    part.mkdir(parents=True)
    (part / "0000099.jpg").write_bytes(b"half")
    (made,) = extract_batch([video], out, LIMITS)
    assert names(made.folder) == [f"{i:07d}.jpg" for i in range(1, 6)]
    assert not part.exists()


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", face_frames(3))
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "notes.txt").write_text("mine")
    (made,) = extract_batch([video], tmp_path / "out", LIMITS)
    assert made.error is not None and made.error.status is ClipStatus.REJECTED
    assert names(tmp_path / "out" / "a") == ["notes.txt"]


def test_bad_videos_leave_nothing_behind(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("hello " * 100)
    good = write_video(tmp_path / "good.mp4", face_frames(3))
    made = list(extract_batch([bad, good], tmp_path / "out", LIMITS))
    assert made[0].error is not None and made[0].error.status is ClipStatus.UNSUPPORTED
    assert made[1].error is None
    assert names(tmp_path / "out") == ["good"]
    assert (made[1].folder / NOTE).is_file()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", face_frames(3))
    first = extract_batch([video], tmp_path / "out", LIMITS)
    next(first)
    with pytest.raises(StoreError, match="another run is writing frames"):
        list(extract_batch([video], tmp_path / "out", LIMITS))
    first.close()  # type: ignore[attr-defined]
    assert next(iter(extract_batch([video], tmp_path / "out", LIMITS))).before


def test_two_videos_never_share_a_folder(tmp_path: Path) -> None:
    tree = tmp_path / "in"
    tree.mkdir()
    videos = [tree / "a.mp4", tree / "a.avi", tree / "a.mp4.mkv"]
    with pytest.raises(DataError, match="would share the folder"):
        list(extract_batch(videos, tmp_path / "out", LIMITS, tree))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads by Linux's /proc")
@pytest.mark.parametrize("convert", [colours, gray])
def test_converting_frames_starts_no_threads(convert: Callable[[Any], np.ndarray], tmp_path: Path) -> None:
    """Left to itself swscale starts some for every frame, which the collector ends late: a child ran out of them."""
    video = write_video(tmp_path / "a.avi", face_frames(40), "ffv1", pix_fmt="bgr0")
    with open_media(video, LIMITS) as media:
        assert isinstance(media, VideoFile)
        before = len(list(Path("/proc/self/task").iterdir()))
        assert sum(frame.picture is not None for frame in media.frames(lambda _: True, convert)) == 40
        assert len(list(Path("/proc/self/task").iterdir())) <= before


def test_name_of_dots_stays_below_the_folder_asked_for(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", face_frames(2)).rename(tmp_path / "...mp4")
    (made,) = extract_batch([video], tmp_path / "out", LIMITS)
    assert made.folder == tmp_path / "out" / "...mp4" and len(names(made.folder)) == 2
