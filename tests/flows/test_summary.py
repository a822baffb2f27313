from __future__ import annotations

from typing import Any

import pytest
from prefect import flow

from fer_core.tracking.origin import origin_tags
from fer_core.tracking.running import this_process
from flows.support import summary
from flows.support.leftovers import _flow_runs
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


def test_mlflow_runs_are_tagged_with_the_flow_run_and_it_with_its_process(run_of, monkeypatch):
    tags: list[dict[str, str]] = []
    found, _ = run_of(lambda: (name_run("36 clips"), tags.append({**origin_tags()})))
    assert tags == [{"prefect.flow_run": str(found.id)}], "a temporary server has no pages"
    assert found.infrastructure_pid == this_process()


def test_a_flow_run_whose_process_has_died_is_named_and_crashed(run_of):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.states import Running

    found, _ = run_of(lambda: name_run("36 clips"))
    host, pid, _ = this_process().split()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(found.id, Running(), force=True)
        assert not list(_flow_runs()), "this process lives"
        client.update_flow_run(found.id, infrastructure_pid=f"{host} {pid} 1")
        [left] = list(_flow_runs())
        assert left.what == "flow run 'score: 36 clips' has not ended, but its process has died"
        assert left.repair() == "'score: 36 clips' is Crashed"
        assert client.read_flow_run(found.id).state.type is StateType.CRASHED
    assert not list(_flow_runs())


def test_without_a_run_there_is_nothing_to_name():
    name_run("36 clips")


def test_links_of_the_own_servers_open_on_any_host(run_of, tmp_path, monkeypatch):
    servers = Addresses("http://127.0.0.1:5000", "http://127.0.0.1:4200", pid=1)
    monkeypatch.setattr(summary, "running", lambda workspace: servers)
    page = tmp_path / "scored" / "report.html"
    url = "http://127.0.0.1:5000/#/experiments/1/runs/abc"
    version = "http://127.0.0.1:5000/#/models/face-emotion/versions/2?workflowType=machine_learning"
    _, artifacts = run_of(
        lambda: show_summary("## Done\n", tmp_path, run_url=url, version_url=version, pages={"The report": page})
    )
    assert shown(artifacts) == (
        "## Done\n\n- [The run in MLflow](/mlflow/experiments/1/runs/abc)\n"
        "- [The version in MLflow](/mlflow/models/face-emotion/versions/2?workflowType=machine_learning)\n"
        "- [The report](/pages/scored/report.html)\n"
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
