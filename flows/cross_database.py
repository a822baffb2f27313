"""Flow `cross-database`: train on each database of a manifest and test on every other, with the same settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from fer_core.config import RunConfig
from fer_core.dataset.load import load_dataset, trained_on
from fer_core.experiments.cross_database import CrossDatabase, cross_database, several
from fer_core.experiments.search.processes import trial_processes
from fer_core.experiments.search.study import default_workers
from fer_core.models.registry import requirements_of
from fer_core.reports.cross_database_plot import cross_database_figure
from fer_core.reports.plots import figure_png
from fer_core.store import write_atomic
from fer_core.tracking.run import Run, connect, start_run
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar, show_picture
from flows.support.environment import settle
from flows.support.prepare import TrainingData, prepare
from flows.support.summary import name_run, show_summary


@flow(name="cross-database", persist_result=False)
def cross_database_flow(out: str = "", config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008  fills the form
    """Train on each database and test on every other, with train and validation clips only; the test set is not used.

    Args:
        out: folder of figure, table and numbers; empty: `cross-database` in the workspace.
        config: all settings; `train` is the setting, `search.folds` and `search.seed` are those within a database.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    databases = several(trained_on(load_dataset(config, workspace)).datasets)  # refuses a single one before any work
    name_run(", ".join(databases))
    data = prepare(config, requirements_of(config.train))
    with start_run(tracking, "cross-database") as run:
        run.log_config(config)
        run.log_data("clips", data.dataset.fingerprint, synthetic=data.table.synthetic, source=config.manifest)
        found = matrix_task(config, data)
        folder = Path(out).expanduser().absolute() if out else workspace.root / "cross-database"
        _show(found, folder, run)
    cells = {
        f"{source or '(unnamed)'} → {target or '(unnamed)'}": str(cell.evaluations["mean_scores"].mean_recall)
        if cell.evaluations
        else cell.reason
        for (source, target), cell in found.cells.items()
    }
    return {**cells, "synthetic": found.synthetic, "folder": str(folder), "run": run.id, "url": run.url}


@task(task_run_name="matrix", cache_policy=NO_CACHE, persist_result=False)
def matrix_task(config: RunConfig, data: TrainingData) -> CrossDatabase:
    """Compute the results, with one process for each database trained on."""
    with trial_processes(default_workers(config.search, config.train)) as executor:
        return cross_database(
            data.table, data.table_path, config.train, executor,
            folds=config.search.folds, seed=config.search.seed, fc=data.fc, block=data.block,
            progress=progress_bar("databases", "Databases trained on"),
        )  # fmt: skip


def _show(found: CrossDatabase, folder: Path, run: Run) -> None:
    figure, markdown = cross_database_figure(found), found.to_markdown()
    write_atomic(folder / "matrix.png", figure_png(figure))
    write_atomic(folder / "matrix.md", markdown.encode())
    write_atomic(folder / "matrix.json", json.dumps(found.to_json(), indent=1, allow_nan=False).encode())
    run.log_figure(figure, "figures/cross_database.png")
    run.log_text(markdown, "cross_database.md")
    run.log_json(found.to_json(), "cross_database.json")
    places = {name: i for i, name in enumerate(found.names)}
    run.log_metrics(
        {
            f"cross_database/{places[source]}_on_{places[target]}": cell.evaluations["mean_scores"].mean_recall.value
            for (source, target), cell in found.cells.items()
            if cell.evaluations
        }
    )
    run.set_tags({f"database_{i}": name for name, i in places.items() if name})
    show_picture("cross-database-figure", figure_png(figure), "Mean recall across databases")
    markdown += "\nNext: flow `train` on all databases.\n"
    show_summary(markdown, run.tracking.workspace, run_url=run.url, pages={"The figure": folder / "matrix.png"})
