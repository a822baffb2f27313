"""Flow `train`: cross-validate, refit, calibrate and test one model, and register it as a candidate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.datasets import may_leave
from fer_core.config import ModelName, RunConfig
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.table import load_table
from fer_core.errors import ConfigError
from fer_core.evaluation.metrics import Evaluation
from fer_core.experiments.candidate import CLIP_RULE, Candidate, make_candidate
from fer_core.experiments.search.processes import trial_processes
from fer_core.experiments.search.study import cross_validate
from fer_core.experiments.search.trial import TrialResult, complete_result, out_of_fold_scores, read_spec
from fer_core.model_names import FC_HEAD_MODELS
from fer_core.models.base import read_of
from fer_core.models.registry import model_of, requirements_of
from fer_core.reports.plots import confusion_figure, curves_figure, figure_png
from fer_core.tracking.confidence import Confidence, log_confidence
from fer_core.tracking.drift_reference import log_reference
from fer_core.tracking.names import run_name, setting_title
from fer_core.tracking.registry import register, version_title
from fer_core.tracking.run import Run, connect, start_run
from fer_core.tracking.trial import PICTURED, log_verdicts, tracked_trial
from fer_core.workspace import Workspace
from flows.preprocess import apex_sheet
from flows.support.artifacts import show_picture
from flows.support.environment import settle
from flows.support.prepare import (
    TrainingData,
    ledgers_of,
    prepare,
)
from flows.support.summary import name_run, show_summary


@flow(name="train", persist_result=False)
def train_flow(
    trial: str = "",
    model: ModelName | None = None,
    config: RunConfig = RunConfig(),  # noqa: B008  frozen; fills the form
) -> dict[str, Any]:
    """Train a candidate and register it. The flow `promote` can make it champion.

    Args:
        trial: folder of a complete trial of a study whose setting is to be used; empty: `config.train`.
        model: another model than that of the setting, by its own recipe but for what is given.
        config: all settings; `train` is the setting, unless a trial is named.
    """
    if trial and model:
        raise ConfigError("a trial has its model; name a trial or a model, not both")
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    if trial:
        train, by = complete_result(Path(trial)).train, read_spec(Path(trial))
        folds = config.search.model_copy(update={"folds": by.folds, "seed": by.seed})
        backbone = by.backbone or config.backbone
        config = config.model_copy(update={"train": train, "search": folds, "backbone": backbone})
    if model:
        config = config.model_copy(update={"train": config.train.with_model(model)})
    name_run(f"{config.train.model} on {config.backbone.label}" + (f", setting of {Path(trial).name}" if trial else ""))
    data = prepare(config, requirements_of(config.train), folded=not trial)
    table, prepared = data.table, data.dataset
    name = run_name("candidate", setting_title(config.train))
    with start_run(tracking, name, tags={"kind": "candidate", "model": config.train.model}) as run:
        result, folder = _cross_validated(config, workspace, data, trial, run)
        config = config.model_copy(update={"train": result.train})
        run.log_config(config)
        run.log_data("clips", prepared.fingerprint, synthetic=table.synthetic, source=config.manifest)
        candidate = _refit(data, result, folder, config, workspace)
        _record(run, candidate, prepared, config)
        log_verdicts(run, folder)
        confidence = log_confidence(run, table, out_of_fold_scores(folder), CLIP_RULE)
        log_reference(run, table, out_of_fold_scores(folder), ledgers_of(prepared, table.clip_ids, workspace))
        version = register(tracking, candidate.bundle, candidate.folder, run.id, candidate.record)
        markdown = _summary(candidate, confidence, version, config)
        run.log_text(markdown, "candidate.md")
        run.describe(markdown)
    for rule in (r for r in PICTURED if r in candidate.out_of_fold.evaluations):
        figure = confusion_figure(candidate.out_of_fold.evaluations[rule], f"Out of fold, {rule.replace('_', ' ')}")
        show_picture(f"confusion-{rule}", figure_png(figure), f"Confusion matrix by {rule.replace('_', ' ')}")
    show_summary(markdown, workspace.root, run_url=run.url, version_url=tracking.version_url(version))
    evaluation = candidate.out_of_fold.evaluations[CLIP_RULE]
    if warning := evaluation.chance_warning():
        get_run_logger().warning("%s", warning)
    return {
        "version": version,
        "run": run.id,
        "url": run.url,
        "model": str(candidate.folder),
        "mean_recall": _triple(evaluation),
        "warning": warning,
        "test": dict(candidate.test.evaluations) if candidate.test else None,
        "openings": candidate.test.openings if candidate.test else 0,
    }


@task(task_run_name="refit and test", cache_policy=NO_CACHE, persist_result=False)
def _refit(data: TrainingData, result: TrialResult, folder: Path, config: RunConfig, workspace: Workspace) -> Candidate:
    clips = data.dataset
    return make_candidate(
        data.table, result, folder, data.backbone, clips.manifest, clips.usable, config, workspace, clips.course
    )


def _cross_validated(
    config: RunConfig, workspace: Workspace, data: TrainingData, trial: str, run: Run
) -> tuple[TrialResult, Path]:
    """Return the cross-validation of the settings: that of the named trial, or a new one."""
    if trial:
        model, judged_on = model_of(config.train), load_table(read_spec(Path(trial)).table)
        if read_of(judged_on, model) != read_of(data.table, model):
            raise ConfigError(f"{trial} was judged on other clips, faces or features; search again on these")
        return complete_result(Path(trial)), Path(trial)
    with trial_processes(1) as executor:
        return cross_validate(
            workspace.root, data.table, data.table_path, config.search, config.train, executor,
            job=partial(tracked_trial, config.tracking, workspace.root), fc=data.fc, block=data.block,
            latency=data.latency(config), parent_run=run.id,
        )  # fmt: skip


def _record(run: Run, candidate: Candidate, prepared: Dataset, config: RunConfig) -> None:
    """Log the candidate's curves, metrics and figures to MLflow."""
    judged = candidate.out_of_fold
    run.set_tags({"weights_sha256": candidate.bundle.record.weights_sha256, "threads": str(candidate.fitted.threads)})
    if candidate.fitted.history:
        run.log_history(candidate.fitted.history)
        curves = curves_figure({"refit": candidate.fitted.history}, "Refit on all training subjects")
        run.log_figure(curves, "figures/curves.png")
    run.log_rules(judged.evaluations)
    for rule in (rule for rule in judged.evaluations if rule in PICTURED):
        run.log_confusion(judged.evaluations[rule], rule, f"Out of fold, {rule.replace('_', ' ')}")
    learnt = {"parameters": float(candidate.fitted.classifier.n_parameters), "seconds": candidate.fitted.seconds}
    run.log_metrics({**learnt, "ms_per_clip": candidate.record.ms_per_clip})
    may_go = all(may_leave(clip) for clip in prepared.manifest.clips)
    run.log_faces(apex_sheet(config, prepared), "figures/faces.png", redistribute=may_go)
    if candidate.test:
        run.log_json(dict(candidate.test.evaluations), "test.json")
        tested = candidate.test.evaluations
        run.log_rules({rule: Evaluation.from_json(tested[rule]) for rule in judged.evaluations}, "test/")
        run.set_tags({"test_openings": str(candidate.test.openings)})


