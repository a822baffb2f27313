"""The whole journey, once: `ferflow demo` as a newcomer types it, then what it left behind."""

from __future__ import annotations

import csv
import html
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

PREDICT = """
import json, sys
import mlflow, pandas as pd
assert "fer_core" not in sys.modules
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/face-emotion@champion")
print("\\n" + model.predict(pd.DataFrame({"path": sys.argv[2:]})).to_json(orient="records"))
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory, ferflow):
    """A workspace with a finished demo, and what the demo said of itself."""
    folder = tmp_path_factory.mktemp("demo")
    said = json.loads(run(ferflow, "demo", "--json", cwd=folder).stdout)
    return folder / "workspace", said


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_demo_ends_with_a_champion_and_a_verdict_for_every_video(demo):
    workspace, said = demo
    assert said["clips"] == 144 and said["trials"] == 8 and said["champion"] == 1
    assert said["faces"] >= 0.97 * said["frames"]
    assert said["synthetic"] is True
    low, high = said["mean_recall"][1:]
    assert 1 / 6 < low < said["mean_recall"][0] < high
    scored = Path(said["report"]).parent
    assert scored.parent == workspace / "scored"
    assert said["people"].startswith("0 of 36 clips show people the model was trained on; ")
    verdicts = rows_of(scored / "verdicts.csv")
    assert len(verdicts) == 36 and {row["status"] for row in verdicts} <= {"ok", "low_quality"}
    page = html.unescape((scored / "report.html").read_text())
    assert "synthetic" in page.lower() and "default-src 'none'" in page and "Decisive frames" in page
    assert len(list((scored / "explanations").iterdir())) == 36


def test_prefect_holds_the_runs_of_the_demo_in_the_workspace(demo):
    workspace, _ = demo
    with closing(sqlite3.connect(workspace / "prefect" / "prefect.db")) as database:
        names = [name for (name,) in database.execute("SELECT name FROM flow_run WHERE state_type = 'COMPLETED'")]
    assert any(name.startswith("end-to-end: ") for name in names), names


def test_mlflow_holds_a_run_for_every_trial_under_the_study(demo):
    from mlflow import MlflowClient

    workspace, _ = demo
    client = MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("face-emotion")
    runs = client.search_runs([experiment.experiment_id])
    [study] = [r for r in runs if r.info.run_name.startswith("search ")]
    trials = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == study.info.run_id]
    assert len(trials) == 8 and all(r.info.status != "RUNNING" for r in runs)
    whole = next(r for r in trials if r.data.tags["state"] == "complete")
    files = {f.path for f in client.list_artifacts(whole.info.run_id, "figures")}
    assert "figures/confusion.json" in files
    assert whole.data.tags["data_fingerprint"] and whole.data.tags["synthetic"] == "true"
    assert {"model", "lr", "batch_size", "widths", "class_weights"} <= set(whole.data.params)
    assert 0 <= whole.data.metrics["abstention/mean_risk"] < 1
    assert len(client.get_metric_history(whole.info.run_id, "fold0/validation_accuracy")) > 1


def test_downstream_gets_the_same_verdicts_without_this_project(demo, tmp_path):
    workspace, said = demo
    scored = rows_of(Path(said["report"]).parent / "verdicts.csv")[:3]
    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    paths = [row["path"] for row in scored]
    done = run(sys.executable, "-P", "-c", PREDICT, uri, *paths, cwd=tmp_path)
    predicted = json.loads(done.stdout.strip().splitlines()[-1])
    for row, answer in zip(scored, predicted, strict=True):
        assert (answer["status"], answer["emotion"]) == (row["status"], row["emotion"])
        assert answer["happiness"] == pytest.approx(float(row["happiness"]), abs=1e-4)


def test_one_bad_file_is_a_row_and_the_rest_are_scored(demo, ferflow, tmp_path):
    workspace, said = demo
    good = rows_of(Path(said["report"]).parent / "verdicts.csv")[0]["path"]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    done = run(
        ferflow, "score", good, "broken.mp4", "absent.mp4", "--out", "out", "--workspace", str(workspace), "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert json.loads(done.stdout)["unscored"] == 2
    assert [r["status"] for r in rows_of(tmp_path / "out" / "verdicts.csv")] == ["ok", "unsupported", "missing"]
    strict = subprocess.run(
        [ferflow, "score", "broken.mp4", "absent.mp4", "--out", "out", "--workspace", str(workspace), "--strict"],
        cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL, timeout=300, check=False,
    )  # fmt: skip
    assert strict.returncode == 3


def test_a_second_demo_computes_nothing_anew_and_keeps_its_champion(demo, ferflow):
    workspace, said = demo
    environment = {**os.environ, "FERFLOW_WORKSPACE": str(workspace)}
    done = subprocess.run(
        [ferflow, "demo", "--json"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1000,
        env=environment, check=True,
    )  # fmt: skip
    assert "features of 0 frames computed" in done.stderr
    again = json.loads(done.stdout)
    assert again["mean_recall"] == said["mean_recall"] and again["chosen_trial"] == said["chosen_trial"]


def test_a_model_of_whole_clips_is_searched_registered_repeated_and_served(demo, ferflow, tmp_path):
    """The last of this journey: it registers a version of its own."""
    workspace, said = demo

    def ran(*words: str) -> dict:
        place = ["--workspace", str(workspace), "--json"]
        return json.loads(run(ferflow, *words, *place, cwd=tmp_path).stdout)

    models = ["--set", "search.models=[displacement-svm, appearance-displacement]", "--set", "search.trials=4"]
    searched = ran("search", "--config", "demo", *models)
    assert searched["trials"] == 4
    train = json.loads((Path(searched["trial"]) / "result.json").read_text())["train"]
    assert train["model"] in ("displacement-svm", "appearance-displacement")
    trained = ran("train", "--config", "demo", "--trial", searched["trial"])
    assert trained["version"] > said["champion"] and trained["mean_recall"][1] > 1 / 6
    assert set(trained["test"]) == {"mean_scores"}
    again = ran("reproduce", trained["run"])
    assert again["identical"] is True, again["answer"]
    ran("promote", "--config", "demo", "--version", str(trained["version"]), "--set", "promote.force=true")
    videos = [row["path"] for row in rows_of(Path(said["report"]).parent / "verdicts.csv")[:3]]
    scored = ran("score", *videos, "--out", str(tmp_path / "out"), "--explain", "2")
    assert scored["unscored"] == 0
    rows = rows_of(tmp_path / "out" / "verdicts.csv")
    assert {row["rule"] for row in rows} == {"whole_clip"} and {row["model_version"] for row in rows} == {
        str(trained["version"])
    }
    assert "Lines: how points moved" in (tmp_path / "out" / "report.html").read_text()
    done = run(sys.executable, "-P", "-c", PREDICT, f"sqlite:///{workspace / 'mlflow.db'}", *videos, cwd=tmp_path)
    for row, answer in zip(rows, json.loads(done.stdout.strip().splitlines()[-1]), strict=True):
        assert answer["emotion"] == row["emotion"]
        assert answer["happiness"] == pytest.approx(float(row["happiness"]), abs=1e-4)
