from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from tests.flows.test_cli import run
from tests.preprocess.films import face_frames, write_video


def test_restored_elsewhere_the_champion_gives_the_same_bytes(champion_workspace, tmp_path):
    write_video(tmp_path / "a.mp4", face_frames(6))
    told = json.loads(run("backup", tmp_path / "copy", "--workspace", champion_workspace, "--json").stdout)
    assert told["files"] > 10 and told["databases"] == []
    new = tmp_path / "elsewhere" / "workspace"
    assert run("restore", tmp_path / "copy", "--workspace", new).exit_code == 0
    shutil.rmtree(new / "models", ignore_errors=True)  # so that the version comes from its artifacts
    shutil.rmtree(new / "store", ignore_errors=True)
    tables = []
    for place in (champion_workspace, new):
        out = tmp_path / f"out-{len(tables)}"
        done = run("score", tmp_path / "a.mp4", "--out", out, "--workspace", place, "--set", "limits.workers=1")
        assert done.exit_code == 0, done.stderr
        tables.append(pd.read_csv(out / "verdicts.csv").drop(columns="processing_s"))
        tables[-1].attrs = {}
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (tmp_path / "out-0/frames.csv").read_bytes() == (tmp_path / "out-1/frames.csv").read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("restore", "nowhere"), "is no backup of ferflow"),
        (("backup", "copy", "--database", "sqlite:///x"), "is not of PostgreSQL"),
    ],
)
def test_mistakes_are_one_sentence(workspace, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    done = run(*words)
    assert done.exit_code == 1 and sentence in done.stderr
