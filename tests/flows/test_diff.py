"""`ferflow diff`, and what `ferflow score` records, as they are typed."""

from __future__ import annotations

import csv
import json

import pytest

from fer_core.config import TrackingConfig
from fer_core.tracking.connection import connect
from tests.flows.test_cli import run
from tests.preprocess.films import face_frames, plain_frames, write_video


@pytest.fixture(scope="module")
def batch(tmp_path_factory, champion_workspace):
    """A scored folder and the JSON of the command."""
    films, out = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("scored")
    write_video(films / "a.mp4", face_frames(10))
    write_video(films / "b.mp4", face_frames(14)[4:])
    write_video(films / "plain.mp4", plain_frames(4))
    done = run("score", films, "--out", out, "--workspace", champion_workspace, "--json")
    assert done.exit_code == 0, done.stderr
    return out, json.loads(done.stdout)


def test_score_records_a_run_that_names_its_version(batch, champion_workspace):
    _, told = batch
    found = connect(TrackingConfig(), champion_workspace).client.get_run(told["run"])
    assert found.data.tags["version"] == "1" and found.data.metrics["clips"] == 3
    assert told["drift"] == told["drift_page"] == ""  # the version has no record of its training clips


def test_flips_are_named_explained_and_written(batch, champion_workspace, tmp_path):
    scored, _ = batch
    out = tmp_path / "diff"
    words = ["diff", "--batch", scored, "--versions", 1, 2, "--out", out, "--workspace", champion_workspace]
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["clips"] == 3 and told["versions"] == [1, 2]
    assert {flip["clip"].rpartition("/")[2] for flip in told["flips"]} == {"a.mp4", "b.mp4"}  # random heads disagree
    assert all(flip["before"] != flip["after"] for flip in told["flips"])
    with (out / "flips.csv").open() as file:
        assert [row["clip"] for row in csv.DictReader(file)] == [flip["clip"] for flip in told["flips"]]
    page = (out / "flips.html").read_text()
    assert "2 of 3 verdicts flip" in page
    assert page.count("what version 1 rests its verdict") == page.count("what version 2 rests its verdict") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--batch", ".", "--versions", 1, 1], "--versions names version 1 twice; name two versions"),
        (["--batch", "nowhere", "--versions", 1, 2], "no such file or folder: nowhere"),
        (["--batch", ".", "--versions", 1, 9], "version 9 of 'face-emotion' is not there"),
    ],
)
def test_wrong_words_are_one_sentence(batch, champion_workspace, monkeypatch, words, sentence):
    monkeypatch.chdir(batch[0])
    done = run("diff", *words, "--workspace", champion_workspace)
    assert done.exit_code == 1 and sentence in done.stderr and "Traceback" not in done.stderr
