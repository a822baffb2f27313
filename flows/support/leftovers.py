"""What a crash left behind in MLflow, Optuna and Prefect: find it, and repair it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fer_core.config import RunConfig
from fer_core.errors import FerError
from fer_core.tracking.connection import connect
from fer_core.tracking.reconcile import Leftover, leftovers
from fer_core.tracking.running import has_died
from fer_core.tracking.unsent import Unsent
from flows.support.unended import UNENDED, crash, unended_runs, worker_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


def found_leftovers(config: RunConfig) -> Iterator[Leftover]:
    """Yield what a crash left behind; nothing is changed, and no server is started.

    Args:
        config: settings of `commands.run_flow.settled`.
    Raises:
        FerError: MLflow, Optuna's storage or Prefect cannot be asked.
    """
    yield from _recorded(config)
    if os.environ.get("PREFECT_API_URL"):
        yield from _flow_runs()
    else:
        for name in _dead_in_file(Path(config.workspace)):
            yield Leftover("Prefect", f"flow run '{name}' has not ended, but its process has died", lambda: "")


def repaired_leftovers(config: RunConfig) -> Iterator[tuple[Leftover, str]]:
    """Repair everything, and yield each leftover with what was changed. See `found_leftovers`."""
    for left in _recorded(config):
        yield left, left.repair()
    has_server = bool(os.environ.get("PREFECT_API_URL"))
    if has_server or _dead_in_file(Path(config.workspace)):
        from flows.support.temporary import temporary_server

        with nullcontext() if has_server else temporary_server():
            for left in list(_flow_runs()):
                yield left, left.repair()


def waiting_runs(config: RunConfig) -> int:
    """Return the number of runs that wait to be sent to MLflow."""
    return len(Unsent(Path(config.workspace)).runs())


def _recorded(config: RunConfig) -> Iterator[Leftover]:
    """What is left in MLflow and Optuna. Without a database of MLflow in a new workspace, none is made."""
    workspace = Path(config.workspace)
    if config.tracking.uri == "auto" and not (workspace / "mlflow.db").is_file():
        return
    tracking = connect(config.tracking.model_copy(update={"offline": False}), workspace, tidy=False)
    yield from leftovers(tracking, config.search.storage)


def _dead_in_file(workspace: Path) -> list[str]:
    """Return the names of flow runs of dead processes, as Prefect's database of the workspace has them."""
    database = workspace / "prefect" / "prefect.db"
    if not database.is_file():
        return []
    marks = ", ".join("?" * len(UNENDED))
    query = f"SELECT name, infrastructure_pid FROM flow_run WHERE state_type IN ({marks})"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute(query, UNENDED).fetchall()
        except sqlite3.OperationalError as exc:
            if "no such table" in str(exc):  # they are not made yet
                return []
            raise FerError(f"{database} cannot be read ({exc}); stop what uses it, and repeat") from exc
    return [str(name) for name, owner in rows if has_died(owner or "")]


def _flow_runs() -> Iterator[Leftover]:
    """Yield the flow runs whose process or worker has died, of the Prefect server of the environment."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        away = _workers_away(client)
        for run in unended_runs(client):
            if has_died(run.infrastructure_pid or ""):
                what = f"flow run '{run.name}' has not ended, but its process has died"
                yield Leftover("Prefect", what, partial(_crashed, run))
            elif run.deployment_id and (worker := worker_of(run)) in away:
                what = f"flow run '{run.name}' has not ended, but its worker '{worker}' does not answer any more"
                yield Leftover("Prefect", what, partial(_crashed, run))


def _workers_away(client: SyncPrefectClient) -> set[str]:
    """Return the names of the workers that have sent no sign of life for longer than they should."""
    from prefect.client.schemas.objects import WorkerStatus

    pools = client.read_work_pools()
    workers = [worker for pool in pools for worker in client.read_workers_for_work_pool(pool.name)]
    away = {worker.name for worker in workers if worker.status is WorkerStatus.OFFLINE}
    return away - {worker.name for worker in workers if worker.status is WorkerStatus.ONLINE}


def _crashed(run: FlowRun) -> str:
    """Set a flow run and its unended task runs to Crashed."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        tasks = crash(client, run, "Its process was killed; ended by 'ferflow doctor --repair'.")
    return f"'{run.name}' is Crashed" + (f", with {tasks} tasks" if tasks else "")
