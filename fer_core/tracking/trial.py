"""Run a trial and log its curves and metrics to a child run of the study's run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np

from fer_core.config import Rule, TrackingConfig
from fer_core.dataset.table import load_table
from fer_core.errors import TrackingError
from fer_core.evaluation.abstention import Ranking, ranking
from fer_core.evaluation.metrics import Evaluation, clip_verdicts
from fer_core.experiments.search.trial import (
    OBJECTIVE,
    SINGLE,
    Job,
    TrialResult,
    TrialSpec,
    histories,
    out_of_fold_scores,
    read_result,
    read_spec,
    run_trial,
)
from fer_core.store import write_atomic
from fer_core.tracking.live import first_times, live_curves, timed
from fer_core.tracking.names import run_name, setting_title, shown_settings
from fer_core.tracking.run import Run, Status, Tracking, connect, continue_run, find_run

log = logging.getLogger(__name__)

STUDY_NOTE = RUN_NOTE = "mlflow-run"  # in the folder of a study, and of a trial: the token of its run
_SENT = "mlflow-sent"  # contains the id of the study's run
_LINK = "mlflow-link"  # contains the address of the trial's run, or its id
_STATUS: Mapping[str, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
PICTURED: tuple[Rule, ...] = ("majority_vote", "mean_scores")  # the thesis's two rules


def tracked_trial(cfg: TrackingConfig, workspace: Path, folder: Path, job: Job | None = None) -> TrialResult:
    """Run the trial in `folder` and log it. If MLflow cannot be reached, the trial continues; see `send_trial`.

    Args:
        job: runs the trial, perhaps in another process, which then needs no MLflow; None: `run_trial`, here.
    """
    tracking = run = None
    try:
        tracking = connect(cfg, workspace, tidy=False)  # the search has done that
        run = _open(tracking, folder)
    except TrackingError as exc:
        log.warning("trial is not recorded yet, it goes on: %s", exc)
    try:
        with live_curves(run, folder):
            result = (job or run_trial)(folder)
    except Exception as exc:
        if run:
            _end(run, "KILLED" if isinstance(exc, CancelledError) else "FAILED")
        raise
    try:
        send_trial(tracking or connect(cfg, workspace), folder, run=run)
    except TrackingError as exc:
        log.warning("trial %d is done but not recorded yet: %s", result.number, exc)
    return result


def send_trial(
    tracking: Tracking, folder: Path, parent: str = "", *, again: bool = False, run: Run | None = None
) -> bool:
    """Log a finished trial. Nothing is logged twice, and interrupted logging is completed.

    A pruned trial was evaluated on some folds only. Its metrics are named `first_folds/…` and its run ends as KILLED,
    so that they are not compared with those of complete trials.

    Args:
        parent: run of the study; empty: the run under which the trial was started.
        again: log it also if that was done before, because MLflow has lost the run.
        run: the trial's run, if this process has it open.
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
    if not again and sent.is_file() and sent.read_text(errors="replace") == parent:
        return False
    run = run or _open(tracking, folder, parent)
    with run.together() as batch:
        _log(batch, folder, spec, result)
    if result.state == "pruned":
        run.rename(run_name(_name(spec), "pruned"))
    run.finish(_STATUS[result.state])
    write_atomic(sent, parent.encode())
    return True


def _log(run: Run, folder: Path, spec: TrialSpec, result: TrialResult) -> None:
    at_ms = int((folder / "result.json").stat().st_mtime * 1000)
    run.log_config(result.train, shown_settings(result.train, spec.searched))
    run.set_tags({key: value for key, value in _tags(spec, result, folder).items() if value})
    run.describe(_description(spec, result, halved=_halved(folder)))
    if result.state == "failed":
        return
    times = first_times(folder)
    for fold, history in enumerate(histories(folder)):
        run.log_epochs(timed(history.epochs, fold, times), prefix=f"fold{fold}/")
    numbers = {"seconds": result.seconds, "ms_per_clip": result.ms_per_clip, "parameters": float(result.n_weights)}
    if result.state == "complete":
        numbers |= _ranking(folder).metrics()
    run.log_metrics(numbers, at_ms=at_ms)
    found = _evaluations(result)
    run.log_rules(found, "first_folds/" if result.state == "pruned" else "", at_ms=at_ms)
    if result.state == "complete":  # no other pictures: drawing them takes longer than small fits
        run.log_thumb(found[OBJECTIVE])
        log_verdicts(run, folder)


