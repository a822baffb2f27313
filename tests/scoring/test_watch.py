from __future__ import annotations

import os
import shutil
import threading
import time

import pandas as pd
import pytest

from fer_core.config import LimitsConfig
from fer_core.errors import DataError, StoreError
from fer_core.reports.feed import write_feed
from fer_core.scoring.arrivals import ATTEMPTS, Arrivals
from fer_core.scoring.watch import WatchBusyError, watched_folder
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video
from tests.scoring.conftest import LIMITS

SETTLE_S = 0.05


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "incoming"
    place.mkdir()
    return place


@pytest.fixture
def watch(folder, tmp_path, scorer):
    """Look, let the files settle, score; returns the rows. The memory is opened and closed each time."""

    def once(after_look=lambda: None):
        with watched_folder(folder, tmp_path / "watched", LIMITS) as watched:
            watched.look(SETTLE_S)
            time.sleep(2 * SETTLE_S)
            ready, _ = watched.look(SETTLE_S)
            after_look()
            rows = [r for few in watched.score(ready, scorer, tmp_path / "store", lambda *_: None) for r in few]
            if (arrivals := watched.publish()) is not None:
                write_feed(arrivals, folder.name, watched.page)
            return rows

    return once


@pytest.fixture
def table(tmp_path):
    def read():
        (file,) = (tmp_path / "watched").glob("*/verdicts.parquet")
        return pd.read_parquet(file)

    return read


def test_what_arrives_is_scored_once_also_after_a_restart(watch, folder, table):
    write_video(folder / "a.mp4", face_frames(4))
    assert [row.clip for row in watch()] == ["a.mp4"]
    assert watch() == []
    write_video(folder / "b.mp4", face_frames(5))
    assert [row.clip for row in watch()] == ["b.mp4"]
    assert table()["clip"].tolist() == ["a.mp4", "b.mp4"]
    assert table()["in_folder"].all() and table()["scored_at"].notna().all()


def test_a_new_name_and_a_second_copy_lead_to_no_row(watch, folder, table):
    write_video(folder / "a.mp4", face_frames(4))
    watch()
    (folder / "a.mp4").rename(folder / "z.mp4")
    shutil.copy(folder / "z.mp4", folder / "copy.mp4")
    assert watch() == []
    assert table()[["clip", "names"]].values.tolist() == [["a.mp4", "copy.mp4|z.mp4"]]


def test_two_copies_that_arrive_together_are_one_row(watch, folder, table):
    write_video(folder / "a.mp4", face_frames(4))
    shutil.copy(folder / "a.mp4", folder / "b.mp4")
    assert len(watch()) == 1
    assert table()["names"].tolist() == ["a.mp4|b.mp4"]


def test_a_file_replaced_under_its_name_is_new_though_size_and_date_are_the_same(watch, folder, table, tmp_path):
    write_video(folder / "a.mp4", face_frames(4))
    (first,) = watch()
    before = (folder / "a.mp4").stat()
    changed = bytearray((folder / "a.mp4").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "new").write_bytes(changed)
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").replace(folder / "a.mp4")
    (second,) = watch()
    assert first.clip == second.clip and first.digest != second.digest
    assert table()[["clip_digest", "in_folder"]].values.tolist() == [[first.digest, False], [second.digest, True]]


def test_a_file_that_grows_is_left_alone_until_it_settles(folder, tmp_path):
    with watched_folder(folder, tmp_path / "watched", LIMITS) as watched:
        for content in (b"a", b"ab", b"abc"):
            (folder / "a.mp4").write_bytes(content)
            assert watched.look(0.0) == ([], 1)
        assert [item.clip.id for item in watched.look(0.0)[0]] == ["a.mp4"]


def test_a_file_that_a_process_still_has_open_is_left_alone(folder, tmp_path):
    with watched_folder(folder, tmp_path / "watched", LIMITS) as watched, (folder / "a.mp4").open("wb") as file:
        file.write(b"stalled")
        file.flush()
        watched.look(0.0)
        assert watched.look(0.0) == ([], 1)
        file.close()
        assert len(watched.look(0.0)[0]) == 1


def test_names_of_unfinished_downloads_are_left_alone(folder, tmp_path):
    write_video(folder / "a.mp4", face_frames(2))
    (folder / "a.mp4").rename(folder / "a.mp4.part")
    with watched_folder(folder, tmp_path / "watched", LIMITS) as watched:
        assert watched.look(0.0) == ([], 0)


