"""Write to a run: send the request to MLflow at once, or keep it in the workspace where MLflow does not answer."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_core.errors import TrackingAway
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.unsent import FOLDER, Request
from fer_core.tracking.views import trials_view

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

TOKEN = "ferflow.token"  # tag: names a run before MLflow has given it an id
_AWAY_S = 60.0  # after a failure, MLflow is not asked again for this long
_away_until: dict[str, float] = {}  # URI -> monotonic time


def write(tracking: Tracking, run_id: str, request: Request, content: bytes = b"") -> None:
    """Send a request for a run to MLflow. If MLflow does not answer, keep it, and all later requests for this run.

    Args:
        run_id: the run's id, or its token.
        request: see `send`.
        content: bytes of the artifact.
    Raises:
        TrackingError: MLflow refuses the request.
        StoreError: MLflow does not answer, and the workspace cannot be written.
    """
    if not must_wait(tracking, run_id):
        try:
            with mlflow_errors(f"run {run_id}"):
                send(tracking.client, tracking.experiment_id, run_id, request, content)
            return
        except TrackingAway as exc:
            went_away(tracking, exc)
    tracking.unsent.of(run_id).add(request, content)


def must_wait(tracking: Tracking, run_id: str = "") -> bool:
    """Return True if requests are kept: offline, after MLflow did not answer, or behind older requests of the run."""
    if tracking.offline or time.monotonic() < _away_until.get(tracking.uri, 0.0):
        return True
    return bool(run_id) and tracking.unsent.of(run_id).exists()


def went_away(tracking: Tracking, exc: TrackingAway) -> None:
    """Note that MLflow does not answer. Without a server or PostgreSQL, the error is raised: the workspace is damaged.

    Raises:
        TrackingAway: `exc`, if runs are recorded in the workspace itself.
    """
    if not tracking.is_remote:
        raise exc
    if tracking.uri not in _away_until:
        log.warning(
            "MLflow at %s does not answer; work goes on, what it misses is kept in %s, and 'ferflow sync' sends it",
            tracking.shown_uri,
            tracking.workspace / FOLDER,
        )
        log.debug("%s", exc)
    _away_until[tracking.uri] = time.monotonic() + _AWAY_S


def came_back(tracking: Tracking) -> None:
    """Note that MLflow answers again."""
    _away_until.pop(tracking.uri, None)


def send(client: MlflowClient, experiment_id: str, run_id: str, request: Request, content: bytes = b"") -> None:
    """Send one request. Sending it again changes nothing.

    The kinds of requests: `metrics` [[name, value, time, step], …], `tags`, `batch` (both of them), `settings`
    (parameters, which cannot change: another value becomes a tag), `dataset`, `artifact` (its path), `name`, `view`
    [name, searched parameters], `running`, and `status` with the time at which the run ended.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

    [(kind, value)] = ((key, value) for key, value in request.items() if key != "at_ms")
    if kind == "metrics":
        client.log_batch(run_id, metrics=[Metric(*row) for row in value])
    elif kind == "tags":
        client.log_batch(run_id, tags=_tags(value))
    elif kind == "batch":
        metrics = [Metric(*row) for row in value["metrics"]]
        client.log_batch(run_id, metrics=metrics, tags=_tags(value["tags"]))
    elif kind == "settings":
        _send_settings(client, run_id, value)
    elif kind == "dataset":
        dataset = Dataset(name=value["name"], digest=value["digest"], source_type="local", source=value["source"])
        entry = DatasetInput(dataset, tags=[InputTag("mlflow.data.context", value["context"])])
        client.log_inputs(run_id, datasets=[entry])
    elif kind == "artifact":
        path = Path(value)
        with tempfile.TemporaryDirectory(prefix="ferflow-artifact-") as folder:
            (Path(folder) / path.name).write_bytes(content)
            inside = "" if path.parent == Path() else path.parent.as_posix()
            client.log_artifact(run_id, f"{folder}/{path.name}", inside or None)
    elif kind == "name":
        client.update_run(run_id, name=value)
    elif kind == "view":
        _, tag, state = trials_view(run_id, *value)
        client.set_experiment_tag(experiment_id, tag, state)
    elif kind == "running":
        client.update_run(run_id, status="RUNNING")
    elif kind == "status":
        client.set_terminated(run_id, status=value, end_time=request["at_ms"])
    else:
        raise ValueError(f"no request is of the kind {kind!r}")


def _send_settings(client: MlflowClient, run_id: str, settings: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    before = client.get_run(run_id).data
    params = [Param(key, value) for key, value in settings.items() if key not in before.params]
    client.log_batch(run_id, params=params)
    changed = {k: v for k, v in settings.items() if before.params.get(k, v) != v or k in before.tags}
    client.log_batch(run_id, tags=_tags(changed))


def _tags(tags: Mapping[str, str]) -> list[Any]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in tags.items()]
