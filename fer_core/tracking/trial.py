"""Run a trial and log its curves and metrics to a child run of the study's run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fer_core.config import Rule, TrackingConfig
from fer_core.dataset.table import load_table
from fer_core.errors import TrackingError
from fer_core.evaluation.abstention import Ranking, ranking
from fer_core.evaluation.metrics import Evaluation, clip_verdicts, evaluate
from fer_core.experiments.search.trial import (
    OBJECTIVE,
    TrialResult,
    TrialSpec,
    histories,
    out_of_fold_scores,
    read_result,
    read_spec,
    run_trial,
)
from fer_core.reports.plots import curves_figure
from fer_core.store import write_atomic
from fer_core.tracking.run import Run, Status, Tracking, connect, continue_run, find_run

log = logging.getLogger(__name__)

_RUN, _SENT = "mlflow-run", "mlflow-sent"  # the second file contains the id of the study's run
_STATUS: Mapping[str, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
PICTURED: tuple[Rule, ...] = ("majority_vote", "mean_scores")  # the thesis's two rules


def tracked_trial(cfg: TrackingConfig, workspace: Path, folder: Path) -> TrialResult:
    """Run the trial in `folder` and log it. If MLflow cannot be reached, the trial continues; see `send_trial`."""
    run = None
    try:
        run = _open(connect(cfg, workspace), folder)
    except TrackingError as exc:
        log.warning("trial is not recorded yet, it goes on: %s", exc)
    try:
        result = run_trial(folder)
    except Exception:
        if run:
            _end_failed(run)
        raise
    try:
        send_trial(connect(cfg, workspace), folder)
    except TrackingError as exc:
        log.warning("trial %d is done but not recorded yet: %s", result.number, exc)
    return result


def send_trial(tracking: Tracking, folder: Path, parent: str = "") -> bool:
    """Log a finished trial. Nothing is logged twice, and interrupted logging is completed.

    A pruned trial was evaluated on some folds only. Its metrics are named `first_folds/…` and its run ends as KILLED,
    so that they are not compared with those of complete trials.

    Args:
        parent: run of the study; empty: the run under which the trial was started.
    Returns:
        True if anything was logged.
    Raises:
        TrackingError: MLflow cannot be reached.
    """
    result = read_result(folder)
    if result is None:
        return False
    spec, sent = read_spec(folder), folder / _SENT
    parent = parent or spec.parent_run
    if sent.is_file() and sent.read_text(errors="replace") == parent:
        return False
    run = _open(tracking, folder, parent)
    at_ms = int((folder / "result.json").stat().st_mtime * 1000)
    run.log_config(result.train)
    tags = {
        "trial": str(result.number),
        "study": spec.study,
        "state": result.state,
        "preset": result.preset,
    }
    tags |= {"seed": str(spec.seed), "folds": str(spec.folds), "threads": str(result.threads), "reason": result.reason}
    tags |= {"model": result.train.model, "backbone": result.backbone}
    if result.state == "complete":
        tags["scores_digest"] = scores_digest(folder)
    run.set_tags({key: value for key, value in tags.items() if value})
    if result.state != "failed":
        past = dict(enumerate(histories(folder)))
        for fold, history in past.items():
            run.log_history(history, prefix=f"fold{fold}/")
        if any(map(len, past.values())):
            run.log_figure(curves_figure({f"fold {f}": h for f, h in past.items()}), "figures/curves.png")
        numbers = {"seconds": result.seconds, "ms_per_clip": result.ms_per_clip, "weights": float(result.n_weights)}
        if result.state == "complete":
            numbers |= _ranking(folder).metrics()
        run.log_metrics(numbers, at_ms=at_ms)
        partial = "first_folds/" if result.state == "pruned" else ""
        for rule, evaluation in out_of_fold_evaluations(folder).items():
            run.log_evaluation(evaluation, prefix=f"{partial}{rule}/", at_ms=at_ms)
            if rule in PICTURED and result.state == "complete":
                run.log_confusion(evaluation, f"confusion_{rule}", f"Out of fold, {rule.replace('_', ' ')}")
    if result.state == "pruned":
        run.rename(f"{_name(spec)}, pruned")
    run.finish(_STATUS[result.state])
    write_atomic(sent, parent.encode())
    return True


def scores_digest(folder: Path) -> str:
    """Return a digest of a complete trial's out-of-fold scores; equal digests mean equal scores."""
    return hashlib.blake2b(out_of_fold_scores(folder).tobytes(), digest_size=16).hexdigest()


def out_of_fold_evaluations(folder: Path) -> Mapping[str, Evaluation]:
    """Return rule -> evaluation of the trial's out-of-fold scores, on the clips of its finished folds."""
    spec = read_spec(folder)
    table, scores = load_table(spec.table), out_of_fold_scores(folder)
    judged = np.flatnonzero(np.isfinite(scores[table.offsets[:-1]]).all(axis=1))
    subjects = [table.subjects[c] for c in judged]
    found: dict[str, Evaluation] = {}
    for rule in spec.train.rules:
        verdicts, _ = clip_verdicts(scores, table.offsets, judged, rule)
        found[rule] = evaluate(verdicts, table.labels[judged], subjects, table.classes)
    return found


def _ranking(folder: Path) -> Ranking:
    """Return the quality of a complete trial's confidence, by the rule that compares trials."""
    table = load_table(read_spec(folder).table)
    _, scores = clip_verdicts(out_of_fold_scores(folder), table.offsets, np.arange(table.n_clips), OBJECTIVE)
    return ranking(scores, table.labels, table.subjects)


def trial_run(tracking: Tracking, folder: Path) -> str:
    """Return the id of the trial's MLflow run; empty if it has none."""
    return find_run(tracking, folder / _RUN)


def _end_failed(run: Run) -> None:
    """End the run; an error of MLflow must not hide the error of the trial."""
    try:
        run.finish("FAILED")
    except TrackingError as exc:
        log.warning("a failed trial is still RUNNING in MLflow: %s", exc)


def _open(tracking: Tracking, folder: Path, parent: str = "") -> Run:
    """Return the trial's run: the one that was started before, also by a process that died, or a new one."""
    spec = read_spec(folder)
    table = load_table(spec.table)
    run = continue_run(tracking, folder / _RUN, _name(spec), parent=parent or spec.parent_run)
    run.log_data(spec.study, table.note["fingerprint"], synthetic=table.synthetic)
    return run


def _name(spec: TrialSpec) -> str:
    return f"trial {spec.number:03d}"
