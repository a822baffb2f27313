"""Flow `reproduce-thesis`: run the four implementations on a manifest's clips, test each once, and write a page."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.clip import Split
from fer_core.clips.manifest import read_manifest
from fer_core.config import RunConfig
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.load import load_dataset
from fer_core.errors import DataError, TrainingError
from fer_core.evaluation.metrics import Evaluation
from fer_core.experiments.search.processes import trial_processes
from fer_core.experiments.search.study import cross_validate
from fer_core.experiments.test_set import test_clips
from fer_core.experiments.untrained import networks_here, untrained_on_test_set
from fer_core.models.adopted import whole_course
from fer_core.models.bundle import ModelBundle
from fer_core.models.registry import requirements_of
from fer_core.reports.plots import curves_figure, figure_png
from fer_core.store import write_atomic
from fer_core.thesis.implementation import configure, reproduction_of, run_implementation
from fer_core.thesis.page import reproduction_html, reproduction_markdown
from fer_core.thesis.reproduction import THESIS_RULES, Outcome, Reproduction
from fer_core.tracking.run import Run, connect, start_run
from fer_core.tracking.trial import tracked_trial
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar, show_picture
from flows.support.environment import settle
from flows.support.prepare import (
    TrainingData,
    backbone_of,
    plain_faces,
    prepare_faces,
    prepare_table,
)
from flows.support.summary import name_run, show_summary

ALL = (1, 2, 3, 4)


@flow(name="reproduce-thesis", persist_result=False)
def reproduce_thesis_flow(
    setting: Literal["table-4.1", "section-4.2.2"] = "table-4.1",
    fixed_epochs: bool = False,
    cross_validate: bool = False,
    shrink: int = 1,
    only: list[int] = [],  # noqa: B006
    overrides: list[str] = [],  # noqa: B006
    out: str = "",
    config: RunConfig = RunConfig(),  # noqa: B008  frozen; fills the form
) -> dict[str, Any]:
    """Reproduce the thesis: each implementation is fitted on the training side, stopped on the validation side by the
    rule of §4.3, and looks at the test set once.

    Args:
        setting: the learning rate and batch size of Table 4.1 or of section 4.2.2, which differ.
        fixed_epochs: train for its 170, 170, 260 and 180 epochs instead.
        cross_validate: judge each by subject-grouped cross-validation too; several times the work.
        shrink: divide the FC widths by it, for a rehearsal on a small machine.
        only: numbers of the implementations to run; none: all four.
        overrides: settings of all of them, `train.epochs=3`; of `train`, `backbone` and `split` only.
        out: folder of the page; empty: `reproduction` in the workspace.
        config: gives workspace, manifest, preprocessing, limits, folds and tracking; the rest is the thesis's.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    configs = {
        number: configure(number, config, setting, fixed_epochs=fixed_epochs, shrink=shrink, overrides=overrides)
        for number in sorted(set(only)) or ALL
    }
    name_run(f"implementation {', '.join(map(str, configs))}, {setting}")
    first = next(iter(configs.values()))
    if not load_dataset(first, workspace).of(Split.TEST).clips:
        raise DataError("the split has no test side, on which the thesis's numbers are taken; split the manifest anew")
    backbone_of(first)  # raises for missing weights before any work
    prepared = prepare_faces(first, folded=cross_validate, complete=True)
    if not test_clips(prepared.manifest, prepared.usable)[1]:
        raise DataError("no clip of the test side, on which the thesis's numbers are taken, can be used")
    data = prepare_table(first, prepared, requirements_of(first.train))
    source = Path(first.manifest) if first.manifest else workspace.manifest
    with start_run(tracking, f"thesis {setting}", tags={"setting": setting}) as run:
        run.log_data("clips", prepared.fingerprint, synthetic=data.table.synthetic, source=str(source))
        outcomes = []
        for number, one in configs.items():
            outcomes.append(_recorded(number, one, data, cross_validate, run))
        found = reproduction_of(
            outcomes, first, data.table, prepared, backbone_of(first), setting=setting,
            fixed_epochs=fixed_epochs, shrink=shrink,
            own_split=any(clip.split for clip in read_manifest(source).clips),
        )  # fmt: skip
        found = replace(found, untrained=untrained_on_test_clips(prepared, first))
        folder = Path(out).expanduser().absolute() if out else workspace.root / "reproduction"
        return {**_show(found, folder, run), "run": run.id, "url": run.url}


@task(task_run_name="networks without training", cache_policy=NO_CACHE, persist_result=False)
def untrained_on_test_clips(clips: Dataset, config: RunConfig) -> dict[str, Evaluation]:
    """Evaluate the face networks whose weights are here on the test clips."""
    workspace, names = Workspace.open(config.workspace), networks_here(config)
    if not names:
        return {}
    whole = config.model_copy(update={"preprocess": whole_course(config.preprocess)})
    tests = clips.manifest.of(Split.TEST)
    ids = {clip.id for clip in tests.clips}
    only = replace(clips, manifest=tests, usable=[row for row in clips.usable if row.clip in ids])
    plain = plain_faces(only, whole)
    found = {name: untrained_on_test_set(name, plain, whole, workspace) for name in names}
    return {n: Evaluation.from_json(o.evaluations["mean_scores"]) for n, o in found.items() if o is not None}


