"""Take flow runs from a work pool, each in a process of its own, until SIGTERM.

`ferflow worker` runs `python -m flows.worker` on another machine than the servers; on theirs, `ferflow up --pool NAME`
takes runs from the pool in the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.orchestration import get_client
from prefect.states import Cancelled, Cancelling
from prefect.utilities.processutils import command_to_string
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.support.pool import AT_ONCE
from flows.support.scratch import clear, use_own_temporary_folder
from flows.support.unended import crash, end_orphans, flow_run_processes, kill_processes, unended_runs, worker_of

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

log = logging.getLogger(__name__)

CANCEL_S = 4.0  # for the runs to end when the worker is stopped; then their processes are killed


class InWorkspace(ProcessJobConfiguration):
    """Runs a flow by this Python in the workspace, as `ferflow up` does without a pool."""

    def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
        self.command = command_to_string([sys.executable, "-m", "prefect.engine"])
        self.working_dir = Path(os.environ["FERFLOW_WORKSPACE"])
        super().prepare_for_flow_run(*args, **kwargs)


def work(pool: str, name: str, scratch: Path, limit: int = AT_ONCE, ready: Path | None = None) -> None:
    """End what an earlier worker of this name left, then take flow runs until SIGTERM.

    Args:
        pool: work pool of Prefect; it is there already.
        name: name of the worker, one for each machine.
        scratch: temporary folder of the runs, which is emptied.
        limit: maximum number of flow runs at a time; the others wait, or are taken by other workers.
        ready: file to write once runs are taken: a line for each flow run that an earlier start left.
    """
    orphans = end_orphans(name)
    for orphan in orphans:
        log.warning("flow run '%s' was left unfinished by an earlier start, and is Crashed now", orphan)
    clear(scratch)
    asyncio.run(_work(pool, name, limit, ready, orphans))


async def _work(pool: str, name: str, limit: int, ready: Path | None, orphans: list[str]) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)

    def started(message: str) -> None:
        log.info("%s", message)
        if ready:
            ready.write_text("".join(f"{orphan}\n" for orphan in orphans), encoding="utf-8")

    worker = ProcessWorker(work_pool_name=pool, name=name, limit=limit, create_pool_if_not_found=False)
    worker.job_configuration = InWorkspace
    serving = asyncio.create_task(worker.start(printer=started))
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.is_set():
        stop.cancel()
        return await serving  # raises what ended it
    try:
        await asyncio.to_thread(_cancel_runs, name)
    except httpx.HTTPError as exc:
        log.warning("the server is away (%s): the runs of this worker are ended at its next start", exc)
    serving.cancel()
    await asyncio.wait({serving}, timeout=1)
    return None


def _cancel_runs(name: str) -> None:
    """Cancel the runs of a worker; those that have not ended in time are killed and set to Crashed."""
    deadline = time.monotonic() + CANCEL_S
    with get_client(sync_client=True) as client:

        def left() -> dict[str, FlowRun]:
            return {str(run.id): run for run in unended_runs(client) if worker_of(run) == name}

        asked: set[str] = set()
        while (runs := left()) and time.monotonic() < deadline:
            alive = {flow_run for flow_run, _ in flow_run_processes()}
            for id_, run in runs.items():
                if id_ not in asked:
                    client.set_flow_run_state(run.id, Cancelling(message="The worker is shutting down."))
                    asked.add(id_)
                elif id_ not in alive:  # Prefect looks every three seconds only
                    client.set_flow_run_state(run.id, Cancelled(message="The worker was stopped."), force=True)
            time.sleep(0.2)
        kill_processes(set(runs))
        for run in runs.values():
            crash(client, run, "The worker was stopped.")


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m flows.worker --pool NAME --name NAME [--limit N] [--ready FILE]`."""
    parser = argparse.ArgumentParser(description="Take flow runs from a work pool.")
    parser.add_argument("--pool", required=True, help="the work pool")
    parser.add_argument("--name", required=True, help="name of this worker")
    parser.add_argument("--limit", type=int, default=AT_ONCE, help="flow runs at a time")
    parser.add_argument("--ready", type=Path, help="file to write once flow runs are taken")
    given = parser.parse_args(argv)
    scratch = use_own_temporary_folder(f"{given.name} {os.environ['FERFLOW_WORKSPACE']}")
    work(given.pool, given.name, scratch, given.limit, given.ready)


if __name__ == "__main__":
    main()
