"""Flow `compare`: compare models on the same folds and faces; writes a table, a figure, and a run for each model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from fer_core.config import RunConfig
from fer_core.dataset.dataset import Dataset, usable_dataset
from fer_core.dataset.load import labelled_clips, load_dataset
from fer_core.dataset.table import FeatureRequirements, FeatureTable
from fer_core.dataset.training_table import training_table
from fer_core.evaluation.latency import LatencyOf
from fer_core.experiments.changed_clips import Stays, stays_out_of_fold, stays_untrained
from fer_core.experiments.comparison import Comparison, Entry, compare
from fer_core.experiments.external_validation import ExternalValidation, validate_externally
from fer_core.experiments.stability import CHANGES
from fer_core.experiments.untrained import Untrained, evaluate_untrained, networks_here, with_untrained
from fer_core.features.augment import PLAIN
from fer_core.model_names import HEAD_RULES, compared_names
from fer_core.models.adopted import whole_course
from fer_core.models.base import ClipModel
from fer_core.models.registry import joint_requirements, models_of, requirements_of
from fer_core.reports.comparison import comparison_json, comparison_markdown, comparison_page
from fer_core.reports.comparison_plot import comparison_figure
from fer_core.reports.plots import curves_figure, figure_png
from fer_core.store import EntryStore, write_atomic
from fer_core.tracking.names import run_name, shown_settings
from fer_core.tracking.run import Run, Tracking, connect, start_run
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar, show_picture, show_table
from flows.support.environment import settle
from flows.support.prepare import TrainingData, backbone_for, changed_faces, course_of, face_rows, plain_faces, prepare
from flows.support.summary import name_run, show_summary


@flow(name="compare", persist_result=False)
def compare_flow(
    models: list[str] = [],  # noqa: B006
    epochs: int = 0,
    external: str = "",
    untrained: bool = True,
    stress: bool = False,
    config: RunConfig = RunConfig(),  # noqa: B008
) -> dict[str, Any]:
    """Compare models on the training subjects; each clip is predicted out of fold.

    Args:
        models: their names; the first is the one others are held against. Empty: all of them.
        epochs: most epochs of the networks over clips; 0: those of their recipes.
        external: manifest of other people's clips; every model, fitted to all clips compared on, judges them too.
        untrained: also show the face networks whose weights are on this machine, as published, without training.
        stress: also show how many verdicts stay when the clips are mirrored, scaled, moved, thinned, turned, darker,
            lighter or compressed; every clip is decoded nine more times.
        config: all settings; `search.folds` and `search.seed` make the folds, `train` is the head's setting.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    models_of(models, config.train)  # refuses an unknown name before any work
    extra = _requirements(models_of(models or compared_names(), config.train), config)
    if external:
        classes = load_dataset(config, workspace).classes
        labelled_clips(Path(external).expanduser(), classes)  # refuses an unreadable manifest before any work
    name_run(f"{', '.join(models) or 'all models'} on {config.backbone.label}")
    data = prepare(config, extra, folded=True, training_only=True)
    prepared, table, latency = data.dataset, data.table, data.latency(config)
    chosen = models_of(models or compared_names(), config.train, epochs=epochs, fc=data.fc, block=data.block)
    others = _external_clips(prepared, extra, config, workspace, external) if external else None
    other = _other_table(others, extra, config, workspace) if others else None
    with start_run(tracking, run_name("compare", f"{len(chosen)} models"), tags={"kind": "comparison"}) as run:
        run.log_config(config, {"folds": config.search.folds, "backbone": config.backbone.label})
        run.log_data("clips", prepared.fingerprint, synthetic=table.synthetic, source=config.manifest)
        found = cross_validate_models(chosen, table, latency, config)
        validation = validate_models(chosen, table, other, Path(external).stem, config) if other else None
        networks = untrained_networks(prepared, others, config) if untrained else []
        found, validation = with_untrained(found, networks, table.clip_ids, validation)
        if stress:
            found = replace(found, stays=stress_models(chosen, found, networks, data, extra, config))
        page = workspace.root / "comparisons" / f"{run.id}.html"
        url = run.save_view(f"Models of {run.id[:6]}", ("model", "lr", "class_weights"))
        _record(tracking, run, found, validation, prepared, table, config, page)
    best = max(
        (entry for entry in found.entries if entry.trained), key=lambda entry: entry.evaluation.mean_recall.value
    )
    interval = best.evaluation.mean_recall
    return {
        "models": len(found.entries),
        "best": best.name,
        "mean_recall": [interval.value, interval.low, interval.high],
        "failed": found.failed,
        "report": str(page),
        "numbers": str(page.with_suffix(".json")),
        "run": run.id,
        "url": url,
    }


