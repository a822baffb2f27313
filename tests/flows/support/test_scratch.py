from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from flows.support.scratch import clear, use_own_temporary_folder


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_what_a_killed_run_left_is_gone_after_the_next_start(tmp_path, monkeypatch):
    folder = use_own_temporary_folder("serve /srv/workspace")
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    left = "import os, tempfile; tempfile.mkdtemp(); tempfile.mkstemp(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", left], check=False)
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # as the supervisor starts the program again
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert use_own_temporary_folder("serve /srv/workspace") == folder
    clear(folder)
    assert list(folder.iterdir()) == []


def test_two_programs_do_not_share_it(tmp_path, monkeypatch):
    first = use_own_temporary_folder("one")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert use_own_temporary_folder("two") != first


def test_a_link_of_somebody_else_is_not_followed(tmp_path, monkeypatch):
    folder = use_own_temporary_folder("one")
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(PermissionError, match="belongs to another user"):
        use_own_temporary_folder("one")