def _tags(spec: TrialSpec, result: TrialResult, folder: Path) -> dict[str, str]:
    tags = {"trial": str(result.number), "study": spec.study, "state": result.state, "preset": result.preset}
    tags |= {"seed": str(spec.seed), "folds": str(spec.folds), "threads": str(result.threads), "reason": result.reason}
    tags |= {"model": result.train.model, "backbone": result.backbone}
    if result.state == "complete":
        tags["scores_digest"] = scores_digest(folder)
    if _halved(folder):
        tags["halved"] = "batches were computed in two halves: the GPU had too little memory for a whole one"
    return tags


def _halved(folder: Path) -> bool:
    return any(history.halved for history in histories(folder))


def log_verdicts(run: Run, folder: Path) -> None:
    """Log the out-of-fold verdict of every clip, by the rule that compares trials."""
    table = load_table(read_spec(folder).table)
    verdicts, scores = clip_verdicts(out_of_fold_scores(folder), table.offsets, np.arange(table.n_clips), OBJECTIVE)
    run.log_verdicts(table.clip_ids, table.labels, verdicts, scores, table.classes)


def _description(spec: TrialSpec, result: TrialResult, *, halved: bool) -> str:
    """Return the trial's answer in Markdown, for the head of its page."""
    said = f"Trial {spec.number} of study {spec.study}" if spec.study != SINGLE else "One setting, cross-validated"
    preset = f", the preset {spec.preset}" if spec.preset else ""
    lines = [f"{said}{preset}: {setting_title(spec.train, spec.searched)}."]
    if result.state == "failed":
        lines.append(f"**It failed:** {result.reason}")
    else:
        found = Evaluation.from_json(result.evaluations[OBJECTIVE])
        clips = "on its first folds" if result.state == "pruned" else f"out of fold, {spec.folds} folds by person"
        name, recall = found.weakest
        lines.append(
            f"Mean recall **{found.mean_recall} %** {clips}; the weakest class is {name} with {recall} %. "
            f"{result.ms_per_clip:.1f} ms of CPU a clip, {result.n_weights:,} learnt parameters."
        )
    if halved:
        lines.append("The GPU had too little memory for a whole batch, so batches were computed in two halves.")
    if result.state == "pruned":
        lines.append(f"**Pruned:** {result.reason}. Do not compare its numbers with those of complete trials.")
    return "\n\n".join(lines)


def scores_digest(folder: Path) -> str:
    """Return a digest of a complete trial's out-of-fold scores; equal digests mean equal scores."""
    return hashlib.blake2b(out_of_fold_scores(folder).tobytes(), digest_size=16).hexdigest()


def _evaluations(result: TrialResult) -> Mapping[Rule, Evaluation]:
    """Return rule -> evaluation of the trial's out-of-fold scores, on the clips of its finished folds."""
    return {rule: Evaluation.from_json(result.evaluations[rule]) for rule in result.train.rules}


def _ranking(folder: Path) -> Ranking:
    """Return the quality of a complete trial's confidence, by the rule that compares trials."""
    table = load_table(read_spec(folder).table)
    _, scores = clip_verdicts(out_of_fold_scores(folder), table.offsets, np.arange(table.n_clips), OBJECTIVE)
    return ranking(scores, table.labels, table.subjects)


def trial_run(tracking: Tracking, folder: Path) -> str:
    """Return the id of the trial's MLflow run; empty if it has none."""
    return find_run(tracking, folder / RUN_NOTE)


def trial_link(folder: Path) -> dict[str, str]:
    """Return the address of the trial's MLflow run, or its id, as an attribute of the trial in Optuna."""
    link = folder / _LINK
    return {"MLflow run": link.read_text(errors="replace")} if link.is_file() else {}


def _end(run: Run, status: Status) -> None:
    """End the run; an error of MLflow must not hide the error of the trial."""
    try:
        run.finish(status)
    except TrackingError as exc:
        log.warning("a trial that has ended is still RUNNING in MLflow: %s", exc)


def _open(tracking: Tracking, folder: Path, parent: str = "") -> Run:
    """Return the trial's run: the one that was started before, also by a process that died, or a new one."""
    spec = read_spec(folder)
    table = load_table(spec.table)
    run = continue_run(
        tracking, folder / RUN_NOTE, _name(spec), parent=parent or spec.parent_run, tags={"kind": "trial"}
    )
    run.log_data(spec.study, table.note["fingerprint"], synthetic=table.synthetic)
    write_atomic(folder / _LINK, (run.url or run.id).encode())
    return run


def _name(spec: TrialSpec) -> str:
    return run_name(f"trial {spec.number:03d}", setting_title(spec.train, spec.searched))
