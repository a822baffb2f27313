"""Name a flow run after what it does, and show its result first among its artifacts, with links that open."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_UI_URL

from fer_core.clips.cells import markdown_text
from fer_core.tracking.origin import started_by
from fer_core.tracking.running import this_process
from flows.support.artifacts import show_markdown
from mlflow_server.address import running
from mlflow_server.pages import MLFLOW, page_path

KEY = "summary"
FLOW_RUN = "prefect.flow_run"  # tag of MLflow runs: the flow run's page, or its id
LONGEST_NAME = 120  # characters of a run's name


def name_run(what: str) -> None:
    """Name the running flow run `FLOW: what`, as in `score: 36 clips of incoming`, and link it with its MLflow runs.

    Without a flow run, do nothing.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow is None:
        return
    name = f"{context.flow.name}: {what}"[:LONGEST_NAME]
    run = context.flow_run
    # The runner of `ferflow up` watches its runs itself; of another one, only this tells that its process has died.
    owner = None if run.deployment_id else this_process()
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, name=name, infrastructure_pid=owner)
    # A temporary server ends with its command: then only the id leads to the flow run, on a later server.
    page = f"{PREFECT_UI_URL.value()}/runs/flow-run/" if os.environ.get("PREFECT_API_URL") else ""
    started_by({FLOW_RUN: f"{page}{run.id}"})


def source_of(paths: Sequence[str | Path]) -> str:
    """Return a short name of inputs: a folder as `incoming/`, a file by its name, and how many others there are."""
    first = Path(paths[0]).expanduser()
    name = f"{first.name}/" if first.is_dir() else first.name
    return name if len(paths) == 1 else f"{name} and {len(paths) - 1} more"


def show_summary(
    markdown: str,
    workspace: Path,
    *,
    run_url: str = "",
    version_url: str = "",
    pages: Mapping[str, Path] | None = None,
) -> None:
    """Show the result of a run. Call it last: `ferflow up` lists the newest artifact first.

    Args:
        markdown: what came out, and what to run next.
        workspace: folder of the run's files, whose servers the links lead to.
        run_url: the run in MLflow; empty: none.
        version_url: the registered version in MLflow; empty: none.
        pages: title -> file that the run has written.
    """
    servers = running(workspace)
    in_mlflow = {"The run in MLflow": run_url, "The version in MLflow": version_url}
    own = servers.mlflow if servers else ""
    links = [f"[{title}]({_mlflow(url, own)})" for title, url in in_mlflow.items() if url]
    for title, file in (pages or {}).items():
        path = page_path(workspace, file) if servers else ""
        links.append(f"[{title}]({path})" if path else f"{title}: {markdown_text(str(file))}")
    text = f"{markdown.rstrip()}\n\n" + "".join(f"- {link}\n" for link in links)
    show_markdown(KEY, text, "Result, links, and what to run next")


def _mlflow(url: str, own: str) -> str:
    """Return the link to a page of MLflow: by the team's own server, it opens on the host that the reader used."""
    base, _, page = url.partition("/#/")
    return f"{MLFLOW}{page}" if own and base == own else url
