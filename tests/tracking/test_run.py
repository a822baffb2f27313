from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from fer_core.config import RunConfig, SearchConfig, TrackingConfig, TrainConfig, load_config
from fer_core.errors import TrackingError
from fer_core.evaluation.metrics import evaluate
from fer_core.tracking.connection import Tracking, connect
from fer_core.tracking.run import Run, continue_run, find_run, start_run
from fer_core.training.history import Epoch, History

NAN = float("nan")


@pytest.fixture(scope="module", params=["workspace", "server"])
def tracking(request, tracking_workspace) -> Tracking:
    """Every claim here holds in the workspace's SQLite and on a real server."""
    uri = "auto" if request.param == "workspace" else request.getfixturevalue("mlflow_url")
    return connect(TrackingConfig(uri=uri), tracking_workspace)


@pytest.fixture
def run(tracking):
    with start_run(tracking, "a run", tags={"kind": "test"}) as run:
        yield run


@pytest.fixture
def evaluation():
    labels = np.tile(np.arange(5), 8)  # no surprise
    return evaluate(
        np.roll(labels, 1) * (np.arange(40) % 2) + labels * (np.arange(40) % 2 == 0),
        labels,
        [str(i) for i in range(40)],
    )


def stored(run):
    return run.tracking.client.get_run(run.id)


def artifact(run, path: str) -> str:
    return Path(run.tracking.client.download_artifacts(run.id, path)).read_text()


def test_children_are_found_by_their_parent(tracking, run):
    with start_run(tracking, "child", parent=run.id) as child:
        pass
    found = tracking.client.search_runs([tracking.experiment_id], f"tags.mlflow.parentRunId = '{run.id}'")
    assert [r.info.run_id for r in found] == [child.id]


def test_a_run_says_which_code_and_versions_made_it(run):
    tags = stored(run).data.tags
    assert tags["kind"] == "test"
    assert tags["mlflow.source.name"] == "ferflow"
    assert {"env.python", "env.torch", "env.mlflow"} <= set(tags)


@pytest.mark.parametrize(
    ("raised", "status"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_a_run_ends_as_its_block_does(tracking, raised, status):
    try:
        with start_run(tracking, "ending") as run:
            if raised:
                raise raised
    except (ValueError, KeyboardInterrupt):
        pass
    assert stored(run).info.status == status


def test_nothing_is_printed_where_a_program_may_read(tracking, capfd):
    with start_run(tracking, "quiet") as run:
        run.log_metrics({"a": 1.0})
        run.log_text("x", "x.txt")
    assert capfd.readouterr().out == ""


def test_a_run_continued_goes_on_under_its_id(tracking, tmp_path):
    with continue_run(tracking, tmp_path / "note", "killed") as run:
        run.log_metrics({"a": 1.0}, at_ms=1000)
    again = continue_run(tracking, tmp_path / "note", "killed", parent="f" * 32)
    assert again.id == run.id == find_run(tracking, tmp_path / "note") and stored(again).info.status == "RUNNING"
    assert stored(again).data.tags["mlflow.parentRunId"] == "f" * 32
    again.log_metrics({"b": 2.0})
    again.finish()
    assert stored(run).data.metrics == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda tracking, run, note: tracking.client.delete_run(run.id), id="the run was deleted"),
        pytest.param(lambda tracking, run, note: note.write_text("0" * 32), id="it is in another database"),
        pytest.param(lambda tracking, run, note: note.write_bytes(b""), id="the note is empty"),
        pytest.param(lambda tracking, run, note: note.write_bytes(b"\xff' OR 1"), id="the note is damaged"),
    ],
)
def test_a_run_that_is_lost_is_begun_anew_and_the_log_says_so(tracking, tmp_path, caplog, lose):
    note = tmp_path / "note"
    with continue_run(tracking, note, "search of mine") as run:
        pass
    lose(tracking, run, note)
    with continue_run(tracking, note, "search of mine") as again:
        pass
    assert again.id != run.id and "'search of mine' has no run at" in caplog.text
    assert find_run(tracking, note) == again.id


def test_a_setting_that_differs_when_a_run_goes_on_becomes_a_tag(run, tmp_path):
    run.log_config(SearchConfig(trials=3, workers=1))
    run.log_config(SearchConfig(trials=4, workers=1))
    assert (stored(run).data.params["trials"], stored(run).data.tags["trials"]) == ("3", "4")
    assert stored(run).data.params["workers"] == "1" and "workers" not in stored(run).data.tags
    assert yaml.safe_load(artifact(run, "config.yaml"))["trials"] == 4
    run.log_config(SearchConfig(trials=3, workers=1))
    assert stored(run).data.tags["trials"] == "3", "the newest value counts"


def test_logged_config_can_be_fed_back_in(run, tmp_path):
    config = RunConfig(train=TrainConfig(lr=0.005, widths=(512, 256)), search=SearchConfig(trials=3))
    run.log_config(config)
    params = stored(run).data.params
    assert params == {
        "model": "head", "backbone": config.backbone.label, "lr": "0.005", "batch_size": "20", "widths": "512-256",
        "class_weights": "none", "search.trials": "3",
    }  # fmt: skip
    file = tmp_path / "config.yaml"
    file.write_text(artifact(run, "config.yaml"))
    assert load_config(file) == config


