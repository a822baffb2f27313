"""`ferflow compare` on drawn clips, as it is typed; what it leaves in workspace and MLflow."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fer_core.model_names import FACE_NETWORKS, compared_names

HUNGRY = {"lstm", "c3d", "lstm-c3d", "lstm-c3d-learned"}  # at chance after 15 epochs on fifty clips
SETTINGS = ["preprocess.max_frames=4", "search.folds=3", "train.epochs=15", "split.test=0.2"]


def test_an_unknown_model_is_refused_before_anything_is_done(workspace):
    from flows.cli import app

    done = CliRunner().invoke(app, ["compare", "lbp-svn"])
    assert done.exit_code == 1
    assert "Error: there is no model 'lbp-svn' (did you mean 'lbp-svm'?)" in done.stderr
    assert not list(workspace.glob("store/*"))


def test_other_peoples_clips_that_cannot_be_read_are_refused_before_anything_is_done(workspace, tmp_path):
    from flows.cli import app

    done = CliRunner().invoke(app, ["compare", "--external", str(tmp_path / "no.csv")])
    assert done.exit_code == 1 and "no.csv" in done.stderr
    assert not list(workspace.glob("store/*"))


@pytest.fixture(scope="module")
def compared(tmp_path_factory, ferflow):
    """A workspace after the comparison of all models on ten drawn people, and how to run another."""
    folder = tmp_path_factory.mktemp("compare")
    run(ferflow, "data", "synth", "clips", "--subjects", "12", cwd=folder)

    def compare(*words: str) -> dict:
        settings = [word for setting in (*SETTINGS, "manifest=clips/manifest.csv") for word in ("--set", setting)]
        return json.loads(run(ferflow, "compare", *words, *settings, "--json", cwd=folder).stdout)

    return folder / "workspace", compare, compare("--epochs", "15", "--no-untrained")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_model_goes_through_and_those_for_few_clips_learn_from_drawn_ones(compared):
    _, _, said = compared
    assert said["failed"] == {} and [row["model"] for row in said["rows"]] == list(compared_names())
    models = json.loads(Path(said["numbers"]).read_text())["models"]
    for name in sorted(set(compared_names()) - HUNGRY):
        value, low, _ = models[name]["evaluation"]["mean_recall"]
        assert value > 0.3 and low > 1 / 6, f"{name}: {value}"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_a_model_and_a_page_are_left(compared):
    from mlflow import MlflowClient

    workspace, _, said = compared
    client = MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("face-emotion").experiment_id
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{said['run']}'")
    assert {run.data.tags["model"] for run in children} == set(compared_names())
    for child in children:
        assert child.info.status == "FINISHED" and child.data.tags["synthetic"] == "true"
        assert child.data.metrics["parameters"] > 0 and "recall/fear" in child.data.metrics
        files = {file.path for file in client.list_artifacts(child.info.run_id, "figures")}
        assert "figures/confusion.png" in files
        assert ("fold0/loss" in child.data.metrics) == ("figures/curves.png" in files)
    page = Path(said["report"]).read_text()
    assert "Synthetic faces" in page and all(f"{name}<small>" in page for name in compared_names())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_models_judge_other_peoples_clips_by_group(compared, ferflow):
    workspace, compare, _ = compared
    folder = workspace.parent
    run(ferflow, "data", "synth", "others", "--subjects", "4", "--seed", "9", cwd=folder)
    listed = (folder / "others" / "manifest.csv").read_text().splitlines()
    subject = listed[0].split(",").index("subject")
    rows = [f"{listed[0]},group_known"]
    for line in listed[1:]:
        cells = line.split(",")
        cells[subject] = f"other-{cells[subject]}"
        rows.append(",".join([*cells, "yes" if cells[subject].endswith(("0", "1")) else "no"]))
    (folder / "others" / "others.csv").write_text("\n".join(rows) + "\n")
    said = compare("head-mean", "lbp-svm", "displacement-svm", "--external", "others/others.csv")
    names = [row["model"] for row in said["external"]]
    assert names[:3] == ["head-mean", "lbp-svm", "displacement-svm"]
    assert "fer2013" in names[3:] and set(names[3:]) <= set(FACE_NETWORKS), "networks without training come last"
    numbers = json.loads(Path(said["numbers"]).read_text())["external"]
    assert numbers["synthetic"] and len(numbers["labels"]) == 6
    for name, row in zip(("head-mean", "lbp-svm"), said["external"], strict=False):
        assert {"all 24 clips", "known no, 12 clips", "known yes, 12 clips"} < set(row), name
        assert numbers["models"][name]["evaluation"]["mean_recall"][0] > 0.3
    assert "On others" in Path(said["report"]).read_text()
    refused = subprocess.run(
        [ferflow, "compare", "lbp-svm", "--external", "clips/manifest.csv", "--set", "manifest=clips/manifest.csv"],
        cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600,
    )  # fmt: skip
    assert refused.returncode == 1 and "is among the clips trained on and in manifest" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_models_compared_before_are_not_fitted_again(compared):
    workspace, compare, said = compared
    before = sorted(workspace.glob("store/comparisons/*/*"))
    assert len(before) >= 3 * len(compared_names())
    again = compare("lbp-svm", "displacement-svm", "lbp-forest", "--no-untrained")
    assert sorted(workspace.glob("store/comparisons/*/*")) == before
    told = {row["model"]: row for row in said["rows"]}
    for row in again["rows"]:
        assert row["mean recall %"] == told[row["model"]]["mean recall %"]
        assert row["s to train"] == told[row["model"]]["s to train"]