@task(task_run_name="cross-validate", cache_policy=NO_CACHE, persist_result=False)
def cross_validate_models(
    chosen: Sequence[ClipModel], table: FeatureTable, latency: LatencyOf, config: RunConfig
) -> Comparison:
    """Fit every model on every fold; finished folds are read from the store."""
    return compare(
        chosen, table, folds=config.search.folds, seed=config.search.seed, fit_seed=config.train.seed,
        inner_share=config.train.inner_share,
        latency=latency, store=EntryStore(Workspace.open(config.workspace).store, "comparisons"),
        progress=progress_bar("fits", f"{len(chosen)} models, {config.search.folds} folds"),
    )  # fmt: skip


@task(task_run_name="validate on other people", cache_policy=NO_CACHE, persist_result=False)
def validate_models(
    chosen: Sequence[ClipModel], table: FeatureTable, other: FeatureTable, name: str, config: RunConfig
) -> ExternalValidation:
    """Fit every model on all clips of the comparison and evaluate it on the external clips.

    Stored results are reused.
    """
    return validate_externally(
        chosen, table, other, name, seed=config.search.seed, fit_seed=config.train.seed,
        inner_share=config.train.inner_share,
        store=EntryStore(Workspace.open(config.workspace).store, "comparisons"),
        progress=progress_bar("external", f"{len(chosen)} models on {name}"),
    )  # fmt: skip


def _requirements(chosen: Sequence[ClipModel], config: RunConfig) -> FeatureRequirements:
    """Return the features that these models need; only the head needs views and maps."""
    found = joint_requirements(chosen)
    if not found.plain:
        return found
    return replace(
        requirements_of(config.train.with_model("head")), descriptors=found.descriptors, neutral=found.neutral
    )


@task(task_run_name="networks without training", cache_policy=NO_CACHE, persist_result=False)
def untrained_networks(clips: Dataset, external: Dataset | None, config: RunConfig) -> list[Untrained]:
    """Evaluate the face networks whose weights are here on all of the clips."""
    workspace, names = Workspace.open(config.workspace), networks_here(config)
    if not names:
        return []
    whole = config.model_copy(update={"preprocess": whole_course(config.preprocess)})
    plain, others = plain_faces(clips, whole), plain_faces(external, whole) if external else None
    return [evaluate_untrained(name, plain, others, whole, workspace) for name in names]


def stress_models(
    chosen: Sequence[ClipModel],
    found: Comparison,
    networks: Sequence[Untrained],
    data: TrainingData,
    extra: FeatureRequirements,
    config: RunConfig,
) -> dict[str, Stays]:
    """Show every model its clips under every change; return, by name, the share of verdicts that stay.

    Stored faces, features and results are reused.
    """
    workspace = Workspace.open(config.workspace)
    changed = {change: changed_faces(data.dataset, config, extra, change) for change in CHANGES}
    tables = {
        change: _other_table(clips, extra, config, workspace) if clips else None for change, clips in changed.items()
    }
    stays: dict[str, Stays] = stays_out_of_fold(
        [model for model in chosen if model.name not in found.failed], data.table, tables,
        folds=config.search.folds, seed=config.search.seed, fit_seed=config.train.seed,
        inner_share=config.train.inner_share, store=EntryStore(workspace.store, "comparisons"),
        progress=progress_bar("stress", f"{len(chosen)} models on changed clips"),
    )  # fmt: skip
    whole = config.model_copy(update={"preprocess": whole_course(config.preprocess)})
    if networks:
        plain = {change: changed_faces(data.dataset, whole, FeatureRequirements(), change) for change in CHANGES}
        for network in networks:
            stays[network.name] = stays_untrained(
                network.compared,
                {
                    change: evaluate_untrained(network.name, clips, None, whole, workspace).compared if clips else None
                    for change, clips in plain.items()
                },
            )
    return stays


