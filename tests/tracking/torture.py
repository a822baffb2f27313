"""A tracked search of twelve enqueued trials in processes of their own, as a program that a test kills."""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import optuna

from fer_core.config import SearchConfig, TrackingConfig, TrainConfig, widths_name
from fer_core.dataset.table import load_table
from fer_core.experiments.search.ledger import Study
from fer_core.experiments.search.processes import called_in, trial_processes
from fer_core.experiments.search.storage import open_storage
from fer_core.experiments.search.study import open_study, search
from fer_core.experiments.search.trial import TrialResult, run_trial
from fer_core.tracking.connection import connect
from fer_core.tracking.run import continue_run
from fer_core.tracking.trial import send_trial, tracked_trial
from fer_core.training import checkpoint

TRIALS, FOLDS, EPOCHS = 12, 3, 15
BASE = TrainConfig(epochs=EPOCHS, patience=EPOCHS)


def space_of(storage: str = "auto") -> SearchConfig:
    return SearchConfig(
        trials=TRIALS, folds=FOLDS, widths=((), (16,)), presets=False, prune=False, storage=storage, workers=2
    )


def opened(workspace: Path, table_path: Path, storage: str = "auto") -> Study:
    """The study, with its trials enqueued: what is searched then does not depend on the order in which they end."""
    study = open_study(workspace, load_table(table_path), space_of(storage), BASE)
    ledger = optuna.create_study(
        study_name=study.name, storage=open_storage(study.storage), direction="maximize", load_if_exists=True
    )
    names = [widths_name(widths) for widths in space_of().widths]
    for number in range(len(ledger.trials), TRIALS):
        drawn = {"lr": 0.0008 * (1 + number), "batch_size": 20, "widths": names[number % 2]}
        ledger.enqueue_trial({**drawn, "class_weights": "none"})
    return study


def every_epoch(folder: Path) -> TrialResult:
    """A trial that saves its state after every epoch."""
    checkpoint.EVERY_S = 0.0
    return run_trial(folder)


def main(workspace: Path, table_path: Path, uri: str, storage: str) -> None:
    """What the flow `search` does, without Prefect; prints when trials may run, and when all is done."""
    logging.basicConfig(level=logging.WARNING)
    cfg = TrackingConfig(uri=uri, experiment="torture")
    study = opened(workspace, table_path, storage)
    tracking = connect(cfg, workspace)
    note, tags = study.folder / "mlflow-run", {"kind": "search"}
    with study.held(), continue_run(tracking, note, f"search {study.name}", tags=tags) as run:
        print("searching", flush=True)
        with trial_processes(2) as processes, ThreadPoolExecutor(2) as threads:
            try:
                job = partial(tracked_trial, cfg, workspace, job=called_in(processes, every_epoch))
                found = search(
                    study, load_table(table_path), table_path, space_of(storage), BASE, threads,
                    job=job, parent_run=run.id, workers=2,
                )  # fmt: skip
            except BaseException:
                processes.shutdown(cancel_futures=True)  # otherwise the threads wait until their trials end
                raise
        for _, folder in found:
            send_trial(tracking, folder, run.id)
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4])
