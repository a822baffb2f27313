"""A study: its name, folder and lock, and its trials in Optuna, also those that a killed search left RUNNING."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState

from fer_core.config import SearchConfig, TrainConfig
from fer_core.errors import StoreError
from fer_core.experiments.search.sampler import TrialSampler
from fer_core.experiments.search.space import is_conditional, presets
from fer_core.experiments.search.storage import open_storage
from fer_core.experiments.search.trial import TrialResult, fold_values, whole_result
from fer_core.store import write_atomic

NO_ATTRIBUTES: Mapping[str, str] = {}
METRIC = "mean recall"  # the objective's name in Optuna's dashboard
FINGERPRINT = "data fingerprint"  # attribute of a study


@dataclass(frozen=True)
class Study:
    """Name and location of a study.

    Args:
        name: name with a hash of everything that changes the results: another table or space is another study.
        folder: folder with Optuna's SQLite file, the lock, and a folder for each trial.
        storage: URL of Optuna's storage.
    """

    name: str
    folder: Path
    storage: str

    def trial_folder(self, number: int) -> Path:
        return self.folder / f"trial-{number:04d}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the study against other processes. The same process may lock it again.

        Raises:
            StoreError: another process is searching this study.
        """
        lock, holder = FileLock(self.folder / "lock", timeout=0, is_singleton=True), self.folder / "holder"
        try:
            lock.acquire()
        except Timeout as exc:
            who = holder.read_text(errors="replace")[:200] if holder.is_file() else "another process"
            raise StoreError(
                f"study {self.name} is being searched by {who}; wait for it, or stop it, and run again"
            ) from exc
        try:
            since = time.strftime("%Y-%m-%d %H:%M")
            write_atomic(holder, f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
            yield
        finally:
            lock.release()


def open_ledger(study: Study, cfg: SearchConfig, base: TrainConfig, attributes: Mapping[str, str]) -> optuna.Study:
    """Open the study in Optuna, with its presets enqueued and its attributes set."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ledger = optuna.create_study(
        study_name=study.name,
        storage=open_storage(study.storage),
        load_if_exists=True,
        direction="maximize",
        sampler=TrialSampler(cfg.seed, group=is_conditional(cfg)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        ledger.set_metric_names([METRIC])
    for key, value in attributes.items():
        if ledger.user_attrs.get(key) != value:
            ledger.set_user_attr(key, value)
    if cfg.presets:
        enqueued = {t.user_attrs.get("preset") for t in ledger.get_trials(deepcopy=False)}
        for name, params in presets(cfg, base).items():
            if name not in enqueued:
                ledger.enqueue_trial(params, user_attrs={"preset": name})
    return ledger


def tell_result(
    ledger: optuna.Study,
    trial: optuna.Trial,
    result: TrialResult,
    study: Study,
    attributes: Mapping[str, str] = NO_ATTRIBUTES,
) -> bool:
    """End a trial in Optuna with its result, its attributes and the value after each fold; one that has ended stays.

    Returns:
        False if it had ended before.
    """
    frozen = ledger.get_trials(deepcopy=False)[trial.number]
    if frozen.state.is_finished():
        return False
    for key, text in attributes.items():
        trial.set_user_attr(key, text)
    for fold, value in enumerate(fold_values(study.trial_folder(trial.number))):
        if fold not in frozen.intermediate_values:
            trial.report(value, fold)
    if result.state == "complete":
        ledger.tell(trial, result.value)
    else:
        ledger.tell(trial, state=TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL)
    return True


def studies_of(workspace: Path, storage: str) -> Iterator[Study]:
    """Yield the studies of a workspace.

    Args:
        storage: `search.storage`; `auto`: SQLite in the study's folder.
    """
    for folder in sorted((workspace / "studies").glob("*/")):
        own = folder / "optuna.db"
        if storage != "auto" or own.is_file():
            yield Study(folder.name, folder, f"sqlite:///{own}" if storage == "auto" else storage)


def left_running(study: Study) -> list[int]:
    """Return the numbers of trials that are RUNNING in Optuna; [] while a process searches the study."""
    try:
        with study.held():
            ledger = existing_study(study)
            trials = ledger.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if ledger else []
            return [trial.number for trial in trials]
    except StoreError:  # it is being searched
        return []


def recover(study: Study) -> dict[int, str]:
    """End RUNNING trials that have a result, and make the others wait: the same search takes them up again.

    A waiting trial keeps its number, parameters and folder, and so its checkpoint.

    Returns:
        Number of each trial -> its new state in Optuna.
    Raises:
        StoreError: a process searches the study.
    """
    changed: dict[int, str] = {}
    with study.held():
        ledger = existing_study(study)
        if ledger is None:
            return changed
        for frozen in ledger.get_trials(states=(TrialState.RUNNING,)):
            result = whole_result(study.trial_folder(frozen.number))
            if result:
                tell_result(ledger, optuna.Trial(ledger, frozen._trial_id), result, study)
            else:
                ledger._storage.set_trial_state_values(frozen._trial_id, TrialState.WAITING)
            changed[frozen.number] = ledger.get_trials(deepcopy=False)[frozen.number].state.name
    return changed


def existing_study(study: Study) -> optuna.Study | None:
    """Open a study in Optuna; None if its storage does not have it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.load_study(study_name=study.name, storage=open_storage(study.storage))
    except KeyError:  # it is in another storage
        return None