def test_a_file_changed_while_it_is_read_is_read_again(watch, folder, monkeypatch, table):
    from fer_core.scoring import batch

    write_video(folder / "a.mp4", face_frames(4))
    real = batch.scored_rows

    def slow(*arguments):
        found = real(*arguments)
        write_video(folder / "a.mp4", face_frames(6))
        return found

    monkeypatch.setattr(batch, "scored_rows", slow)
    assert watch() == []
    monkeypatch.undo()
    assert [row.n_frames for row in watch()] == [6]
    assert len(table()) == 1


def test_a_kill_between_memory_and_page_is_mended_by_the_next_look(watch, folder, table, tmp_path):
    write_video(folder / "a.mp4", face_frames(4))
    watch()
    (page,) = (tmp_path / "watched").glob("*/feed.html")
    page.unlink()
    (page.parent / "verdicts.parquet").unlink()
    assert watch() == []
    assert page.is_file() and len(table()) == 1


def test_bad_files_frame_folders_and_strange_names_have_their_row(watch, folder, table):
    write_folder(folder / "frames", face_frames(4))
    (folder / "page.mp4").write_text("<html>no video</html>")
    (folder / "empty.mp4").touch()
    write_video(folder / "plain.mp4", plain_frames(4))
    shutil.copy(folder / "plain.mp4", os.fsencode(folder) + b"/\xff<b>.mp4")
    watch()
    assert watch() == []
    found = dict(table()[["clip", "status"]].values.tolist())
    assert found["frames"] in ("ok", "low_quality") and found["page.mp4"] == "unsupported"
    assert found["empty.mp4"] == "damaged" and "no_face" in found.values() and len(found) == 4


def test_an_error_that_may_pass_is_tried_again_a_few_times(tmp_path):
    memory = Arrivals(tmp_path / "m.db")
    memory.look({b"a": ("a", "1")}, 0, 0)
    for _ in range(ATTEMPTS):
        assert memory.look({b"a": ("a", "1")}, 1, 0)[0] == {b"a"}
        memory.keep(b"a", "content", "2026-01-01T00:00:00Z", [{}], b"", final=False)
    assert memory.look({b"a": ("a", "1")}, 2, 0) == (frozenset(), frozenset())
    assert len(memory.all()) == 1


def test_a_clock_set_back_does_not_stop_the_watch(tmp_path):
    memory = Arrivals(tmp_path / "m.db")
    memory.look({b"a": ("a", "1")}, 1e6, 1)
    assert memory.look({b"a": ("a", "1")}, 10, 1)[1] == {b"a"}
    assert memory.look({b"a": ("a", "1")}, 12, 1)[0] == {b"a"}


def test_one_process_at_a_time(folder, tmp_path):
    with (
        watched_folder(folder, tmp_path / "watched", LIMITS),
        pytest.raises(WatchBusyError, match="another process is scoring"),
        watched_folder(folder, tmp_path / "watched", LIMITS),
    ):
        pass


def test_a_damaged_memory_and_a_missing_folder_are_named(folder, tmp_path):
    with (
        pytest.raises(DataError, match=r"there is no folder .*nowhere to watch"),
        watched_folder(tmp_path / "nowhere", tmp_path / "watched", LimitsConfig()),
    ):
        pass
    with watched_folder(folder, tmp_path / "watched", LIMITS) as watched:
        memory = watched.memory.file
    memory.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="remembers the clips"), watched_folder(folder, tmp_path / "watched", LIMITS):
        pass


def test_the_page_shows_the_newest_first_and_escapes_names(watch, folder, tmp_path):
    write_video(folder / "first.mp4", face_frames(4))
    watch()
    write_video(folder / "<i>second.mp4", face_frames(5))
    watch()
    (page,) = (tmp_path / "watched").glob("*/feed.html")
    text = page.read_text()
    assert text.index("&lt;i&gt;second.mp4") < text.index("first.mp4") and "<i>second" not in text
    assert 'http-equiv="refresh"' in text and "data:image/jpeg" in text


def test_a_slow_copy_is_scored_whole(watch, folder, tmp_path, table):
    """A file written in small pieces, with pauses longer than the time to settle, by a process that keeps it open."""
    write_video(tmp_path / "source.mp4", face_frames(8))
    content = (tmp_path / "source.mp4").read_bytes()

    def copy():
        with (folder / "a.mp4").open("wb") as file:
            for start in range(0, len(content), len(content) // 4 + 1):
                file.write(content[start : start + len(content) // 4 + 1])
                file.flush()
                time.sleep(4 * SETTLE_S)

    writer = threading.Thread(target=copy)
    writer.start()
    while writer.is_alive():
        assert watch() == [] or not writer.is_alive()
    writer.join()
    watch()
    assert table()[["clip", "frames_total"]].values.tolist() == [["a.mp4", 8]]
