"""Serve the flows as Prefect deployments, each with a form for its settings, started in the UI or by the API.

`ferflow up` runs `python -m flows.serve` in the workspace. Prefect searches the working directory first for the module
of an entry point, so a user's own `flows/` folder there would be imported instead of this package.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_core.config import WatchConfig
from flows.forms.catalog import FORMS
from flows.support.pool import AT_ONCE, offer, withdraw
from flows.support.scratch import clear, use_own_temporary_folder
from flows.support.unended import end_orphans

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner import Runner
    from prefect.utilities.callables import ParameterSchema

log = logging.getLogger(__name__)

SERVED = tuple(FORMS)
# Fields of a deployment that users set in the Prefect UI: sent when the deployment is created, and never again.
SET_IN_UI = ("schedules", "concurrency_limit", "concurrency_options", "paused", "tags", "parameters")
WATCHED = "watched-folder"  # the schedule that `ferflow up --set watch.folder=DIR` makes; others are left alone


def _schema(name: str) -> ParameterSchema:
    """Return the schema of a form with its key `form`, by which the server knows it again."""
    from prefect.utilities.callables import ParameterSchema

    class FormSchema(ParameterSchema):
        form: str

    return FormSchema.model_validate(FORMS[name].schema())


def deployments(names: Sequence[str] = SERVED) -> list[RunnerDeployment]:
    """Return the deployment of each form."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import EntrypointType

    from flows.forms import served

    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made = []
    for name in names:
        run = getattr(served, served.attribute(name))
        deployment = run.to_deployment(
            name,
            description=FORMS[name].about,
            tags=["ferflow"],
            entrypoint_type=EntrypointType.MODULE_PATH,
            concurrency_limit=one if name == "watch" else None,
        )
        # The schema that Prefect makes of a signature has neither bounds nor titles.
        deployment._parameter_openapi_schema = _schema(name)
        made.append(deployment)
    return made


def serve(
    ready: Path | None = None,
    watch: WatchConfig | None = None,
    names: Sequence[str] = SERVED,
    limit: int = AT_ONCE,
    pool: str = "",
) -> None:
    """Register the deployments, and execute their runs until SIGTERM.

    Args:
        ready: file to write once the deployments can be run.
        watch: the folder that is to be looked into regularly; None or without a folder: none.
        names: the deployments.
        limit: maximum number of flow runs at a time on this machine; the others wait.
        pool: work pool from which workers of other machines take runs too; empty: only this process executes runs.
    """
    from prefect.runner import Runner

    class CancellingRunner(Runner):
        """Stops the runner on SIGTERM; Prefect's own handler never awaits `astop`, so its runs stay Running (3.8.8)."""

        def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon_threadsafe(lambda: stopping.append(loop.create_task(self.astop())))

    machine, scratch = socket.gethostname(), use_own_temporary_folder(f"serve {os.environ['FERFLOW_WORKSPACE']}")
    stopping: list[asyncio.Task[None]] = []  # keeps a reference to the task, which the loop does not
    runner = CancellingRunner(name="ferflow", limit=limit, pause_on_shutdown=False)
    if pool:
        offer(pool, Path(os.environ["FERFLOW_WORKSPACE"]))
    else:
        withdraw()
    for deployment in deployments(names):
        register(runner, deployment, pool)
    schedule_watch(watch or WatchConfig())
    if pool:
        from flows.worker import work

        work(pool, machine, scratch, limit, ready)
        return
    end_orphans(machine)
    clear(scratch)
    if ready:
        ready.write_text("", encoding="utf-8")
    asyncio.run(runner.start())


def register(runner: Runner, deployment: RunnerDeployment, pool: str = "") -> None:
    """Create a deployment, or update it from the code; settings made in the UI are kept.

    Parameters set in the UI that no longer fit the flow's form are reset, with a warning.

    Args:
        runner: executes the runs of the deployment, if there is no pool.
        deployment: the deployment.
        pool: work pool of its runs; empty: none.
    """
    from prefect.exceptions import PrefectHTTPStatusError

    deployment.work_pool_name = pool or None  # marks it as set, so that an earlier pool is left
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


def schedule_watch(watch: WatchConfig) -> None:
    """Make Prefect run the deployment `watch` regularly, or end the schedule of an earlier start.

    A run that is due while one is under way is cancelled. Schedules that users made are left alone.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import IntervalSchedule

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("watch/watch").id
        for schedule in client.read_deployment_schedules(deployment):
            if schedule.slug == WATCHED:
                client.delete_deployment_schedule(deployment, schedule.id)
        if watch.folder:
            wanted = DeploymentScheduleCreate(
                schedule=IntervalSchedule(interval=timedelta(seconds=watch.every_s)),
                parameters={"watch_folder": watch.folder, "watch_settle_s": watch.settle_s},
                slug=WATCHED,
            )
            client.create_deployment_schedules(deployment, [wanted])


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m flows.serve [--ready FILE] [--watch JSON] [--pool NAME]`."""
    parser = argparse.ArgumentParser(description="Serve ferflow's flows to a Prefect server.")
    parser.add_argument("--ready", type=Path, help="file to write once the deployments can be run")
    parser.add_argument("--watch", type=WatchConfig.model_validate_json, help="settings `watch` as JSON")
    parser.add_argument("--pool", default="", help="work pool that workers of other machines share")
    given = parser.parse_args(argv)
    serve(given.ready, given.watch, pool=given.pool)


if __name__ == "__main__":
    main()
