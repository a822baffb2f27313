"""Flow `search`: run a study over stored features, with a task and an MLflow run per trial, and select a setting."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.cells import markdown_text
from fer_core.config import RECIPES, RunConfig
from fer_core.evaluation.abstention import RANKING_COLUMNS
from fer_core.evaluation.metrics import Evaluation
from fer_core.experiments.search.average import average_finalists
from fer_core.experiments.search.choice import Choice, choose, finalists
from fer_core.experiments.search.estimate import estimate_seconds
from fer_core.experiments.search.ledger import Study
from fer_core.experiments.search.processes import PRELOAD, called_in, trial_processes
from fer_core.experiments.search.repeats import repeat_trials
from fer_core.experiments.search.space import searched_names
from fer_core.experiments.search.storage import check_storage
from fer_core.experiments.search.study import (
    OnBackbone,
    default_workers,
    open_study,
    search,
    trials_per_process,
)
from fer_core.experiments.search.trial import OBJECTIVE, Job, TrialResult, read_spec, run_trial
from fer_core.experiments.search.workers import trial_workers
from fer_core.model_names import FC_HEAD_MODELS
from fer_core.models.registry import requirements_of
from fer_core.reports.plots import figure_png
from fer_core.reports.search_page import search_figures, search_page
from fer_core.store import write_atomic
from fer_core.tracking.run import Run, Tracking, connect, continue_run
from fer_core.tracking.trial import send_trial, tracked_trial, trial_link
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar, show_picture, show_table
from flows.support.environment import settle
from flows.support.formatting import duration
from flows.support.prepare import TrainingData, prepare_backbones
from flows.support.runner import dask
from flows.support.summary import name_run, show_summary

PAGE = "search.html"
IMPORTED = (*PRELOAD, "flows.cli")  # the last is imported again by every process that `ferflow` starts


@flow(name="search", persist_result=False)
def search_flow(config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008  frozen; fills the form
    """Search learning rate, batch size, FC widths and class weights by subject-grouped cross-validation.

    Args:
        config: all settings; `search`, `train` (what is not searched), `backbone` and `manifest` matter most.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    check_storage(config.search.storage)
    models = ", ".join(config.search.models or (config.train.model,))
    name_run(f"{config.search.trials} trials of {models} on {config.backbone.label}")
    every = prepare_backbones(config, requirements_of(config.train, config.search))
    data = next(iter(every.values()))
    table, latency = data.table, data.latency(config)
    backbones = _read_with_each(config, every)
    study = open_study(
        workspace.root, table, config.search, config.train, fc=data.fc, block=data.block, backbones=backbones
    )
    with (
        study.held(),
        _study_run(tracking, study) as run,
        _places(config, workspace.root) as (processes, workers),
    ):
        run.log_config(config)
        url = run.save_view(f"Trials of {study.name}", searched_names(config.search))
        run.log_data(study.name, data.dataset.fingerprint, synthetic=table.synthetic, source=config.manifest)
        seconds, at_most = estimate_seconds(
            study, table, config.search, config.train, workers, fc=data.fc, block=data.block
        )
        get_run_logger().info("the trials take %s %s", "at most about" if at_most else "about", duration(seconds))
        move = progress_bar("trials", f"{config.search.trials} trials of {study.name}")
        ended: list[TrialResult] = []

        def on_trial(result: TrialResult) -> None:
            ended.append(result)
            came = f"mean recall {result.value:.3f}" if result.state != "failed" else result.reason
            seen = f" of its first {len(result.selected)} folds" if result.state == "pruned" else ""
            get_run_logger().info("trial %d: %s, %s%s", result.number, result.state, came, seen)
            move(len(ended), config.search.trials)

        with _as_tasks(processes, workers) as executor:
            job = called_in(processes, run_trial)
            trials = search(
                study, table, data.table_path, config.search, config.train, executor,
                job=partial(tracked_trial, config.tracking, workspace.root, job=job), fc=data.fc, block=data.block,
                latency=latency, parent_run=run.id, workers=workers, on_trial=on_trial, backbones=backbones,
                attributes={"MLflow run": run.url or run.id}, attributes_of=trial_link,
            )  # fmt: skip
            last = finalists(trials, table, config.search)
            again = progress_bar("repeats", f"{len(last)} finalists with other folds")
            repeated = repeat_trials(last, config.search.repeats, executor, job=job, on_repeat=again)
        for _, folder in trials:
            send_trial(tracking, folder, run.id)
        averaged = average_finalists(last, repeated, table)
        choice = choose(trials, table, config.search, last, repeated, averaged)
        _show(run, study, trials, choice, url, table.synthetic)
    return {
        "study": study.name,
        "trials": len(trials),
        "best": choice.best.number,
        "chosen": choice.selected.title,
        "choice": choice.reason,
        "trial": str(choice.folder),
        "mean_recall": choice.selected.evaluations["mean_scores"]["mean_recall"],
        "ranking": choice.rankings[choice.selected.number].columns(),
        "page": str(study.folder / PAGE),
        "run": run.id,
        "url": url,
    }


