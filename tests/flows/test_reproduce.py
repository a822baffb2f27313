"""`ferflow reproduce`, as it is typed: the thesis on drawn clips, and recorded runs again."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fer_core.config import load_config
from fer_core.published import IMPLEMENTATIONS

SMALL = ["backbone.name=efficientnet-lite0", "preprocess.max_frames=2", "train.epochs=4", "search.folds=2"]
SETTINGS = [word for setting in SMALL for word in ("--set", setting)]


def test_only_what_the_user_sets_goes_over_the_thesis(tmp_path):
    from flows.commands.reproduce import overrides_of
    from flows.commands.session import Session

    assert overrides_of(Session(load_config())) == []
    mine = tmp_path / "mine.yaml"
    mine.write_text("backbone: {weights: w.safetensors}\nsearch: {folds: 4}\n")
    lines = ["train.lr=0.01", "train.widths=[8, 4]", "search.folds=3"]
    given = overrides_of(Session(load_config(mine, lines), config_file=mine, overrides=lines))
    assert given == ['backbone.weights="w.safetensors"', "train.lr=0.01", "train.widths=[8, 4]"]
    again = load_config(None, given)
    assert (again.train.lr, again.train.widths, again.backbone.weights) == (0.01, (8, 4), "w.safetensors")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["no-such-run"], "Error: run 'no-such-run' cannot be read"),
        (["thesis", "absent.csv"], "Error: no manifest at"),
        (["thesis", "--set", "train.transfer=last_block"], "the thesis trains FC layers only"),
        (["thesis", "--config", "thesis-4"], "thesis-4 sets train.lr, but each implementation has its own"),
    ],
    ids=["unknown run", "no manifest", "tuned convolutions", "one network for all"],
)
def test_mistakes_are_one_sentence_before_anything_is_done(workspace, words, sentence):
    from flows.cli import app

    done = CliRunner().invoke(app, ["reproduce", *words])
    assert done.exit_code == 1 and sentence in done.stderr and "Traceback" not in done.stderr


def run(*command: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1400)
    assert done.returncode == code, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory, ferflow):
    """A folder with drawn clips and a workspace in which the thesis was reproduced, two implementations of it."""
    folder = tmp_path_factory.mktemp("reproduce")
    run(ferflow, "data", "synth", "clips", "--subjects", "14", cwd=folder)
    said = json.loads(
        run(
            ferflow, "reproduce", "thesis", "clips/manifest.csv", "--shrink", "128", "--only", "1",
            "--only", "4", "--cross-validate", *SETTINGS, "--json", cwd=folder,
        ).stdout
    )  # fmt: skip
    return folder, said


def runs_of(folder: Path):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'workspace' / 'mlflow.db'}")
    return client, client.search_runs([client.get_experiment_by_name("face-emotion").experiment_id])


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_thesis_is_one_page_and_a_run_for_every_implementation(reproduced):
    folder, said = reproduced
    assert said["synthetic"] is True and said["openings"] == 2 and "[" in said["implementation_4"]
    page = Path(said["page"]).read_text()
    assert "Synthetic faces" in page and f"{IMPLEMENTATIONS[3].average['mean_scores']:.2f}" in page
    assert page.count('<table class="matrix">') == 4
    client, runs = runs_of(folder)
    parent = next(r for r in runs if r.info.run_id == said["run"])
    children = {r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == said["run"]}
    assert set(children) == {"thesis-1", "thesis-4"} and parent.info.status == "FINISHED"
    files = {f.path for f in client.list_artifacts(said["run"])}
    assert {"reproduction.html", "reproduction.md", "reproduction.json"} <= files
    for child in children.values():
        assert {"test/majority_vote/mean_recall", "test/recall/fear", "loss"} <= child.data.metrics.keys()
        assert "mean_recall" in child.data.metrics
        assert child.data.tags["weights_sha256"] and child.data.tags["synthetic"] == "true"
        names = {f.path for f in client.list_artifacts(child.info.run_id, "figures")}
        assert {
            "figures/confusion_majority_vote.png",
            "figures/confusion.png",
            "figures/curves.png",
        } <= names


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ["implementation", "trial", "candidate"])
def test_a_run_again_is_the_same_to_the_last_bit_and_opens_no_lockbox(reproduced, ferflow, kind):
    folder, _ = reproduced
    lockbox = folder / "workspace" / "lockbox"
    _, runs = runs_of(folder)
    if kind == "candidate":
        settings = [*SETTINGS, "--set", "manifest=clips/manifest.csv", "--set", "train.widths=[16]"]
        run(ferflow, "train", *settings, cwd=folder)
        specs = (folder / "workspace" / "settings").glob("*/trial.json")
        judged = next(str(spec.parent) for spec in specs if json.loads(spec.read_text())["train"]["widths"] == [16])
        settings += ["--set", "search.folds=5", "--trial", judged]  # which was judged by two
        run_id = json.loads(run(ferflow, "train", *settings, "--json", cwd=folder).stdout)["run"]
    elif kind == "trial":
        run_id = next(r.info.run_id for r in runs if "trial" in r.data.tags and "reproduces" not in r.data.tags)
    else:
        run_id = next(r.info.run_id for r in runs if r.data.tags.get("implementation") == "1")
    before = {path.name: path.read_text() for path in lockbox.glob("*.json")}
    said = json.loads(run(ferflow, "reproduce", run_id, "--json", cwd=folder).stdout)
    assert said["identical"] is True, said["answer"]
    assert said["values"] > 10 and said["largest_difference"] == 0
    assert {path.name: path.read_text() for path in lockbox.glob("*.json")} == before


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_other_data_are_refused_in_a_sentence(reproduced, ferflow):
    folder, _ = reproduced
    _, runs = runs_of(folder)
    run_id = next(r.info.run_id for r in runs if r.data.tags.get("implementation") == "1")
    with (folder / "clips" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    altered = folder / "clips" / "altered.csv"
    with altered.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows[:-1])
    done = run(ferflow, "reproduce", run_id, str(altered), cwd=folder, code=1)
    assert (
        "was made of data" in done.stderr
        and "name the manifest of that time behind the run" in done.stderr
        and "Traceback" not in done.stderr
    )
