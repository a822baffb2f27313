"""The coordinator of a search: only it opens Optuna's storage; every trial runs in its own process."""

from __future__ import annotations

import errno
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from fer_core.clips.splits import grouped_folds
from fer_core.config import BackboneConfig, SearchConfig, TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.errors import FerError, StoreError, TrainingError
from fer_core.evaluation.latency import LatencyOf
from fer_core.experiments.search.ledger import FINGERPRINT, NO_ATTRIBUTES, Study, open_ledger, recover, tell_result
from fer_core.experiments.search.processes import CALLS
from fer_core.experiments.search.space import suggest, suggest_backbone
from fer_core.experiments.search.trial import (
    SINGLE,
    Job,
    TrialResult,
    TrialSpec,
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

_NONE: Mapping[str, OnBackbone] = {}
_POLL_S = 0.2
# how long a search runs, and how one of its trials is selected
_DECIDES_NO_TRIAL = {"trials", "minutes", "finalists", "repeats", "max_ms", "workers", "storage", "name"}
_STARTUP_TRIALS = 5  # number of complete trials before any trial is pruned
_DISK_REFUSES = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
DEATHS = 3  # a trial fails when its process has ended this many times without a result


@dataclass(frozen=True)
class OnBackbone:
    """What trials with one of several searched backbones read, in place of a search's own table, layers and latency.

    Args:
        backbone: settings of the backbone.
        table: features of the same clips.
        table_path: file of the table.
        fc, block: files of the backbone's FC layers and last block; see `search`.
        latency: latency of the models' inputs; see `measure_latency`.
    """

    backbone: BackboneConfig
    table: FeatureTable
    table_path: Path
    fc: Path | None = None
    block: Path | None = None
    latency: LatencyOf = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of a `TrialSpec`."""
        found = {"backbone": self.backbone, "table": self.table_path, "fc": self.fc, "block": self.block}
        return {**found, "latency": dict(self.latency)}


def open_study(
    workspace: Path,
    table: FeatureTable,
    cfg: SearchConfig,
    base: TrainConfig,
    *,
    fc: Path | None = None,
    block: Path | None = None,
    backbones: Mapping[str, OnBackbone] = _NONE,
) -> Study:
    """Return the study for a table, a search space, base settings and starting layers; see `search`.

    The same arguments give the same study, so an interrupted search continues.
    """
    decides = cfg.model_dump(exclude=_DECIDES_NO_TRIAL)
    bases = [base.with_model(m).model_dump(exclude={"device"}) for m in cfg.models or (base.model,)]
    others = {label: _started_from(on.table, on.fc, on.block) for label, on in backbones.items()}
    key = cache_key(space=decides, bases=bases, backbones=others, **_started_from(table, fc, block))
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
    latency: LatencyOf | None = None,
    parent_run: str = "",
    workers: int = 1,
    on_trial: Callable[[TrialResult], None] | None = None,
    backbones: Mapping[str, OnBackbone] = _NONE,
    attributes: Mapping[str, str] = NO_ATTRIBUTES,
    attributes_of: Callable[[Path], Mapping[str, str]] | None = None,
) -> list[tuple[TrialResult, Path]]:
    """Run trials until `cfg.trials` have ended, with the trials of an earlier, interrupted search.

    After `cfg.minutes` no trial is started; the same search again goes on with those that are left.

    Args:
        table_path: file of the table, which the trials read.
        executor: an executor of `concurrent.futures`, such as `trial_processes` or Dask's `get_executor()`.
        job: function that runs the trial in a folder; tracking wraps `run_trial`.
        fc: file of the backbone's FC layers from which a head starts.
        block: file of its last block; required if `last_block` may be tried.
        latency: latency of the models' inputs; see `measure_latency`.
        workers: number of trials at a time.
        on_trial: called with the result of every trial that ends.
        backbones: label -> what trials with that backbone read, for every label in `cfg.backbones`.
        attributes: attributes of the study in Optuna, which its dashboard shows.
        attributes_of: returns those of the trial in a folder, when it has ended.
    Returns:
        Results and folders, in the order of trial numbers.
    Raises:
        StoreError: another process is searching this study, or the disk or the study's database cannot be written.
        DataError: too few subjects for the folds.
    """
    grouped_folds(table.subjects, table.labels, cfg.folds, cfg.seed)  # raises before the first trial starts
    shared = {"table": table_path, "fc": fc, "block": block, "latency": dict(latency or {}), "parent_run": parent_run}
    with study.held():
        try:
            ledger = open_ledger(study, cfg, base, {FINGERPRINT: table.note["fingerprint"], **attributes})
            return _coordinate(
                ledger, study, cfg, base, executor, job, shared, workers, on_trial, backbones, attributes_of
            )
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as exc:
            reason = str(exc.__cause__ or exc).splitlines()[0]
            raise StoreError(
                f"study {study.name}: its database cannot be used ({reason}); repair this, for example free disk "
                "space, and run the same search again; it continues"
            ) from exc
        except BaseException:  # stopped by a person, a signal or an error: no trial may stay RUNNING
            with suppress(StoreError, SQLAlchemyError, optuna.exceptions.StorageInternalError):
                recover(study)
            raise


def _coordinate(
    ledger: optuna.Study,
    study: Study,
    cfg: SearchConfig,
    base: TrainConfig,
    executor: Executor,
    job: Job,
    shared: dict[str, Any],
    workers: int,
    on_trial: Callable[[TrialResult], None] | None,
    backbones: Mapping[str, OnBackbone],
    attributes_of: Callable[[Path], Mapping[str, str]] | None,
) -> list[tuple[TrialResult, Path]]:
    flying: dict[Future[TrialResult], optuna.Trial] = {}
    deaths = Counter[int]()
    ended = sum(t.state.is_finished() for t in ledger.get_trials(deepcopy=False))

    def launch(trial: optuna.Trial) -> None:
        train = suggest(trial, cfg, base)
        label = suggest_backbone(trial, cfg, train)
        spec = TrialSpec(
            number=trial.number, study=study.name, preset=str(trial.user_attrs.get("preset", "")),
            searched=dict(trial.params), train=train, folds=cfg.folds, seed=cfg.seed,
            best=_best(ledger, study, trial.number) if cfg.prune else None,
            **(shared | (backbones[label].fields if label else {})),
        )  # fmt: skip
        folder = study.trial_folder(trial.number)
        write_spec(folder, spec)
        if (result := whole_result(folder)) is not None:
            settle(trial, result)
        else:
            flying[executor.submit(job, folder)] = trial

    def settle(trial: optuna.Trial, result: TrialResult) -> None:
        nonlocal ended
        attributes = attributes_of(study.trial_folder(trial.number)) if attributes_of else NO_ATTRIBUTES
        ended += tell_result(ledger, trial, result, study, attributes)
        if on_trial:
            on_trial(result)

    # Trials without a result, because a process died or a file was lost, resume with the same parameters.
    unfinished = [optuna.Trial(ledger, t._trial_id) for t in ledger.get_trials() if _unfinished(t, study)]
    until = time.monotonic() + 60 * cfg.minutes if cfg.minutes else math.inf
    while True:
        while len(flying) < workers and (unfinished or ended + len(flying) < cfg.trials) and time.monotonic() < until:
            launch(unfinished.pop(0) if unfinished else ledger.ask())
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
    if ended < cfg.trials:
        log.warning(
            "stopped after %g minutes with %d of %d trials; the same search again goes on, search.minutes=none has no "
            "limit", cfg.minutes, ended, cfg.trials,
        )  # fmt: skip
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
    latency: LatencyOf | None = None,
    parent_run: str = "",
) -> tuple[TrialResult, Path]:
    """Cross-validate one setting outside a study, with the same folds. A stored result is returned.

    Args:
        table, table_path, executor, job, fc, block, latency: see `search`.
    Raises:
        TrainingError: the fit diverged.
    """
    decides = {"train": train.model_dump(exclude={"device"}), "folds": cfg.folds, "seed": cfg.seed}
    folder = workspace / "settings" / cache_key(**decides, **_started_from(table, fc, block))[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        result = whole_result(folder)
        if result is None:
            spec = TrialSpec(
                number=0, study=SINGLE, train=train, table=table_path, fc=fc, block=block,
                latency=dict(latency or {}), folds=cfg.folds, seed=cfg.seed, parent_run=parent_run,
            )  # fmt: skip
            write_spec(folder, spec)
            result = executor.submit(job, folder).result()
    if result.state != "complete":
        raise TrainingError(f"these settings cannot be trained: {result.reason}")
    return result, folder


def _started_from(table: FeatureTable, fc: Path | None, block: Path | None) -> dict[str, Any]:
    """Return what a trial depends on besides its settings; the names of layer files contain a hash of their content."""
    return {"table": table.key, "layers": [path and path.stem for path in (fc, block)], "version": MODELS_VERSION}


def _unfinished(trial: optuna.trial.FrozenTrial, study: Study) -> bool:
    """True if the trial was started but has no readable result."""
    if trial.state is TrialState.WAITING:
        return False
    return trial.state is TrialState.RUNNING or whole_result(study.trial_folder(trial.number)) is None


def _best(ledger: optuna.Study, study: Study, before: int) -> Path | None:
    """Return the folder of the best complete trial with a number below `before`; None if there are too few to prune."""
    complete = [t for t in ledger.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if t.number < before]
    if len(complete) < _STARTUP_TRIALS:
        return None
    best_first = sorted(complete, key=lambda t: (-(t.value or 0.0), t.number))
    folders = (study.trial_folder(t.number) for t in best_first)
    return next((folder for folder in folders if whole_result(folder)), None)


def _result_of(future: Future[TrialResult], number: int, study: Study, deaths: Counter[int]) -> TrialResult | None:
    """Return the result of a trial's process; None if it died without a result and must be started again.

    A written result is valid even if the process died afterwards. An error of the trial, or too many deaths of its
    process, fail only this trial.

    Raises:
        StoreError: the disk cannot be written; the trial stays unfinished.
    """
    folder = study.trial_folder(number)
    try:
        return future.result()
    except CancelledError:
        raise
    except Exception as exc:
        if isinstance(exc, StoreError) or getattr(exc, "errno", None) in _DISK_REFUSES:
            raise StoreError(
                f"trial {number} stopped: {exc}; repair this and run the same search again; it continues"
            ) from exc
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
        spec = read_spec(folder)
        result = TrialResult(
            number=number, state="failed", train=spec.train, backbone=spec.backbone_label, reason=reason
        )
        write_atomic(folder / "result.json", result.model_dump_json().encode())
        return result


def refit(table: FeatureTable, trial: TrialResult, fc: Path | None = None, block: Path | None = None) -> Fitted:
    """Refit the trial's settings on all clips of the table, with the medians of the values that its folds selected.

    Args:
        fc, block: files of the backbone's layers from which a head starts.
    """
    chosen = {name: float(np.median([fold[name] for fold in trial.selected])) for name in trial.selected[0]}
    every, none = np.arange(table.n_clips), np.empty(0, dtype=np.int64)
    return Fits(table).fitted(
        model_of(trial.train, fc=fc, block=block), FitSplit(every, none, trial.train.seed, chosen)
    )


def default_workers(cfg: SearchConfig, train: TrainConfig) -> int:
    """Return the number of trials at a time: `cfg.workers` if set; else 1 on a GPU, or the number of cores on a CPU."""
    if cfg.workers:
        return cfg.workers
    return 1 if resolve_device(train.device).type != "cpu" else n_cores()


def trials_per_process(train: TrainConfig) -> int:
    """Return how many trials a process runs; one on a GPU, whose memory is freed, and whose errors end, with it."""
    return CALLS if resolve_device(train.device).type == "cpu" else 1