def _external_clips(
    fitted: Dataset, extra: FeatureRequirements, config: RunConfig, workspace: Workspace, manifest: str
) -> Dataset:
    """Load all clips of the external manifest, independent of its split; no model is trained on them."""
    path = Path(manifest).expanduser().absolute()
    other = labelled_clips(path, fitted.manifest.classes)
    move = progress_bar("external-duplicates", f"One recording in {path.name} and among those fitted to")
    return usable_dataset(
        other, face_rows(other.clips, config), config, workspace, course_rows=course_of(config, extra),
        apart_from=(fitted, path.name), progress=move,
    )  # fmt: skip


def _other_table(clips: Dataset, extra: FeatureRequirements, config: RunConfig, workspace: Workspace) -> FeatureTable:
    move = progress_bar("other-features", f"Features of {len(clips.usable)} other clips")
    extra = replace(extra, features=(), maps=(PLAIN,) if extra.maps else ())
    backbone = backbone_for(config, extra)
    return training_table(clips, backbone, config.preprocess, workspace, extra, move, every_clip=True)


def _record(
    tracking: Tracking,
    run: Run,
    found: Comparison,
    external: ExternalValidation | None,
    prepared: Dataset,
    table: FeatureTable,
    config: RunConfig,
    page: Path,
) -> None:
    """Show the comparison in MLflow, on a page in the workspace, and on the page of the flow run."""
    for entry in found.entries:
        with start_run(tracking, entry.name, parent=run.id, tags={"kind": "model", "model": entry.name}) as child:
            _record_model(child, entry, found, external, prepared, table, config)
    figure = comparison_figure(found)
    markdown = comparison_markdown(found, external)
    html = comparison_page(found, external, data=prepared.fingerprint, backbone=config.backbone.label)
    numbers = comparison_json(found, external)
    write_atomic(page, html.encode())
    write_atomic(page.with_suffix(".json"), json.dumps(numbers, indent=1, allow_nan=False).encode())
    run.log_figure(figure, "figures/comparison.png")
    run.log_text(markdown, "comparison.md")
    run.describe(markdown)
    run.log_text(html, "comparison.html")
    run.log_json(numbers, "comparison.json")
    show_table("comparison", numbers["rows"], "Models compared")
    show_picture("comparison-figure", figure_png(figure), "Mean recall of the models")
    markdown += "\nNext: flow `train` with the best model.\n"
    show_summary(markdown, run.tracking.workspace, run_url=run.url, pages={"The whole page": page})


def _record_model(
    run: Run,
    entry: Entry,
    found: Comparison,
    external: ExternalValidation | None,
    prepared: Dataset,
    table: FeatureTable,
    config: RunConfig,
) -> None:
    if entry.trained:
        train = config.train.with_recipe_of("head" if entry.name in HEAD_RULES else entry.name)
        run.log_config(train, {**shown_settings(train), "model": entry.name, "backbone": config.backbone.label})
    else:
        run.log_config(config, {"model": "adopted", "backbone": entry.name})
    run.log_data("clips", prepared.fingerprint, synthetic=found.synthetic)
    run.log_evaluation(entry.evaluation)
    run.log_confusion(entry.evaluation, title=f"Out of fold, {entry.title}")
    verdicts = entry.scores.argmax(axis=1)
    run.log_verdicts(table.clip_ids, table.labels, verdicts, entry.scores, table.classes)
    numbers = {"parameters": float(entry.n_parameters), "seconds": entry.seconds, "ms_per_clip": entry.ms_per_clip}
    numbers |= entry.ranking.metrics()
    if stays := found.stays.get(entry.name):
        numbers |= {f"stress/{change}/stays": share.value for change, share in stays.items()}
        numbers["stress/least_stays"] = min(share.value for share in stays.values())
    if entry.difference:
        d = entry.difference
        numbers |= {"difference": d.value, "difference_low": d.low, "difference_high": d.high}
    run.log_metrics(numbers)
    if external is not None and entry.name in external.results:
        run.log_evaluation(external.results[entry.name].evaluation, prefix="external/")
    for fold, history in enumerate(entry.histories):
        run.log_history(history, prefix=f"fold{fold}/")
    if entry.histories:
        curves = curves_figure({f"fold {i}": h for i, h in enumerate(entry.histories)}, entry.title)
        run.log_figure(curves, "figures/curves.png")
