"""Send MLflow the runs and models that wait in the workspace.

One process sends at a time. Everything can be sent again without being stored twice: a run is found by its token, a
value is kept once for its time and step, a model by the run that made it. So an interrupted sync starts again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fer_core.errors import FerError, StoreError, TrackingAway, TrackingError
from fer_core.models.bundle import read_bundle
from fer_core.tracking.connection import Tracking, connect, mlflow_errors
from fer_core.tracking.registry import register_now
from fer_core.tracking.run import run_of_token
from fer_core.tracking.running import PROCESS, has_died
from fer_core.tracking.sending import came_back, send
from fer_core.tracking.unsent import FOLDER, Request, Unsent, WaitingRun

log = logging.getLogger(__name__)

_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Sent:
    """What a sync did.

    Args:
        runs: ids in MLflow of the runs that are complete there now.
        versions: versions that were registered.
        writing: number of runs that a living process still writes, or whose parent waits.
        refused: id of a run that waits on -> why MLflow refused it.
    """

    runs: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    writing: int = 0
    refused: Mapping[str, str] | None = None


def send_unsent(tracking: Tracking, progress: Callable[[int, int], None] | None = None) -> Sent:
    """Send all runs that wait in the workspace, in the order in which they began to wait.

    Args:
        tracking: connection to the server that receives them.
        progress: called with the number of runs done, and of all.
    Raises:
        TrackingAway: MLflow stopped answering; what was not sent waits on.
        StoreError: another process is sending.
    """
    waiting = tracking.unsent.runs()
    if not waiting:
        return Sent()
    lock = FileLock(tracking.workspace / FOLDER / ".sync.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as exc:
        raise StoreError("another process is sending the runs of this workspace; wait for it") from exc
    try:
        sent = _send_all(tracking, waiting, progress)
    finally:
        lock.release()
    came_back(tracking)
    return sent


def _send_all(tracking: Tracking, waiting: list[WaitingRun], progress: Callable[[int, int], None] | None) -> Sent:
    runs: list[str] = []
    versions: list[int] = []
    refused: dict[str, str] = {}
    experiments = {tracking.cfg.experiment: tracking}
    left, before = waiting, len(waiting) + 1
    while 0 < len(left) < before:  # a run whose parent MLflow does not have yet is sent in the next round
        before, current, left = len(left), left, []
        for run in current:
            with run.locked():
                requests = run.requests()
                if _is_written(requests) or _is_orphan(requests, tracking.unsent):
                    left.append(run)
                    continue
                try:
                    run_id, made = _send_run(_of(experiments, tracking, requests), run, requests)
                except TrackingAway:
                    raise
                except FerError as exc:
                    refused[run.id] = str(exc)
                    log.warning("run %s is not sent: %s", run.id, exc)
                    continue
                run.remove()
                runs.append(run_id)
                versions += made
            if progress:
                progress(len(runs), len(waiting))
    return Sent(tuple(runs), tuple(versions), len(left), refused)


def _of(experiments: dict[str, Tracking], tracking: Tracking, requests: list[Request]) -> Tracking:
    """Return the connection to the experiment in which the run was started."""
    name = next((r["run"]["experiment"] for r in requests if "run" in r), tracking.cfg.experiment)
    if name not in experiments:
        cfg = tracking.cfg.model_copy(update={"experiment": name})
        experiments[name] = replace(connect(cfg, tracking.workspace), cfg=cfg)
    return experiments[name]


def _is_written(requests: list[Request]) -> bool:
    """True if the run has not ended and the process that writes it lives."""
    owner, ended = "", False
    for request in requests:
        owner = request.get("owner", owner)
        tags = request.get("tags") or request.get("run", {}).get("tags", {})
        owner = tags.get(PROCESS, owner)
        ended = (ended or "status" in request) and "running" not in request
    return not ended and not has_died(owner)


def _is_orphan(requests: list[Request], unsent: Unsent) -> bool:
    """True if MLflow does not have the run's parent yet."""
    waiting = [unsent.of(parent) for parent in _parents(requests)]
    return any("run" in request for parent in waiting if parent.exists() for request in parent.requests())


def _parents(requests: list[Request]) -> list[str]:
    tags = [request.get("tags") or request.get("run", {}).get("tags", {}) for request in requests]
    return [found[_PARENT] for found in tags if _PARENT in found]


def _send_run(tracking: Tracking, run: WaitingRun, requests: list[Request]) -> tuple[str, list[int]]:
    """Send the requests of a run: its id in MLflow, and the versions that it registered."""
    client, artifacts = tracking.client, run.artifacts()
    versions = []
    with mlflow_errors(f"sending run {run.id}"):
        real = {parent: run_of_token(tracking, parent) or parent for parent in _parents(requests)}
        run_id = run.id
        for request in requests[1:]:
            if "run" in request:
                run_id = _made(tracking, run.id, request["run"], real)
        if artifacts:
            client.log_artifacts(run_id, str(artifacts))
        for request in requests[1:]:
            if "register" in request:
                versions.append(_register(tracking, run_id, request["register"]))
            elif "run" not in request and "artifact" not in request:
                tags = _renamed(request["tags"], real) if "tags" in request else None
                send(client, tracking.experiment_id, run_id, {"tags": tags} if tags else request)
        last = [kind for request in requests for kind in ("status", "running") if kind in request]
        if not last or last[-1] == "running":  # its process was killed
            client.set_terminated(run_id, status="KILLED")
    return run_id, versions


def _made(tracking: Tracking, token: str, new: Mapping[str, Any], real: Mapping[str, str]) -> str:
    """Return the id of the run with a token, which is made if MLflow does not have it."""
    found = run_of_token(tracking, token)
    tags = _renamed(new["tags"], real)
    if not found:
        made = tracking.client.create_run(
            tracking.experiment_id, start_time=new["at_ms"], run_name=new["name"], tags=tags
        )
        return str(made.info.run_id)
    send(tracking.client, tracking.experiment_id, found, {"tags": tags})
    return found


def _renamed(tags: Mapping[str, str], real: Mapping[str, str]) -> dict[str, str]:
    """Return tags in which the parent is named by its id in MLflow."""
    return {**tags, **({_PARENT: real[tags[_PARENT]]} if _PARENT in tags else {})}


def _register(tracking: Tracking, run_id: str, model: Mapping[str, Any]) -> int:
    folder = (tracking.workspace / Path(model["folder"])).resolve()
    if tracking.cfg.model != model["model"]:
        cfg = tracking.cfg.model_copy(update={"model": model["model"]})
        tracking = replace(tracking, cfg=cfg)
    if not folder.is_dir():
        raise TrackingError(f"the model in {folder} is gone; train it again")
    return register_now(tracking, read_bundle(folder, model["hashes"]), folder, run_id)
