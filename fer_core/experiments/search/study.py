"""The coordinator: it alone opens Optuna's storage, asks and tells; every trial runs in a process of its own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState

from fer_core.clips.splits import grouped_folds
from fer_core.config import SearchConfig, TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.errors import StoreError, TrainingError
from fer_core.evaluation.latency import Costs
from fer_core.experiments.search.space import presets, suggest
from fer_core.experiments.search.storage import open_storage
from fer_core.experiments.search.trial import (
    TrialResult,
    TrialSpec,
    fold_values,
    read_result,
    read_spec,
    run_trial,
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
        on_trial: told every trial that ends.
    Returns:
        Results and folders by trial number.
    Raises:
        StoreError: another coordinator is at work on this study.
        DataError: too few subjects for the folds.
    """
    grouped_folds(table.subjects, table.labels, cfg.folds, cfg.seed)  # refuse before the first trial, not in each
    try:
        with FileLock(study.folder / "lock", timeout=0):
            shared = {
                "table": table_path,
                "fc": fc,
                "block": block,
                "costs": dict(costs or {}),
                "parent_run": parent_run,
            }
            return _coordinate(study, cfg, base, executor, job, shared, workers, on_trial)
    except Timeout as exc:
        raise StoreError(
            f"study {study.name} is being searched by another process; wait for it, or stop it, and run again"
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
        sampler=_sampler(cfg),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS, n_warmup_steps=0),
    )
    if not ledger.trials and cfg.presets:
        for name, params in presets(cfg, base).items():
            ledger.enqueue_trial(params, user_attrs={"preset": name})

    flying: dict[Future[TrialResult], optuna.Trial] = {}

    def launch(trial: optuna.Trial) -> None:
        folder = study.trial_folder(trial.number)
        folder.mkdir(exist_ok=True)
        spec = TrialSpec(
            number=trial.number, study=study.name, preset=str(trial.user_attrs.get("preset", "")),
            train=suggest(trial, cfg, base), folds=cfg.folds, seed=cfg.seed, **shared,
        )  # fmt: skip
        write_spec(folder, spec)
        flying[executor.submit(job, folder)] = trial

    # trials of a coordinator that died: same parameters, from their checkpoints
    running = ledger.get_trials(states=(TrialState.RUNNING,))
    orphans = [optuna.Trial(ledger, t._trial_id) for t in running]
    reported = {t.number: len(t.intermediate_values) for t in running}
    while True:
        ended = sum(t.state.is_finished() for t in ledger.get_trials(deepcopy=False))
        while len(flying) < workers and (orphans or ended + len(flying) < cfg.trials):
            launch(orphans.pop() if orphans else ledger.ask())
        if not flying:
            break
        done, _ = wait(flying, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        for future in done:
            trial = flying.pop(future)
            result = _result_of(future, trial, study)
            _report(trial, study, reported, None)
            _tell(ledger, trial, result)
            if on_trial:
                on_trial(result)
        if cfg.prune:
            for trial in flying.values():
                _report(trial, study, reported, study.trial_folder(trial.number) / "prune")
    found = [(read_result(study.trial_folder(t.number)), study.trial_folder(t.number)) for t in ledger.trials]
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
    """One setting judged outside a study, by the same folds; answered from its folder when that was done before.

    Raises:
        TrainingError: the setting diverges.
    """
    decides = {"train": train.model_dump(exclude={"device"}), "folds": cfg.folds, "seed": cfg.seed}
    folder = workspace / "settings" / cache_key(**decides, **_started_from(table, fc, block))[:12]
    result = read_result(folder)
    if result is None:
        folder.mkdir(parents=True, exist_ok=True)
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
    """What a trial learns from beside its setting; stored layers are named by their content."""
    return {"table": table.key, "layers": [path and path.stem for path in (fc, block)], "version": MODELS_VERSION}


def _sampler(cfg: SearchConfig) -> optuna.samplers.BaseSampler:
    """TPE; where models are a choice, each model's own settings are a group."""
    with warnings.catch_warnings():  # groups are marked experimental since 2020
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=cfg.seed, multivariate=True, group=len(cfg.models) > 1, constant_liar=True
        )


def _report(trial: optuna.Trial, study: Study, reported: dict[int, int], prune: Path | None) -> None:
    """Hand a trial's finished folds to Optuna; ask it to stop when they are worse than the median trial's."""
    values = fold_values(study.trial_folder(trial.number))
    for fold in range(reported.get(trial.number, 0), len(values)):
        trial.report(values[fold], fold)
        reported[trial.number] = fold + 1
        if prune is not None and trial.should_prune():
            prune.touch()


def _result_of(future: Future[TrialResult], trial: optuna.Trial, study: Study) -> TrialResult:
    """What came of a trial's process; a process that died is a failed trial, never the end of the search."""
    try:
        return future.result()
    except Exception as exc:
        log.warning("trial %d: its process ended without a result (%s: %s)", trial.number, type(exc).__name__, exc)
        folder, reason = study.trial_folder(trial.number), f"{type(exc).__name__}: {exc}"
        result = TrialResult(number=trial.number, state="failed", train=read_spec(folder).train, reason=reason)
        write_atomic(folder / "result.json", result.model_dump_json().encode())
        return result


def _tell(ledger: optuna.Study, trial: optuna.Trial, result: TrialResult) -> None:
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