def _recorded(number: int, config: RunConfig, data: TrainingData, cross_validate: bool, parent: Run) -> Outcome:
    """Run one implementation in its own task and MLflow run."""
    tags = {"implementation": str(number), "seed": str(config.train.seed)}
    with start_run(parent.tracking, f"thesis-{number}", parent=parent.id, tags=tags) as run:
        run.log_config(config)
        run.log_data("clips", data.dataset.fingerprint, synthetic=data.table.synthetic, source=config.manifest)
        outcome, bundle = implementation_task(number, config, data)
        if cross_validate and outcome.tested:
            outcome = replace(outcome, out_of_fold=_cross_validated(config, data, run))
        _record(run, outcome, bundle)
    if not outcome.tested:
        run.finish("FAILED")
        get_run_logger().warning("implementation %d has no test result: %s", number, outcome.reason)
    return replace(outcome, run=run.id)


@task(task_run_name="implementation {number}", cache_policy=NO_CACHE, persist_result=False)
def implementation_task(number: int, config: RunConfig, data: TrainingData) -> tuple[Outcome, ModelBundle | None]:
    """Fit, stop and test one implementation."""
    move = progress_bar(f"implementation-{number}", f"Epochs of implementation {number}")
    with trial_processes(1) as executor:
        return run_implementation(
            number, config, data.table, data.dataset, backbone_of(config),
            Workspace.open(config.workspace), executor, move,
        )  # fmt: skip


def _cross_validated(config: RunConfig, data: TrainingData, run: Run) -> dict[Any, Evaluation]:
    """Return rule -> evaluation by the folds of a search; empty if a fold diverges."""
    workspace = Workspace.open(config.workspace)
    with trial_processes(1) as executor:
        try:
            result, _ = cross_validate(
                workspace.root, data.table, data.table_path, config.search, config.train, executor,
                job=partial(tracked_trial, config.tracking, workspace.root), fc=data.fc, parent_run=run.id,
            )  # fmt: skip
        except TrainingError as exc:
            get_run_logger().warning("no cross-validation: %s", exc)
            return {}
    return {rule: Evaluation.from_json(numbers) for rule, numbers in result.evaluations.items()}


def _record(run: Run, outcome: Outcome, bundle: ModelBundle | None) -> None:
    """Log curves, metrics and confusion matrices of one implementation to MLflow."""
    if len(outcome.history):
        run.log_history(outcome.history)
        title = f"Implementation {outcome.number}"
        run.log_figure(curves_figure({title: outcome.history}, title), "figures/curves.png")
    run.log_rules(outcome.tests, "test/")
    for rule in (rule for rule in outcome.tests if rule in THESIS_RULES):
        run.log_confusion(outcome.tests[rule], rule, f"Test, {rule.replace('_', ' ')}")
    run.log_rules(outcome.out_of_fold)
    run.log_metrics({"seconds": outcome.seconds, "parameters": float(outcome.n_weights)})
    tags = {
        "threads": str(outcome.threads),
        "fc_from_imagenet": " ".join(map(str, outcome.pretrained)) or "none",
        "weights_sha256": bundle.record.weights_sha256 if bundle else "",
        "test_openings": str(outcome.openings),
        "reason": outcome.reason,
    }
    run.set_tags({name: text for name, text in tags.items() if text})


def _show(found: Reproduction, folder: Path, run: Run) -> dict[str, Any]:
    """Write the page to the folder, to MLflow and to the flow run's page; return the main results."""
    page, markdown = reproduction_html(found), reproduction_markdown(found)
    write_atomic(folder / "reproduction.html", page.encode())
    write_atomic(folder / "reproduction.md", markdown.encode())
    run.log_text(page, "reproduction.html")
    run.log_text(markdown, "reproduction.md")
    run.log_json(found.to_json(), "reproduction.json")
    for outcome in found.outcomes:
        if len(outcome.history):
            figure = curves_figure({"": outcome.history}, f"Implementation {outcome.number}")
            show_picture(f"thesis-{outcome.number}-curves", figure_png(figure), f"Implementation {outcome.number}")
    pages = {"The whole page": folder / "reproduction.html"}
    markdown += "\nNext: flow `rerun` repeats one of these runs.\n"
    show_summary(markdown, run.tracking.workspace, run_url=run.url, pages=pages)
    numbers = {
        f"implementation_{o.number}": str(o.tests["mean_scores"].mean_recall) if o.tested else o.reason
        for o in found.outcomes
    }
    return {
        **numbers,
        "synthetic": found.data.synthetic,
        "test_clips": len(found.labels),
        "openings": max((o.openings for o in found.tested), default=0),
        "page": str(folder / "reproduction.html"),
    }
