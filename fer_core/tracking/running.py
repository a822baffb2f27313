"""Record the process of each run, and end runs whose process has died."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

PROCESS = "ferflow.process"  # tag
_CLOCK_S = 2  # seconds by which the reported start time of a process may vary


def this_process() -> str:
    """Return host, process id and start in seconds after the machine's, which identify this process."""
    process = psutil.Process()
    return f"{socket.gethostname()} {process.pid} {_started(process):.0f}"


def has_died(process: str) -> bool:
    """True if a process of this host has ended; False for processes of other hosts, which cannot be checked."""
    host, _, rest = process.partition(" ")
    pid, _, started = rest.partition(" ")
    if host != socket.gethostname() or not (pid.isdecimal() and started.isdecimal()):
        return False
    try:
        return abs(_started(psutil.Process(int(pid))) - int(started)) > _CLOCK_S
    except psutil.NoSuchProcess:
        return True


def _started(process: psutil.Process) -> float:
    """Return when a process started, in seconds after the machine did: a clock that is set does not change it."""
    return float(process.create_time() - psutil.boot_time())


def end_dead_runs(client: MlflowClient, experiment_id: str) -> int:
    """Set RUNNING runs to KILLED if their process on this host has died. Returns their number."""
    from mlflow.exceptions import MlflowException

    ended = 0
    for run in dead_runs(client, experiment_id):
        try:
            client.set_terminated(run.info.run_id, status="KILLED")
        except MlflowException as exc:
            log.warning("run %s is RUNNING, its process has died, and MLflow refuses: %s", run.info.run_id, exc)
        else:
            log.info("run '%s' (%s) was left by a killed process and is ended", run.info.run_name, run.info.run_id)
            ended += 1
    return ended


def dead_runs(client: MlflowClient, experiment_id: str) -> list[Run]:
    """Return the RUNNING runs whose process on this host has died."""
    running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'")
    return [run for run in running if has_died(run.data.tags.get(PROCESS, ""))]