def _read_with_each(config: RunConfig, every: Mapping[str, TrainingData]) -> dict[str, OnBackbone]:
    """Return what trials with each searched backbone read; empty if only one backbone is used."""
    return {
        label: OnBackbone(
            config.searched_backbones[label], data.table, data.table_path, data.fc, data.block, data.latency(config)
        )
        for label, data in every.items()
        if config.search.backbones
    }


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def trial_task(name: str, job: Job, folder: Path) -> TrialResult:
    """Run one trial; the job waits for its process, and logs it."""
    return job(folder)


class _TaskExecutor(Executor):
    """An executor that runs every trial as a Prefect task, with its own log and state in the UI."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        (folder,) = args
        context = contextvars.copy_context()  # the context of the flow run, which Prefect needs
        future: Future[TrialResult] = self._threads.submit(context.run, trial_task, folder.name, fn, folder)
        return future


@contextmanager
def _places(config: RunConfig, workspace: Path) -> Iterator[tuple[Executor, int]]:
    """Yield an executor for trials, on this machine or on Dask workers, and the number of trials at a time."""
    if config.runner.kind == "dask":
        with dask(config.runner) as runner, trial_workers(runner.client, workspace) as executor:
            yield executor, config.search.workers or len(runner.client.nthreads())
        return
    workers, calls = default_workers(config.search, config.train), trials_per_process(config.train)
    with trial_processes(workers, preload=IMPORTED, calls=calls) as executor:
        yield executor, workers


@contextmanager
def _as_tasks(processes: Executor, workers: int) -> Iterator[Executor]:
    with ThreadPoolExecutor(workers, thread_name_prefix="trial") as threads:
        try:
            yield _TaskExecutor(threads)
        except BaseException:
            processes.shutdown(cancel_futures=True)  # otherwise the threads wait until their trials end
            raise


def _study_run(tracking: Tracking, study: Study) -> Run:
    """Return the study's MLflow run; a resumed search continues its run."""
    note = study.folder / "mlflow-run"
    return continue_run(tracking, note, f"search {study.name}", tags={"kind": "search", "study": study.name})


def _show(
    run: Run, study: Study, trials: list[tuple[TrialResult, Path]], choice: Choice, url: str, synthetic: bool
) -> None:
    """Show the study's results in MLflow and on the flow run's page."""
    rows = [trial_row(result, choice) for result, _ in trials]
    drawn = {result.number: read_spec(folder).searched for result, folder in trials}
    figures = search_figures([result for result, _ in trials], drawn, choice)
    page = search_page(study.name, rows, figures, choice, synthetic=synthetic)
    write_atomic(study.folder / PAGE, page.encode())
    markdown = f"## {markdown_text(study.name)}\n\n{markdown_text(choice.reason)}.\n"
    folder = markdown_text(str(choice.folder))
    markdown += f"\nNext: flow `train` with the trial {folder} makes a candidate of this setting.\n"
    show_table("trials", rows, "Trials, out-of-fold mean recall by mean scores")
    show_picture("trials-figure", figure_png(figures["history"]), "Mean recall of the trials")
    show_summary(markdown, run.tracking.workspace, run_url=url, pages={"The whole page": study.folder / PAGE})
    for name, figure in figures.items():
        run.log_figure(figure, f"figures/{name}.png")
    run.log_text(page, PAGE)
    run.log_text(markdown, "choice.md")
    run.log_json(
        {"trials": rows, "compared": [c.row() for c in choice.compared], "reason": choice.reason}, "trials.json"
    )
    run.describe(markdown)
    run.log_evaluation(Evaluation.from_json(choice.selected.evaluations[OBJECTIVE]))
    chosen = {"ms_per_clip": choice.selected.ms_per_clip, "parameters": float(choice.selected.n_weights)}
    run.log_metrics({**chosen, "best_mean_recall": choice.best.value})
    run.set_tags({"chosen_trial": choice.selected.title.removeprefix("trial "), "best_trial": str(choice.best.number)})


def trial_row(result: TrialResult, choice: Choice) -> dict[str, Any]:
    """Return a trial as a table row."""
    interval = result.evaluations.get("mean_scores", {}).get("mean_recall") or (None, None, None)
    shown = " ".join(f"{100 * v:.1f}" for v in interval if v is not None)
    ranking = choice.rankings.get(result.number)
    train, headed = result.train, result.train.model in FC_HEAD_MODELS
    learns = headed or train.model in RECIPES
    marks = ["chosen"] * (result.number == choice.selected.number) + ["best"] * (result.number == choice.best.number)
    return {
        "trial": result.number,
        "state": result.state,
        "mean recall, low, high (%)": shown,
        **(ranking.columns() if ranking else dict.fromkeys(RANKING_COLUMNS, "")),
        "model": train.model,
        "backbone": result.backbone,
        "lr": f"{train.lr:.2g}" if learns else "",
        "batch": train.batch_size if learns else "",
        "widths": ("-".join(map(str, train.widths)) or "linear") if headed else "",
        "class weights": train.class_weights,
        "transfer": train.transfer if headed else "",
        "relative": train.relative if headed else "",
        "views": train.augment.views if headed else "",
        "weights": result.n_weights,
        "CPU ms a clip": round(result.ms_per_clip, 1) if result.n_weights else "",
        "seconds": round(result.seconds, 1),
        "note": ", ".join([*marks, result.preset, result.reason]).strip(", "),
    }
