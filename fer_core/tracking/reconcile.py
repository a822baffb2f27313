"""Find what a crash left behind in MLflow and Optuna, and repair it (`ferflow doctor --repair`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fer_core.experiments.search.ledger import Study, left_running, recover, studies_of
from fer_core.experiments.search.trial import read_result
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.run import Run, find_run, read_token
from fer_core.tracking.running import dead_runs, end_dead_runs
from fer_core.tracking.sending import TOKEN
from fer_core.tracking.trial import RUN_NOTE, STUDY_NOTE, send_trial

ORPHAN = "ferflow.orphan"  # tag of a trial's run whose trial is gone


@dataclass(frozen=True)
class Leftover:
    """One thing that a crash left behind.

    Args:
        where: the system that holds it: MLflow, Optuna or Prefect.
        what: what is wrong, in one sentence.
        repair: repairs it, and returns what it changed.
    """

    where: str
    what: str
    repair: Callable[[], str]


def leftovers(tracking: Tracking, storage: str) -> Iterator[Leftover]:
    """Yield what is left behind in MLflow's experiment and in the studies of the workspace.

    Args:
        tracking: connection that has ended no run of a dead process itself.
        storage: `search.storage`.
    Raises:
        TrackingError: MLflow does not answer.
        StoreError: the storage of Optuna cannot be used.
    """
    client, experiment = tracking.client, tracking.experiment_id
    with mlflow_errors("looking for runs of dead processes"):
        dead = dead_runs(client, experiment)
    if dead:
        names = ", ".join(f"'{run.info.run_name}'" for run in dead[:5]) + (" …" if len(dead) > 5 else "")
        yield Leftover(
            "MLflow",
            f"{_runs(len(dead))} RUNNING, but the process has died: {names}",
            lambda: f"{_runs(end_dead_runs(client, experiment))} ended as KILLED",
        )
    for study in studies_of(tracking.workspace, storage):
        if running := left_running(study):
            listed = ", ".join(map(str, running))
            yield Leftover(
                "Optuna",
                f"study {study.name}: RUNNING without a process: trial {listed}",
                partial(_recovered, study),
            )
        if parent := find_run(tracking, study.folder / STUDY_NOTE):
            yield from _of_study(tracking, study, parent)


def _recovered(study: Study) -> str:
    changed = recover(study)
    told = ", ".join(f"trial {number} is {state}" for number, state in changed.items())
    waits = " (the same search goes on with it)" if "WAITING" in changed.values() else ""
    return f"study {study.name}: {told}{waits}"


def _of_study(tracking: Tracking, study: Study, parent: str) -> Iterator[Leftover]:
    """Trials of a study without a run, and runs under the study's run without a trial."""
    folders = sorted(study.folder.glob("trial-*/"))
    with mlflow_errors(f"runs of study {study.name}"):
        children = tracking.client.search_runs(
            [tracking.experiment_id], f"tags.mlflow.parentRunId = '{parent}' AND tags.kind = 'trial'", max_results=50000
        )
    tokens = {run.data.tags.get(TOKEN, ""): run for run in children}
    own = {read_token(folder / RUN_NOTE): folder for folder in folders}
    for token, folder in own.items():
        if token not in tokens and read_result(folder) and not tracking.unsent.of(token).exists():
            yield Leftover(
                "MLflow",
                f"study {study.name}: {folder.name} has a result but no run",
                partial(_sent, tracking, folder, parent),
            )
    for token, run in tokens.items():
        if token not in own and ORPHAN not in run.data.tags:
            yield Leftover(
                "MLflow",
                f"study {study.name}: run '{run.info.run_name}' is of a trial that this workspace does not have",
                partial(_marked, tracking, run.info.run_id, run.info.run_name),
            )


def _sent(tracking: Tracking, folder: Path, parent: str) -> str:
    send_trial(tracking, folder, parent, again=True)
    return f"{folder.name} of {folder.parent.name} is recorded"


def _marked(tracking: Tracking, run_id: str, name: str) -> str:
    Run(tracking, run_id).set_tags({ORPHAN: "true"})
    return f"run '{name}' is kept, with the tag {ORPHAN}"


def _runs(n: int) -> str:
    return f"{n} run is" if n == 1 else f"{n} runs are"