def test_data_is_an_input_and_its_whole_fingerprint_a_tag(run):
    run.log_data("clips.csv", "ab" * 32, synthetic=True, source="/data/clips.csv")
    (entry,) = stored(run).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("clips.csv", "ab" * 18)
    assert stored(run).data.tags["data_fingerprint"] == "ab" * 32
    assert stored(run).data.tags["synthetic"] == "true"
    found = run.tracking.client.search_runs([run.tracking.experiment_id], f"dataset.digest = '{'ab' * 18}'")
    assert run.id in {r.info.run_id for r in found}


def test_fault_91_history_sent_twice_is_stored_once_with_its_own_times(run):
    history = History(
        [Epoch(i + 1, 2.0 / (i + 1), 0.5, NAN, 0.4, 1e-3, 1.0, 1_700_000_000_000 + 60_000 * i) for i in range(4)]
    )
    run.log_history(history, "fold0/")
    run.log_history(history, "fold0/")
    points = run.tracking.client.get_metric_history(run.id, "fold0/loss")
    assert [(p.step, p.timestamp, p.value) for p in points] == [(e.number, e.ended_at, e.loss) for e in history.epochs]
    assert "fold0/validation_loss" not in stored(run).data.metrics  # NaN: there was none


def test_metrics_have_six_digits_and_counts_are_exact(run):
    run.log_metrics({"mean_recall": 5 / 6, "seconds": 1234.56789, "parameters": 12978438})
    metrics = stored(run).data.metrics
    assert (metrics["mean_recall"], metrics["seconds"], metrics["parameters"]) == (0.833333, 1234.57, 12978438)


def test_evaluation_becomes_metrics_without_absent_classes(run, evaluation):
    run.log_rules({"mean_scores": evaluation, "majority_vote": evaluation})
    metrics = stored(run).data.metrics
    assert metrics["mean_recall"] == metrics["majority_vote/mean_recall"] == pytest.approx(evaluation.mean_recall.value)
    assert metrics["accuracy_low"] == pytest.approx(evaluation.accuracy.low)
    assert metrics["recall/fear"] == pytest.approx(evaluation.recall[2].value)
    assert metrics["weakest_recall"] == pytest.approx(min(r.value for r in evaluation.recall if r.value == r.value))
    assert "recall/surprise" not in metrics and "majority_vote/recall/fear" not in metrics


def test_confusion_is_logged_as_figure_numbers_and_grid_image(run, evaluation):
    run.log_confusion(evaluation, title="Out of fold")
    run.log_confusion(evaluation, "majority_vote")
    client = run.tracking.client
    assert {f.path for f in client.list_artifacts(run.id, "figures")} == {
        "figures/confusion.png",
        "figures/confusion.json",
        "figures/confusion_majority_vote.png",
        "figures/confusion_majority_vote.json",
    }
    assert json.loads(artifact(run, "figures/confusion.json")) == evaluation.to_json()
    images = [f.path for f in client.list_artifacts(run.id, "images")]
    assert len(images) == 2 and all(i.startswith("images/confusion+step+0") for i in images)
    assert stored(run).data.tags["mlflow.loggedImages"] == "True"


def test_faces_that_may_not_be_passed_on_stay_here(tracking, run):
    assert run.log_faces(Figure(), "figures/faces.png", redistribute=False) is False
    assert not run.tracking.client.list_artifacts(run.id, "figures")
    assert "kept in the workspace" in stored(run).data.tags["faces"]
    assert run.log_faces(Figure(), "figures/faces.png", redistribute=True) is True
    told_so = replace(tracking, cfg=TrackingConfig(upload_faces=True))
    assert replace(run, tracking=told_so).log_faces(Figure(), "figures/signed.png", redistribute=False) is True


def test_fault_104_run_names_are_checked_before_anything_is_sent(tracking):
    with pytest.raises(TrackingError, match=r"run name '\.\./\.\./etc'"):
        start_run(tracking, "../../etc")


def test_id_that_is_a_path_is_refused_before_a_file_is_named_after_it(tracking):
    """A server that answers falsely must not choose where a report is written."""

    class Lying:
        def create_run(self, *args, **kwargs):
            return SimpleNamespace(info=SimpleNamespace(run_id="../../etc/cron.d/x"))

    with pytest.raises(TrackingError, match=r"named run 'a' '../../etc/cron.d/x'; a run id is 32 hex digits"):
        start_run(replace(tracking, client=Lying()), "a")


def test_metrics_of_a_run_that_is_not_there_are_refused_in_one_sentence(tracking):
    with pytest.raises(TrackingError, match=r"run 0{32}: .*not found"):
        Run(tracking, "0" * 32).log_metrics({"a": 1.0})


@pytest.mark.slow
def test_two_processes_write_at_once(tracking, tracking_workspace):
    code = (
        "import sys; from pathlib import Path; from fer_core.config import TrackingConfig;"
        "from fer_core.tracking.run import connect, start_run;"
        f"t = connect(TrackingConfig(uri={tracking.uri!r}), Path({str(tracking_workspace)!r}));"
        "r = start_run(t, 'busy');"
        "[r.log_metrics({'a': i, 'b': i}, step=i) for i in range(40)]; r.finish(); print(r.id)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ids = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    for run_id in ids:
        assert len(tracking.client.get_metric_history(run_id, "a")) == 40
