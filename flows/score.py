"""Flow `score`: score videos with the champion; writes tables and a report page, with a reason for unscored clips."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.cells import markdown_text
from fer_core.config import RunConfig
from fer_core.scoring.batch import Batch, new_folder, scored_rows
from fer_core.scoring.inputs import Item, collect
from fer_core.scoring.scorer import ClipScorer
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar, show_table
from flows.support.champion import account_for, champion_scorer, record_batch, score_into, summarize, version_scorer
from flows.support.environment import settle
from flows.support.missing import inputs
from flows.support.runner import run_batches
from flows.support.summary import name_run, show_summary, source_of

SHARD = 50  # clips of one task on a Dask worker


@flow(name="score", persist_result=False)
def score_flow(paths: list[str] = [], out: str = "", config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B006, B008
    """Score videos with the champion. Every input gets a row, also if it cannot be scored.

    Args:
        paths: video files, folders of them, or manifests; none: the folder `incoming` of the workspace.
        out: folder of the tables (see docs/outputs.md) and report.html, older ones in it replaced; empty: a new folder
            in `scored` of the workspace.
        config: all settings; `score`, `limits` and `tracking` matter here.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    paths = inputs(paths, config)
    items = collect(paths, follow_links=config.limits.follow_links)
    name_run(f"{len(items)} clips of {source_of(paths)}")
    scorer = champion_scorer(config)
    target = Path(out).expanduser().absolute() if out else new_folder(workspace.scored)
    if config.runner.kind == "dask":
        _score_on_workers(config, scorer, items)
    batch = score_items(scorer, items, target, workspace.store)
    result = summarize(scorer, batch) | account_for(paths, config, target) | record_batch(config, scorer, batch, items)
    if result["drift"]:
        get_run_logger().warning("%s", result["drift"])
    show_table("verdicts", [{"emotion": e, "clips": n} for e, n in result["emotions"].items()], "Verdicts")
    failed = batch.tally.failed
    if failed:
        without = [{"clip": clip, "status": status.value, "reason": reason} for clip, status, reason in failed]
        which = f" (the first {len(failed)} of {batch.tally.unscored})" if len(failed) < batch.tally.unscored else ""
        show_table("without-verdict", without, f"Clips without a verdict, and why{which}")
    show_summary(_summary(batch, result), workspace.root, run_url=result["url"], pages=_pages(batch))
    return result


def _summary(batch: Batch, result: dict[str, Any]) -> str:
    """Return the result of a batch in Markdown."""
    emotions = ", ".join(f"{n} {emotion}" for emotion, n in result["emotions"].items())
    model, people = (markdown_text(result[name]) for name in ("model", "people"))
    return (
        f"## {len(batch.rows)} clips, {model}\n\n{markdown_text(emotions) or 'No verdict'}; {result['abstained']} "
        f"abstained, {result['unscored']} without a verdict.\n\n{people}.\n{_drift(result)}\nNext: flow `evaluate`, if "
        "the clips have labels.\n"
    )


def _pages(batch: Batch) -> dict[str, Path]:
    drift = {"Drift against the training clips": page} if (page := batch.out / "drift.html").is_file() else {}
    return {"The report": batch.out / "report.html", **drift, "verdicts.csv": batch.out / "verdicts.csv"}


def _drift(result: dict[str, Any]) -> str:
    """Return the warning about drift as Markdown; empty without one."""
    if not result["drift"]:
        return ""
    return f"\n**Warning:** {markdown_text(result['drift'])}.\n"


def _score_on_workers(config: RunConfig, scorer: ClipScorer, items: list[Item]) -> None:
    """Let the workers of a Dask cluster score the items; the workspace's store keeps the rows by content.

    `score_items` then finds them there, so tables and report are written as without workers.
    """
    if scorer.bundle.backbone is not None:  # rows are kept apart by engine, and this process reads those of its own
        engine = scorer.bundle.backbone.engine
        config = config.model_copy(update={"score": config.score.model_copy(update={"engine": engine})})
    version, starts = int(scorer.version), range(0, len(items), SHARD)
    shards = [(config, version, start, items[start : start + SHARD]) for start in starts]
    move, done = progress_bar("shards", f"Scoring {len(items)} clips on Dask workers"), 0
    for n in run_batches(score_shard, shards, config.runner):
        done += n
        move(done, len(items))


@task(task_run_name="clips from {first}", cache_policy=NO_CACHE, persist_result=False)
def score_shard(config: RunConfig, version: int, first: int, items: list[Item]) -> int:
    """Score some items in a worker, keep their rows in the workspace's store, and return their number."""
    scored_rows(_worker_scorer(config.model_dump_json(), version), items, Path(config.workspace) / "store")
    return len(items)


@lru_cache(maxsize=1)
def _worker_scorer(config: str, version: int) -> ClipScorer:
    """Return a scorer that a worker keeps from shard to shard."""
    return version_scorer(RunConfig.model_validate_json(config), version)


@task(task_run_name="score clips", cache_policy=NO_CACHE, persist_result=False)
def score_items(scorer: ClipScorer, items: list[Item], out: Path, store: Path) -> Batch:
    """Score all items; rows are stored as they are made, so a killed batch resumes."""
    return score_into(scorer, items, out, store, progress_bar("clips", f"Scoring {len(items)} clips"))
