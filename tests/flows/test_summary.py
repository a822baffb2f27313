from __future__ import annotations

from typing import Any

import pytest
from prefect import flow

from flows.support import summary
from flows.support.summary import name_run, show_summary, source_of
from mlflow_server.address import Addresses


def shown(artifacts: list[Any]) -> str:
    (only,) = [artifact for artifact in artifacts if artifact.key == "summary"]
    return str(only.data)


@pytest.fixture
def run_of(prefect_server):
    """Run a function as a flow; return its flow run and artifacts."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    def run(function: Any) -> tuple[Any, list[Any]]:
        state = flow(name="score")(function)(return_state=True)
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(state.state_details.flow_run_id)
            mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[found.id]))
            return found, client.read_artifacts(artifact_filter=mine)

    return run


def test_a_run_is_named_after_what_it_does(run_of):
    found, _ = run_of(lambda: name_run("36 clips of incoming/"))
    assert found.name == "score: 36 clips of incoming/"


def test_without_a_run_there_is_nothing_to_name():
    name_run("36 clips")


def test_links_of_the_own_servers_open_on_any_host(run_of, tmp_path, monkeypatch):
    servers = Addresses("http://127.0.0.1:5000", "http://127.0.0.1:4200", pid=1)
    monkeypatch.setattr(summary, "running", lambda workspace: servers)
    page = tmp_path / "scored" / "report.html"
    url = "http://127.0.0.1:5000/#/experiments/1/runs/abc"
    _, artifacts = run_of(lambda: show_summary("## Done\n", tmp_path, run_url=url, pages={"The report": page}))
    assert shown(artifacts) == (
        "## Done\n\n- [The run in MLflow](/mlflow/experiments/1/runs/abc)\n- [The report](/pages/scored/report.html)\n"
    )


def test_without_servers_a_page_is_named_by_its_path_and_another_mlflow_by_its_url(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "running", lambda workspace: None)
    url = "http://mlflow.lab/#/experiments/1/runs/abc"
    page = tmp_path / "report.html"
    _, artifacts = run_of(lambda: show_summary("## Done", tmp_path, run_url=url, pages={"The report": page}))
    text = shown(artifacts)
    assert f"[The run in MLflow]({url})" in text and "The report: " in text and "/pages/" not in text


def test_inputs_have_a_short_name(tmp_path):
    (tmp_path / "incoming").mkdir()
    assert source_of([tmp_path / "incoming"]) == "incoming/"
    assert source_of([tmp_path / "a.mp4", tmp_path / "b.mp4"]) == "a.mp4 and 1 more"
