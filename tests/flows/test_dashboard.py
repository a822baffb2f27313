"""Optuna's dashboard over all studies of a workspace, as a program that a browser asks."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.request
from pathlib import Path

import optuna
import pytest

from fer_core.experiments.search.joined import JoinedStudies
from tests.flows.test_cli import run


def make_study(workspace: Path, name: str, trials: int) -> optuna.Study:
    folder = workspace / "studies" / name
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name, storage=f"sqlite:///{folder / 'optuna.db'}", direction="maximize", load_if_exists=True
    )
    study.set_user_attr("data fingerprint", name)
    study.set_metric_names(["mean recall"])
    for _ in range(trials):
        trial = study.ask({"lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)})
        trial.set_user_attr("MLflow run", "http://127.0.0.1:5000/#/experiments/1/runs/a")
        study.tell(trial, 0.5)
    return study


def test_studies_are_shown_together_and_grow_with_their_searches(tmp_path):
    first = make_study(tmp_path, "one", 2)
    make_study(tmp_path, "two", 1)
    joined = JoinedStudies(tmp_path, "auto")
    joined.refresh()
    copies = {name: optuna.load_study(study_name=name, storage=joined.storage) for name in joined.names}
    assert {name: len(copy.trials) for name, copy in copies.items()} == {"one": 2, "two": 1}
    assert copies["two"].user_attrs == {"data fingerprint": "two"} and copies["one"].metric_names == ["mean recall"]
    running, ended = first.ask(), first.ask()
    first.tell(ended, 0.75)
    joined.refresh()
    assert len(copies["one"].trials) == 2, "trials keep their numbers, so the third waits for the second"
    first.tell(running, 0.25)
    joined.refresh()
    assert [trial.value for trial in copies["one"].trials] == [0.5, 0.5, 0.25, 0.75]


def test_the_dashboard_answers_with_all_studies_and_a_click_there_changes_none(ferflow, tmp_path):
    pytest.importorskip("optuna_dashboard")
    make_study(tmp_path, "one", 2)
    make_study(tmp_path, "two", 1)
    command = [ferflow, "search", "--dashboard", "--port", "0", "--workspace", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "Studies: one, two\n"
            url = re.search(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())[0]
            with urllib.request.urlopen(f"{url}dashboard/", timeout=30) as answer:
                assert b"Optuna" in answer.read()
            with urllib.request.urlopen(f"{url}api/studies", timeout=30) as answer:
                studies = json.load(answer)["study_summaries"]
            assert {study["study_name"] for study in studies} == {"one", "two"}
            with urllib.request.urlopen(f"{url}api/studies/{studies[0]['study_id']}", timeout=30) as answer:
                found = json.load(answer)
            assert len(found["trials"]) == 2 and "MLflow run" in json.dumps(found["trials"])
            gone = urllib.request.Request(f"{url}api/studies/{studies[0]['study_id']}", data=b"{}", method="DELETE")
            gone.add_header("Content-Type", "application/json")
            urllib.request.urlopen(gone, timeout=30).close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 143
        finally:
            process.kill()
    assert len(make_study(tmp_path, "one", 0).trials) == 2


def test_a_dashboard_that_cannot_be_is_refused_in_one_sentence(tmp_path, monkeypatch):
    done = run("search", "--dashboard", "--workspace", tmp_path)
    assert done.exit_code == 1 and "has no study yet" in done.stderr
    monkeypatch.setattr("flows.commands.dashboard.find_spec", lambda name: None)
    done = run("search", "--dashboard", "--workspace", tmp_path)
    assert done.exit_code == 1 and "pip install 'ferflow[search-ui]'" in done.stderr
