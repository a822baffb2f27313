"""A tracked search of three small trials that kills its own process, as `kill -9` does, at a named moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import optuna
import torch._dynamo  # noqa: F401  which the first optimiser imports, for seconds

import fer_core.experiments.search.study as study_module
import fer_core.tracking.trial as trial_module
from fer_core.config import SearchConfig, TrackingConfig, TrainConfig
from fer_core.dataset.table import load_table
from fer_core.experiments.search.ledger import Study
from fer_core.experiments.search.study import open_study, search
from fer_core.experiments.search.trial import TrialResult
from fer_core.store import publish
from fer_core.tracking.run import Run, connect, continue_run, start_run
from fer_core.tracking.trial import send_trial, tracked_trial
from tests.executors import InProcess

SPACE = SearchConfig(trials=3, folds=2, widths=((), (8,)))
BASE = TrainConfig(epochs=2)


def tracked_search(cfg: TrackingConfig, workspace: Path, table_path: Path) -> tuple[Study, list[TrialResult], str]:
    """The study, its results, and its run: what the flow `search` does, without Prefect and without processes."""
    table = load_table(table_path)
    study = open_study(workspace, table, SPACE, BASE)
    tracking = connect(cfg, workspace)
    with continue_run(tracking, study.folder / "mlflow-run", f"search {study.name}") as run:
        job = partial(tracked_trial, cfg, workspace)
        found = search(study, table, table_path, SPACE, BASE, InProcess(), job=job, parent_run=run.id)
        for _, folder in found:
            send_trial(tracking, folder, run.id)
    return study, [result for result, _ in found], run.id


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_call(n: int, function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    """The function, whose n-th call ends the process before or after it does its work."""
    calls = 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n and not after:
            die()
        result = function(*args, **kwargs)
        if calls == n:
            die()
        return result

    return called


def _half_written(path: Path, data: bytes) -> None:
    with publish(path) as temporary:
        temporary.write_bytes(data[:10])
        die()


# moment -> (owner of a function, its name, what stands in for it)
MOMENTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "between two presets": (optuna.Study, "enqueue_trial", partial(die_at_call, 1, after=True)),
    "before the settings of a trial are drawn": (study_module, "suggest", partial(die_at_call, 3, after=False)),
    "between two settings of a drawn trial": (optuna.Trial, "suggest_float", partial(die_at_call, 3, after=True)),
    "between making a run and noting it": (mlflow.MlflowClient, "create_run", partial(die_at_call, 2, after=True)),
    "while a result is written": (trial_module, "run_trial", lambda _: _half_written_result),
    "between the result and its recording": (trial_module, "send_trial", partial(die_at_call, 2, after=False)),
    "while a trial is recorded": (Run, "log_rules", partial(die_at_call, 2, after=True)),
    "between recording a trial and telling Optuna": (study_module, "tell_result", partial(die_at_call, 2, after=False)),
    "when all trials have ended": (study_module, "tell_result", partial(die_at_call, 3, after=True)),
}


def _half_written_result(folder: Path, *_: Any) -> TrialResult:
    _half_written(folder / "result.json", b'{"number": 0, "state": "complete"')
    raise AssertionError("it is dead")


def search_killed(moment: str, cfg: TrackingConfig, workspace: Path, table_path: Path) -> None:
    """What the process does."""
    owner, name, stand_in = MOMENTS[moment]
    setattr(owner, name, stand_in(getattr(owner, name)))
    tracked_search(cfg, workspace, table_path)


def train_killed(cfg: TrackingConfig, workspace: Path) -> None:
    """A command's run and one of its children's, whose process is killed before either has ended."""
    tracking = connect(cfg, workspace)
    run = start_run(tracking, "candidate")
    start_run(tracking, "trial 000", parent=run.id)
    die()
