"""Saved views of MLflow's table of runs."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

from fer_core.tracking.run import start_run
from fer_core.tracking.views import EXPERIMENT_TAGS, MODELS_VIEW, NOTE


def state_of(tag: str) -> dict:
    packed = json.loads(tag)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_experiment_says_how_to_read_it_and_has_a_view_of_all_models(tracking):
    tags = tracking.client.get_experiment(tracking.experiment_id).tags
    assert tags[NOTE].startswith("Runs of ferflow") and EXPERIMENT_TAGS.items() <= tags.items()
    assert state_of(tags[f"mlflow.sharedViewState.{MODELS_VIEW}"])["orderByKey"] == "metrics.`mean_recall`"


def test_a_search_has_a_view_of_its_trials_whose_filter_mlflow_understands(tracking):
    with start_run(tracking, "search") as parent, start_run(tracking, "trial", parent=parent.id) as child:
        child.log_metrics({"mean_recall": 0.5})
        assert parent.save_view("Trials", ("lr", "widths")) == "", "there is no server to open it at"
    tags = tracking.client.get_experiment(tracking.experiment_id).tags
    tag = tags[f"mlflow.sharedViewState.ferflow-{parent.id[:12]}"]
    state = state_of(tag)
    assert json.loads(tag)["name"] == "Trials" and len(tag) < 5000
    found = tracking.client.search_runs(
        [tracking.experiment_id], state["searchFilter"], order_by=[f"{state['orderByKey']} DESC"]
    )
    assert [run.info.run_id for run in found] == [child.id]
    assert state["selectedColumns"][0] == "metrics.`mean_recall`" and "params.`lr`" in state["selectedColumns"]
    sections = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= sections


def test_links_open_the_pages_for_training(tracking):
    served = replace(tracking, uri="http://me:secret@host:5000/")
    assert served.run_url("ab").endswith("/#/experiments/1/runs/ab?workflowType=machine_learning")
    assert served.view_url("v").endswith("/runs?viewStateShareKey=v&workflowType=machine_learning")
    assert "secret" not in served.version_url(3) and "/#/models/face-emotion/versions/3?" in served.version_url(3)