def _triple(evaluation: Evaluation) -> list[float]:
    interval = evaluation.mean_recall
    return [interval.value, interval.low, interval.high]


def _format_model(candidate: Candidate, config: RunConfig) -> str:
    """Return one or two sentences about how the model was fitted."""
    fitted, train = candidate.fitted, config.train
    chosen = ", ".join(f"{name.replace('.', ' ')} {value:.4g}" for name, value in fitted.selected.items())
    text = f"Model {train.model}, {fitted.classifier.n_parameters:,} learnt numbers; by the folds: {chosen}."
    if train.model in FC_HEAD_MODELS:
        start = "from ImageNet weights" if fitted.pretrained else "from random weights"
        text += f" FC layers started {start}."
    return text + (f" Rule {candidate.bundle.facts.rule}." if train.model == "head" else " It judges a clip whole.")


def _confidence_text(confidence: Confidence) -> str:
    """Return the quality of the calibrated confidence in one line."""
    numbers = confidence.metrics
    auroc, risk = numbers["abstention/auroc"], numbers["abstention/mean_risk"]
    ranking = "no clip is wrong" if np.isnan(auroc) else f"AUROC of right against wrong clips {auroc:.3f} (0.5: a coin)"
    return (
        f"Confidence, out of fold and calibrated on other people: {ranking}; risk area {100 * risk:.1f} % (answered "
        "clips that are wrong, averaged over all coverages); calibration error "
        f"{100 * numbers['calibration/error']:.1f} %."
    )


def _summary(candidate: Candidate, confidence: Confidence, version: int, config: RunConfig) -> str:
    """Return a summary of the candidate in Markdown."""
    facts = candidate.bundle.facts
    lines = [f"## Candidate: {version_title(version)}", ""]
    if facts.synthetic:
        lines += ["**Trained on synthetic faces: these numbers say nothing about people.**", ""]
    if warning := candidate.out_of_fold.evaluations[CLIP_RULE].chance_warning():
        lines += [f"**{warning}**", ""]
    lines += ["| rule | out of fold, mean recall % | test, mean recall % |", "| --- | --- | --- |"]
    for rule, evaluation in candidate.out_of_fold.evaluations.items():
        tested = "no test set"
        if candidate.test:
            value, low, high = (100 * v for v in candidate.test.evaluations[rule]["mean_recall"])
            tested = f"{value:.1f} [{low:.1f}, {high:.1f}]"
        lines.append(f"| {rule.replace('_', ' ')} | {evaluation.mean_recall} | {tested} |")
    if candidate.test:
        lines += ["", f"This was look {candidate.test.number} of {candidate.test.openings} at this test set so far."]
    lines += ["", _confidence_text(confidence), "", _format_model(candidate, config)]
    if facts.budget:
        lines += ["", f"Frame budget: scoring reads {facts.budget.words}."]
    if facts.engines:
        lines += ["", f"Engines that scoring may use: torch; {'; '.join(record.words for record in facts.engines)}."]
    return "\n".join([*lines, "", "Next: flow `promote` puts it through the gate.", ""])
