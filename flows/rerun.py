"""Flow `rerun`: repeat a recorded run with its settings and data, and compare the results."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.cells import markdown_text
from fer_core.config import RunConfig
from fer_core.errors import DataError
from fer_core.experiments.candidate import CLIP_RULE, evaluate_out_of_fold, refit_model
from fer_core.experiments.search.processes import trial_processes
from fer_core.experiments.search.study import cross_validate
from fer_core.experiments.search.trial import TrialResult, out_of_fold_scores, run_trial
from fer_core.models.registry import requirements_of
from fer_core.thesis.holdout_fit import fit_holdout, holdout_split
from fer_core.thesis.implementation import model_of
from fer_core.tracking.confidence import log_confidence
from fer_core.tracking.recorded import Comparison, Recorded, compare_runs, read_recorded
from fer_core.tracking.registry import registered_version, version_to_promote
from fer_core.tracking.run import Run, connect, start_run
from fer_core.tracking.trial import tracked_trial, trial_run
from fer_core.workspace import Workspace
from flows.support.environment import settle
from flows.support.prepare import (
    TrainingData,
    backbone_of,
    prepare_faces,
    prepare_table,
)
from flows.support.summary import name_run, show_summary


@flow(name="rerun", persist_result=False)
def rerun_flow(run_id: str = "", manifest: str = "", config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008
    """Repeat a trial, candidate or thesis implementation and compare all metrics; the test set is not used.

    Args:
        run_id: of the MLflow run; empty: that of the version that was registered last.
        manifest: where its clips are now; empty: where they were.
        config: gives workspace, limits and tracking; all else is the run's own.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    run_id = run_id or registered_version(tracking, version_to_promote(tracking)).run_id or ""
    recorded = read_recorded(tracking, run_id)
    name_run(recorded.name)
    here = {"workspace": config.workspace, "limits": config.limits, "tracking": config.tracking}
    if manifest:
        here["manifest"] = manifest
    if recorded.threads:
        here["train"] = recorded.config.train.model_copy(update={"threads": recorded.threads})
    again = recorded.config.model_copy(update=here)
    extra = requirements_of(again.train)
    prepared = prepare_faces(again, extra)
    if prepared.fingerprint != recorded.fingerprint:
        raise DataError(
            f"run {run_id} was made of data {recorded.fingerprint[:12]}, but {again.manifest or workspace.manifest} is "
            f"now {prepared.fingerprint[:12]}: clips, labels, subjects or sides have changed, or clips cannot be read; "
            "restore them, or name the manifest of that time behind the run"
        )
    data = prepare_table(again, prepared, extra)
    with start_run(tracking, f"again {recorded.name}", tags={"reproduces": run_id}) as run:
        run.log_config(again)
        run.log_data("clips", prepared.fingerprint, synthetic=data.table.synthetic, source=again.manifest)
        compared_with = _REPEAT[recorded.kind](again, data, run)
        comparison = compare_runs(tracking, run_id, compared_with)
        markdown = _format_comparison(recorded, comparison)
        run.log_json(comparison.to_json(), "comparison.json")
        run.log_text(markdown, "comparison.md")
        run.set_tags({"identical": str(comparison.identical).lower()})
    show_summary(markdown, workspace.root, run_url=run.url)
    worst = comparison.worst
    return {
        "identical": comparison.identical,
        "answer": comparison.sentence,
        "values": sum(c.n for c in comparison.numbers),
        "largest_difference": worst.worst,
        "of": worst.name,
        "machine": "; ".join(f"{k}: {a} then, {b} now" for k, (a, b) in comparison.environment.items()) or "the same",
        "run": run.id,
        "url": run.url,
    }


def _trial(config: RunConfig, data: TrainingData, run: Run) -> str:
    """Cross-validate the settings on the same folds, record them as a trial, and return the id of its run."""
    _, folder = evaluate_task(config, data, run, tracked=True)
    return trial_run(run.tracking, folder)


def _candidate(config: RunConfig, data: TrainingData, run: Run) -> str:
    """Cross-validate, refit and calibrate with these settings; record the results in `run`, and return its id.

    The model is neither tested nor registered.
    """
    result, folder = evaluate_task(config, data, run, tracked=False)
    judged, workspace = evaluate_out_of_fold(data.table, folder), Workspace.open(config.workspace)
    model = _fresh(config, "model")
    fitted, bundle = refit_model(
        data.table, result, judged, data.backbone, data.dataset.usable, config, model, workspace
    )
    if fitted.history:
        run.log_history(fitted.history)
    run.log_rules(judged.evaluations)
    log_confidence(run, data.table, out_of_fold_scores(folder), CLIP_RULE)
    run.set_tags({"weights_sha256": bundle.record.weights_sha256})
    return run.id


def _implementation(config: RunConfig, data: TrainingData, run: Run) -> str:
    """Fit the implementation without a test, record it in `run`, and return its id."""
    sides = holdout_split(data.table, data.dataset.manifest, config.train)
    with trial_processes(1) as executor:
        result, folder = fit_holdout(
            _fresh(config, "fits"), data.table, data.table_path, sides, config.train, executor, data.fc
        )
    run.log_history(result.epochs)
    if result.state == "complete":
        run.set_tags(
            {"weights_sha256": model_of(folder, data.table, backbone_of(config), config).record.weights_sha256}
        )
    return run.id


_REPEAT = {"trial": _trial, "candidate": _candidate, "implementation": _implementation}


@task(task_run_name="cross-validation", cache_policy=NO_CACHE, persist_result=False)
def evaluate_task(config: RunConfig, data: TrainingData, run: Run, tracked: bool) -> tuple[TrialResult, Path]:
    """Cross-validate the settings again in an empty folder, so that no earlier result is reused."""
    workspace = Workspace.open(config.workspace)
    with trial_processes(1) as executor:
        return cross_validate(
            _fresh(config, "judged"), data.table, data.table_path, config.search, config.train, executor,
            job=partial(tracked_trial, config.tracking, workspace.root) if tracked else run_trial,
            fc=data.fc, block=data.block, parent_run=run.id,
        )  # fmt: skip


def _fresh(config: RunConfig, name: str) -> Path:
    """Return an empty folder for the repeated work, so that no earlier result is reused."""
    folder = Workspace.open(config.workspace).root / "again" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _format_comparison(recorded: Recorded, comparison: Comparison) -> str:
    """Return the comparison in Markdown: result, differing metrics, and differences of the environment."""
    lines = [f"# {recorded.kind.capitalize()} {recorded.id}, run again", "", comparison.sentence, ""]
    differing = [c for c in comparison.numbers if not c.identical]
    if differing:
        lines += ["| number | then | now | largest difference |", "| --- | --- | --- | --- |"]
        lines += [f"| {c.name} | {c.then:.6g} | {c.now:.6g} | {c.worst:.3g} |" for c in differing]
        lines += [
            "",
            "Bits agree on the same machine with the same thread count; on others, look at the size.",
            "",
        ]
    if comparison.environment:
        lines += ["| machine | then | now |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {markdown_text(then)} | {markdown_text(now)} |"
            for name, (then, now) in comparison.environment.items()
        ]
    return "\n".join([*lines, ""])
