"""The coordinator: it alone opens Optuna's storage, asks and tells; every trial runs in a process of its own."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from fer_core.clips.splits import grouped_folds
from fer_core.config import SearchConfig, TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.errors import FerError, StoreError, TrainingError
from fer_core.evaluation.latency import Costs
from fer_core.experiments.search.sampler import TrialSampler
from fer_core.experiments.search.space import presets, suggest
from fer_core.experiments.search.storage import open_storage
from fer_core.experiments.search.trial import (
    TrialResult,
    TrialSpec,
    fold_values,
    read_spec,
    run_trial,
    whole_result,
    write_spec,
)
from fer_core.models.base import MODELS_VERSION, Fits, FitSplit, Fitted
from fer_core.models.registry import model_of
from fer_core.runtime import n_cores, resolve_device
from fer_core.store import cache_key, write_atomic

log = logging.getLogger(__name__)

Job = Callable[[Path], TrialResult]
_POLL_S = 0.2
_STARTUP_TRIALS = 5  # complete ones before any is pruned
_DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
DEATHS = 3  # of a trial's process without a result, from which on the trial has failed


@dataclass(frozen=True)
class Study:
    """A study's identity and place.

    Args:
        name: of the study, its content's hash appended: another table or space is another study.
        folder: holds Optuna's SQLite file, the lock, and a folder per trial.
        storage: Optuna storage URL.
    """

    name: str
    folder: Path
    storage: str

    def trial_folder(self, number: int) -> Path:
        return self.folder / f"trial-{number:04d}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from searching this study; one that holds it may hold it again.

        Raises:
            StoreError: another process is at work on it.
        """
        lock = FileLock(self.folder / "lock", timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except Timeout as exc:
            raise StoreError(
                f"study {self.name} is being searched by another process; wait for it, or stop it, and run again"
            ) from exc
        try:
            yield
        finally:
            lock.release()


def open_study(
    workspace: Path,
    table: FeatureTable,
    cfg: SearchConfig,
    base: TrainConfig,
    *,
    fc: Path | None = None,
    block: Path | None = None,
) -> Study:
    """The study of this table, space, base setting and stored layers to start from; the same again when they are the
    same again."""
    decides = cfg.model_dump(exclude={"trials", "workers", "storage", "name"})
    bases = [base.with_model(m).model_dump(exclude={"device"}) for m in cfg.models or (base.model,)]
    key = cache_key(space=decides, bases=bases, **_started_from(table, fc, block))
    name = f"{cfg.name}-{key[:8]}"
    folder = workspace / "studies" / name
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{folder / 'optuna.db'}" if cfg.storage == "auto" else cfg.storage
    return Study(name, folder, storage)


def search(
    study: Study,
    table: FeatureTable,
    table_path: Path,
    cfg: SearchConfig,
    base: TrainConfig,
    executor: Executor,
    *,
    job: Job = run_trial,
    fc: Path | None = None,
    block: Path | None = None,
    costs: Costs | None = None,
    parent_run: str = "",
    workers: int = 1,
    on_trial: Callable[[TrialResult], None] | None = None,
) -> list[tuple[TrialResult, Path]]:
    """Run trials until `cfg.trials` have ended, those of an earlier, interrupted search included.

    Args:
        executor: `concurrent.futures`-shaped; `trial_processes` makes one, Dask's `get_executor()` is another.
        job: what a child runs in a trial's folder; a tracker wraps `run_trial`.
        fc: stored FC layers of the backbone to start from.
        block: its stored last block; needed where `last_block` may be tried.
        costs: of making what models read, for their milliseconds a clip.
        workers: trials in flight.
        on_trial: called with every trial that ends.
    Returns:
        Results and folders by trial number.
    Raises:
        StoreError: another coordinator is at work on this study, or the disk or the study's database refuses.
        DataError: too few subjects for the folds.
    """
    grouped_folds(table.subjects, table.labels, cfg.folds, cfg.seed)  # refuse before the first trial, not in each
    shared = {"table": table_path, "fc": fc, "block": block, "costs": dict(costs or {}), "parent_run": parent_run}
    with study.held():
        try:
            return _coordinate(study, cfg, base, executor, job, shared, workers, on_trial)
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as exc:
            reason = str(exc.__cause__ or exc).splitlines()[0]
            raise StoreError(
                f"study {study.name}: its database refuses ({reason}); mend that, free some space perhaps, and run the "
                "same search again, which goes on"
            ) from exc


def _coordinate(
    study: Study,
    cfg: SearchConfig,
    base: TrainConfig,
    executor: Executor,
    job: Job,
    shared: dict[str, Any],
    workers: int,
    on_trial: Callable[[TrialResult], None] | None,
) -> list[tuple[TrialResult, Path]]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ledger = optuna.create_study(
        study_name=study.name,
        storage=open_storage(study.storage),
        load_if_exists=True,
        direction="maximize",
        sampler=TrialSampler(cfg.seed, group=len(cfg.models) > 1),
    )
    if cfg.presets:
        enqueued = {t.user_attrs.get("preset") for t in ledger.get_trials(deepcopy=False)}
        for name, params in presets(cfg, base).items():
            if name not in enqueued:
                ledger.enqueue_trial(params, user_attrs={"preset": name})

    flying: dict[Future[TrialResult], optuna.Trial] = {}
    deaths = Counter[int]()

    def launch(trial: optuna.Trial) -> None:
        spec = TrialSpec(
            number=trial.number, study=study.name, preset=str(trial.user_attrs.get("preset", "")),
            train=suggest(trial, cfg, base), folds=cfg.folds, seed=cfg.seed,
            best=_best(ledger, study, trial.number) if cfg.prune else None, **shared,
        )  # fmt: skip
        folder = study.trial_folder(trial.number)
        write_spec(folder, spec)
        if (result := whole_result(folder)) is not None:
            settle(trial, result)
        else:
            flying[executor.submit(job, folder)] = trial

    def settle(trial: optuna.Trial, result: TrialResult) -> None:
        _tell(ledger, trial, result, study)
        if on_trial:
            on_trial(result)

    # Trials of a coordinator that died, and those whose result has been lost: same parameters, from their checkpoints.
    unfinished = [optuna.Trial(ledger, t._trial_id) for t in ledger.get_trials() if _unfinished(t, study)]
    while True:
        ended = sum(t.state.is_finished() for t in ledger.get_trials(deepcopy=False))
        while len(flying) < workers and (unfinished or ended + len(flying) < cfg.trials):
            launch(unfinished.pop(0) if unfinished else ledger.ask())
            ended = sum(t.state.is_finished() for t in ledger.get_trials(deepcopy=False))
        if not flying:
            break
        done, _ = wait(flying, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            trial = flying.pop(future)
            result = _result_of(future, trial.number, study, deaths)
            if result is None:
                launch(trial)
            else:
                settle(trial, result)
    found = [(whole_result(study.trial_folder(t.number)), study.trial_folder(t.number)) for t in ledger.trials]
    return [(result, folder) for result, folder in found if result is not None]


def cross_validate(
    workspace: Path,
    table: FeatureTable,
    table_path: Path,
    cfg: SearchConfig,
    train: TrainConfig,
    executor: Executor,
    *,
    job: Job = run_trial,
    fc: Path | None = None,
    block: Path | None = None,
    costs: Costs | None = None,
    parent_run: str = "",
) -> tuple[TrialResult, Path]:
    """Cross-validate one setting outside a study, by the same folds; a result in its folder is read back.

    Raises:
        TrainingError: the setting diverges.
    """
    decides = {"train": train.model_dump(exclude={"device"}), "folds": cfg.folds, "seed": cfg.seed}
    folder = workspace / "settings" / cache_key(**decides, **_started_from(table, fc, block))[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        result = whole_result(folder)
        if result is None:
            spec = TrialSpec(
                number=0, study="single setting", train=train, table=table_path, fc=fc, block=block,
                costs=dict(costs or {}), folds=cfg.folds, seed=cfg.seed, parent_run=parent_run,
            )  # fmt: skip
            write_spec(folder, spec)
            result = executor.submit(job, folder).result()
    if result.state != "complete":
        raise TrainingError(f"the setting cannot be trained: {result.reason}")
    return result, folder


def _started_from(table: FeatureTable, fc: Path | None, block: Path | None) -> dict[str, Any]:
    """Everything beside its setting that a trial starts from; stored layers are named by their content."""
    return {"table": table.key, "layers": [path and path.stem for path in (fc, block)], "version": MODELS_VERSION}


def _unfinished(trial: optuna.trial.FrozenTrial, study: Study) -> bool:
    """True if the trial was started, and has no readable result."""
    if trial.state is TrialState.WAITING:
        return False
    return trial.state is TrialState.RUNNING or whole_result(study.trial_folder(trial.number)) is None


def _best(ledger: optuna.Study, study: Study, before: int) -> Path | None:
    """Folder of the best complete trial numbered below `before`; None while too few are for any to be pruned."""
    complete = [t for t in ledger.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.number < before]
    if len(complete) < _STARTUP_TRIALS:
        return None
    best_first = sorted(complete, key=lambda t: (-(t.value or 0.0), t.number))
    folders = (study.trial_folder(t.number) for t in best_first)
    return next((folder for folder in folders if whole_result(folder)), None)


def _result_of(future: Future[TrialResult], number: int, study: Study, deaths: Counter[int]) -> TrialResult | None:
    """The result of a trial's process; None when it died without one and is to be started again.

    A result that was written stands, whatever became of the process after. What the trial itself refuses, or too many
    deaths, fail the trial alone.

    Raises:
        StoreError: the disk refuses; the trial stays unfinished.
    """
    folder = study.trial_folder(number)
    try:
        return future.result()
    except CancelledError:
        raise
    except Exception as exc:
        if isinstance(exc, StoreError) or getattr(exc, "errno", None) in _DISK_REFUSES:
            raise StoreError(f"trial {number} stopped: {exc}; then run the same search again, which goes on") from exc
        if (written := whole_result(folder)) is not None:
            return written
        reason = f"{type(exc).__name__}: {exc}"
        if not isinstance(exc, FerError):
            deaths[number] += 1
            if deaths[number] < DEATHS:
                log.warning("trial %d: its process ended without a result (%s); it is started again", number, reason)
                return None
            reason = f"its process ended {DEATHS} times without a result ({reason}); if memory ran out, lower "
            reason += "search.workers"
        log.warning("trial %d has failed: %s", number, reason)
        result = TrialResult(number=number, state="failed", train=read_spec(folder).train, reason=reason)
        write_atomic(folder / "result.json", result.model_dump_json().encode())
        return result


def _tell(ledger: optuna.Study, trial: optuna.Trial, result: TrialResult, study: Study) -> None:
    frozen = ledger.get_trials()[trial.number]
    if frozen.state.is_finished():
        return
    for fold, value in enumerate(fold_values(study.trial_folder(trial.number))):
        if fold not in frozen.intermediate_values:
            trial.report(value, fold)
    if result.state == "complete":
        ledger.tell(trial, result.value)
    else:
        ledger.tell(trial, state=TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL)


def refit(table: FeatureTable, trial: TrialResult, fc: Path | None = None, block: Path | None = None) -> Fitted:
    """The trial's setting on all clips of the table, by the median of what its folds chose: steps, a cost, a share.

    Args:
        fc, block: stored layers of the backbone that a head starts from.
    """
    chosen = {name: float(np.median([fold[name] for fold in trial.chosen])) for name in trial.chosen[0]}
    every, none = np.arange(table.n_clips), np.empty(0, dtype=np.int64)
    return Fits(table).fitted(
        model_of(trial.train, fc=fc, block=block), FitSplit(every, none, trial.train.seed, chosen)
    )


def default_workers(cfg: SearchConfig, train: TrainConfig) -> int:
    """Trials at a time: as set, else one on a GPU, else one per core."""
    if cfg.workers:
        return cfg.workers
    return 1 if resolve_device(train.device).type != "cpu" else n_cores()
