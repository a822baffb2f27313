"""What may be written where: whole files, over nothing or over a regular file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from fer_core.errors import StoreError
from fer_core.store import EntryStore, write_atomic


@pytest.mark.parametrize("key", ["../../precious", "/etc/passwd", "..", "a/b", ""])
def test_key_that_is_a_path_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreError, match="is no key of the features store; keys are letters and digits"):
        EntryStore(tmp_path, "features").get(key)


@pytest.fixture(params=["pipe", "device", "folder"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What is no regular file; a device can be made by root only."""
    path = tmp_path / "out.html"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # another /dev/null
        except PermissionError:
            pytest.skip("only root makes devices")
    return path


@pytest.mark.parametrize("by_link", [False, True])
def test_what_is_no_regular_file_is_left_as_it_is(special: Path, tmp_path: Path, by_link: bool) -> None:
    before, path = special.stat(), special
    if by_link:
        path = tmp_path / "link"
        path.symlink_to(special)
    with pytest.raises(StoreError, match=f"cannot write {path}: it is a .*, not a regular file; choose another name"):
        write_atomic(path, b"page")
    assert special.stat().st_ino == before.st_ino and special.stat().st_mode == before.st_mode
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "shared" / "clips.csv"
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("shared/clips.csv")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and target.read_bytes() == b"new"
    assert [p.name for p in target.parent.iterdir()] == ["clips.csv"]


def test_a_link_to_itself_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreError, match=r"cannot write .*loop: "):
        write_atomic(tmp_path / "loop", b"page")


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_fault_84_a_disk_that_fails_at_any_step_publishes_nothing_and_a_rerun_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, reason: int
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason))

    path = tmp_path / "folder" / "note.json"
    write_atomic(path, b"before")
    with monkeypatch.context() as patch:
        patch.setattr(f"fer_core.store.os.{call}", fails)
        with pytest.raises(StoreError, match=rf"cannot write .*note\.json: {os.strerror(reason)}; free some space"):
            write_atomic(path, b"after")
    assert path.read_bytes() == b"before" and [*path.parent.iterdir()] == [path]
    write_atomic(path, b"after")
    assert path.read_bytes() == b"after"
