"""List what MLflow holds of a workspace, newest first: versions of the model, trials, runs; each with what it cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.evaluated import MEAN_RECALL
from fer_core.tracking.registry import load_out_of_fold_record

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

PAGE = 1000  # runs asked for at a time
NAN = float("nan")


@dataclass(frozen=True)
class ListedVersion:
    """A version of the registered model.

    Args:
        version: its number.
        aliases: `champion`, `previous`, `challenger` ...
        model: name of the model, as in its training settings.
        synthetic: True if any training face was drawn or rendered.
        mean_recall: out of fold; NaN without a record.
        evaluated: mean recall of the latest `ferflow evaluate`; NaN if there is none.
        ms_per_clip: CPU time of a clip, from stored faces to scores; NaN if unknown.
        seconds: wall-clock time of the run that made it; NaN if unknown.
        made: when it was registered, ISO 8601.
    """

    version: int
    aliases: tuple[str, ...]
    model: str
    synthetic: bool
    mean_recall: float
    evaluated: float
    ms_per_clip: float
    seconds: float
    made: str


@dataclass(frozen=True)
class ListedTrial:
    """A trial of a study.

    Args:
        run, study, trial: id of the run, name of the study, number of the trial.
        state: `complete`, `pruned`, `failed`, or the status of a run that has not ended.
        model, preset: model, and name of the setting that was tried first; empty without one.
        mean_recall: out of fold, of mean scores; of the first folds only for a pruned trial; NaN without one.
        seconds: wall-clock time of its fits; NaN if it has not ended.
        ms_per_clip: CPU time of a clip, from stored faces to scores; NaN if it was not measured.
    """

    run: str
    study: str
    trial: int
    state: str
    model: str
    preset: str
    mean_recall: float
    seconds: float
    ms_per_clip: float


@dataclass(frozen=True)
class ListedRun:
    """A run that is no trial: a study, a candidate, a comparison, an evaluation, a scored batch ...

    Args:
        run, name, status: id, name and status in MLflow.
        children: number of its child runs.
        seconds: wall-clock time; until now for a run that has not ended.
        started: ISO 8601.
        url: page of the run; empty without a server.
    """

    run: str
    name: str
    status: str
    children: int
    seconds: float
    started: str
    url: str


def list_versions(tracking: Tracking) -> list[ListedVersion]:
    """Return all versions. Raises TrackingError if MLflow does not answer, RegistryError for a damaged record."""
    name, client = tracking.cfg.model, tracking.client
    with mlflow_errors(f"versions of '{name}'"):
        found = client.search_model_versions(f"name='{name}'")
        aliases = client.get_registered_model(name).aliases if found else {}
    rows = []
    for version in sorted(found, key=lambda v: -int(v.version)):
        number, tags = int(version.version), version.tags
        record = load_out_of_fold_record(tracking, number)
        rows.append(
            ListedVersion(
                version=number,
                aliases=tuple(sorted(alias for alias, of in aliases.items() if int(of) == number)),
                model=tags.get("model", ""),
                synthetic=tags.get("synthetic") == "true",
                mean_recall=record.evaluation().mean_recall.value if record else NAN,
                evaluated=_number(tags.get(MEAN_RECALL)),
                ms_per_clip=record.ms_per_clip if record else NAN,
                seconds=_seconds_of(tracking, version.run_id or ""),
                made=_iso(version.creation_timestamp),
            )
        )
    return rows


def list_trials(tracking: Tracking) -> list[ListedTrial]:
    """Return all trials. Raises TrackingError if MLflow does not answer."""
    rows = []
    for run in _runs(tracking):
        tags, metrics = run.data.tags, run.data.metrics
        if not tags.get("trial", "").isdigit():
            continue
        prefix = "first_folds/" if tags.get("state") == "pruned" else ""
        rows.append(
            ListedTrial(
                run=run.info.run_id,
                study=tags.get("study", ""),
                trial=int(tags["trial"]),
                state=tags.get("state") or run.info.status.lower(),
                model=tags.get("model", ""),
                preset=tags.get("preset", ""),
                mean_recall=_mean_recall(metrics, prefix),
                seconds=metrics.get("seconds", NAN),
                ms_per_clip=metrics.get("ms_per_clip", NAN),
            )
        )
    return rows


def list_runs(tracking: Tracking) -> list[ListedRun]:
    """Return all runs without a parent. Raises TrackingError if MLflow does not answer."""
    runs = list(_runs(tracking))
    parents = [run.data.tags.get("mlflow.parentRunId", "") for run in runs]
    return [
        ListedRun(
            run=run.info.run_id,
            name=str(run.info.run_name),
            status=run.info.status.lower(),
            children=parents.count(run.info.run_id),
            seconds=_seconds(run),
            started=_iso(run.info.start_time),
            url=tracking.run_url(run.info.run_id),
        )
        for run, parent in zip(runs, parents, strict=True)
        if not parent
    ]


def _mean_recall(metrics: Mapping[str, float], prefix: str) -> float:
    """Return the mean recall by mean scores, in runs of earlier versions too; NaN without one."""
    return metrics.get(f"{prefix}mean_recall", metrics.get(f"{prefix}mean_scores/mean_recall", NAN))


def _runs(tracking: Tracking) -> list[MlflowRun]:
    """Return all runs of the experiment, newest first."""
    runs: list[MlflowRun] = []
    token = None
    with mlflow_errors("listing runs"):
        while True:
            page = tracking.client.search_runs(
                [tracking.experiment_id], max_results=PAGE, order_by=["attributes.start_time DESC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs


def _seconds_of(tracking: Tracking, run_id: str) -> float:
    if not run_id:
        return NAN
    with mlflow_errors(f"run {run_id}"):
        return _seconds(tracking.client.get_run(run_id))


def _seconds(run: MlflowRun) -> float:
    ended = run.info.end_time or time.time() * 1000
    return (ended - run.info.start_time) / 1000


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return NAN


def _iso(stamp_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(stamp_ms / 1000))
