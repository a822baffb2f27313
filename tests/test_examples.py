"""The examples in the library's docstrings and in `examples/`, run as they stand there."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import fer_core
from tests.preprocess.films import face_frames, write_video

ROOT = Path(fer_core.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("fer_core", *path.relative_to(ROOT).with_suffix("").parts))
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_print_what_they_say(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0 and found.failed == 0


EXAMPLES = ROOT.parent / "examples"


def run(command: list[str], folder: Path, timeout_s: float = 280, **environment: str) -> str:
    """What a program prints that runs in `folder`."""
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=timeout_s,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """A folder with a good film and a bad one."""
    folder = tmp_path_factory.mktemp("films")
    write_video(folder / "good.mp4", face_frames(10))
    (folder / "page.mp4").write_text("<html>")
    return folder


def test_every_example_is_run_here():
    ours = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{path.name}"' in ours for path in EXAMPLES.iterdir() if path.name != "__pycache__")


def test_folder_is_scored(films, champion_workspace):
    printed = run([str(EXAMPLES / "score_a_folder.py"), str(films)], films, FERFLOW_WORKSPACE=str(champion_workspace))
    good, bad = printed.splitlines()
    assert "good.mp4: " in good and "%" in good
    assert "page.mp4: unsupported: " in bad


def test_webcam_is_streamed(films, champion_workspace):
    command = [str(EXAMPLES / "stream_a_webcam.py"), str(films / "good.mp4")]  # a film in the camera's place
    printed = run(command, films, FERFLOW_WORKSPACE=str(champion_workspace))
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["frames 0-4", "frames 0-9"]


def test_pandas_gets_a_table(films, champion_workspace, tmp_path):
    out = tmp_path / "table.csv"
    run([str(EXAMPLES / "use_in_pandas.py"), str(films), str(out)], films, FERFLOW_WORKSPACE=str(champion_workspace))
    table = pd.read_csv(out)
    assert list(table["status"]) == ["ok", "unsupported"]
    assert table.loc[0, "anger":"surprise"].sum() == pytest.approx(1) and table.loc[1, "anger":"surprise"].isna().all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_notebook_trains_and_scores(tmp_path):
    from fer_core.clips.manifest import write_manifest
    from fer_core.clips.synthetic import synthesize

    write_manifest(synthesize(tmp_path / "drawn", subjects=8, seed=0, workers=1), tmp_path / "clips.csv")
    notebook = json.loads((EXAMPLES / "train_in_a_notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n\n".join(cells)  # by -c: like a notebook, it has no file that trials could import
    printed = run(["-c", program], tmp_path, 580, FERFLOW_WORKSPACE=str(tmp_path / "workspace"))
    assert "version 1: mean recall" in printed and "ok " in printed.splitlines()[-1]
