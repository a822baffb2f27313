"""Serve the flows as Prefect deployments, each with a form for its settings, started in the UI or by the API.

`ferflow up` runs `python -m flows.serve` in the workspace. Prefect searches the working directory first for the module
of an entry point, so a user's own `flows/` folder there would be imported instead of this package.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner import Runner

log = logging.getLogger(__name__)

# (module, flow, name of the deployment), in the order in which a user needs them
SERVED = (
    ("flows.card", "card_flow", "card"),
    ("flows.preprocess", "preprocess_flow", "preprocess"),
    ("flows.search", "search_flow", "search"),
    ("flows.compare", "compare_flow", "compare"),
    ("flows.cross_database", "cross_database_flow", "cross-database"),
    ("flows.reproduce", "reproduce_thesis_flow", "reproduce-thesis"),
    ("flows.rerun", "rerun_flow", "rerun"),
    ("flows.train", "train_flow", "train"),
    ("flows.promote", "promote_flow", "promote"),
    ("flows.score", "score_flow", "score"),
    ("flows.evaluate", "evaluate_flow", "evaluate"),
    ("flows.end_to_end", "end_to_end_flow", "end-to-end"),
)
# Fields of a deployment that users set in the Prefect UI: sent when the deployment is created, and never again.
SET_IN_UI = ("schedules", "concurrency_limit", "concurrency_options", "paused", "tags", "parameters")
AT_ONCE = 2  # a folder can be scored during a search; more runs would share the same cores


def deployments(served: Sequence[tuple[str, str, str]] = SERVED) -> list[RunnerDeployment]:
    """Return a deployment for each (module, flow, name)."""
    from prefect.deployments.runner import EntrypointType

    return [
        getattr(import_module(module), flow).to_deployment(
            name, tags=["ferflow"], entrypoint_type=EntrypointType.MODULE_PATH
        )
        for module, flow, name in served
    ]


def serve(ready: Path | None = None, served: Sequence[tuple[str, str, str]] = SERVED, limit: int = AT_ONCE) -> None:
    """Register the deployments, and execute their runs until SIGTERM.

    Args:
        ready: file to write once the deployments can be run.
        served: (module, flow, name) of each deployment.
        limit: maximum number of flow runs at a time; the others wait.
    """
    from prefect.runner import Runner

    class CancellingRunner(Runner):
        """Stops the runner on SIGTERM; Prefect's own handler never awaits `astop`, so its runs stay Running (3.8.8)."""

        def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(lambda: stopping.append(loop.create_task(self.astop())))

    stopping: list[asyncio.Task[None]] = []  # keeps a reference to the task, which the loop does not
    runner = CancellingRunner(name="ferflow", limit=limit, pause_on_shutdown=False)
    for deployment in deployments(served):
        register(runner, deployment)
    end_orphans([name for *_, name in served])
    if ready:
        ready.write_text("", encoding="utf-8")
    asyncio.run(runner.start())


def register(runner: Runner, deployment: RunnerDeployment) -> None:
    """Create a deployment, or update it from the code; settings made in the UI are kept.

    Parameters set in the UI that no longer fit the flow's form are reset, with a warning.
    """
    from prefect.exceptions import PrefectHTTPStatusError

    for name in SET_IN_UI:
        deployment.model_fields_set.discard(name)  # an update sends only the fields that are marked as set
    try:
        runner.add_deployment(deployment)
    except PrefectHTTPStatusError as exc:
        if exc.response.status_code != HTTPStatus.CONFLICT:
            raise
        log.warning("'%s': default parameters set in the UI fit its form no more and are reset", deployment.name)
        deployment.parameters = {}
        runner.add_deployment(deployment)


def end_orphans(names: Sequence[str]) -> int:
    """End the runs of deployments that a killed server left unfinished, and return their number.

    These runs execute nowhere, because only this process executes runs.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName, FlowRunFilter
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    unended = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        orphans = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": unended}}}),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=list(names))),
        )
        for run in orphans:
            client.set_flow_run_state(run.id, Crashed(message="The server that ran it was stopped."), force=True)
    return len(orphans)


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m flows.serve [--ready FILE]`."""
    parser = argparse.ArgumentParser(description="Serve ferflow's flows to a Prefect server.")
    parser.add_argument("--ready", type=Path, help="file to write once the deployments can be run")
    serve(parser.parse_args(argv).ready)


if __name__ == "__main__":
    main()
