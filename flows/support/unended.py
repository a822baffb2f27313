"""Flow runs of deployments that have begun and not ended: which machine runs them, and how they are ended by force."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

UNENDED = ("PENDING", "RUNNING", "CANCELLING", "PAUSED")
_WORKER = "prefect.worker.name"  # label that a worker gives a flow run before it starts the process
_FLOW_RUN = "PREFECT__FLOW_RUN_ID"  # environment variable of all processes of a flow run


def unended_runs(client: SyncPrefectClient) -> Iterator[FlowRun]:
    """Yield the flow runs that have begun and not ended."""
    from prefect.client.schemas.filters import FlowRunFilter

    begun = FlowRunFilter.model_validate({"state": {"type": {"any_": list(UNENDED)}}})
    offset = 0
    while page := client.read_flow_runs(flow_run_filter=begun, offset=offset):
        yield from page
        offset += len(page)


def worker_of(run: FlowRun) -> str:
    """Return the name of the worker that runs a flow run; empty if no worker does."""
    return str(run.labels.get(_WORKER, ""))


def end_orphans(worker: str) -> list[str]:
    """End the flow runs that an earlier start on this machine left unfinished, and return their names.

    Their processes are killed if they are still there, since nobody could cancel them. Runs of other machines are left
    alone.

    Args:
        worker: name of this machine's worker. A deployment's run without a worker was run by `ferflow up` itself.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        orphans = [run for run in unended_runs(client) if run.deployment_id and worker_of(run) in ("", worker)]
        kill_processes({str(run.id) for run in orphans})
        for run in orphans:
            crash(client, run, f"What ran it on {worker} was stopped.")
    return [run.name for run in orphans]


def flow_run_processes() -> Iterator[tuple[str, psutil.Process]]:
    """Yield the processes on this machine that belong to a flow run, each with the id of the run."""
    for process in psutil.process_iter(["environ", "status"]):
        flow_run = (process.info["environ"] or {}).get(_FLOW_RUN)
        if flow_run and process.info["status"] != psutil.STATUS_ZOMBIE:
            yield flow_run, process


def kill_processes(flow_runs: set[str]) -> None:
    """Kill the processes of flow runs on this machine."""
    for flow_run, process in flow_run_processes():
        if flow_run in flow_runs:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def crash(client: SyncPrefectClient, run: FlowRun, message: str) -> int:
    """Set a flow run and its unended task runs to Crashed, and return the number of task runs."""
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
    from prefect.states import Crashed

    crashed: State[None] = Crashed(message=message)
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run.id]}}),
        task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": list(UNENDED)}}}),
    )
    for task in tasks:
        client.set_task_run_state(task.id, crashed, force=True)
    client.set_flow_run_state(run.id, crashed, force=True)
    return len(tasks)
