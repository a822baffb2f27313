"""The commands that run flows: what they refuse, they refuse before a server starts and before any face is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_core.config import TrainConfig
from fer_core.search.trial import TrialResult
from tests.flows.test_cli import manifest, run


class Begun(Exception):
    """A flow was run, that is: a server started."""


@pytest.fixture(autouse=True)
def no_flow(monkeypatch, workspace):
    def begin(session, module, flow, config, **arguments):
        raise Begun

    for module in ("runs", "compare", "reproduce"):
        monkeypatch.setattr(f"flows.commands.{module}.run_flow", begin)


@pytest.fixture
def clips(tmp_path) -> str:
    """`manifest=…` of eight people, two clips each; the files do not exist."""
    rows = (f"c{i}{e},c{i}{e}.mp4,s{i},{e},x," for i in range(8) for e in ("fear", "anger"))
    return f"manifest={manifest(tmp_path, *rows)}"


def trial(folder: Path, **result: object) -> Path:
    folder.mkdir()
    (folder / "result.json").write_text(TrialResult.model_validate({"number": 0, **result}).model_dump_json())
    return folder


def refused(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 1 and "Traceback" not in done.stderr, done.exception
    return done.stderr.strip().splitlines()[-1]


def test_train_reads_its_trial_first(tmp_path, clips):
    assert "/nosuch holds no finished trial; name the folder of a complete one" in refused(
        "train", "--trial", "/nosuch", "--set", clips
    )
    pruned = trial(tmp_path / "pruned", state="pruned", train=TrainConfig())
    assert "is of a trial that is pruned" in refused("train", "--trial", pruned, "--set", clips)
    assert "name a trial or a model, not both" in refused("train", "--trial", pruned, "--model", "fan-self")


def test_train_asks_for_the_weights_that_its_trial_reads(tmp_path, clips):
    unused = trial(tmp_path / "svm", state="complete", train=TrainConfig().with_model("displacement-svm"))
    head = trial(tmp_path / "head", state="complete", train=TrainConfig())
    settings = ["--set", clips, "--set", "backbone.name=vgg16", "--set", "backbone.weights=/nowhere/vgg.safetensors"]
    assert isinstance(run("train", "--trial", unused, *settings).exception, Begun)
    assert "no weights file at /nowhere" in refused("train", "--trial", head, *settings)
