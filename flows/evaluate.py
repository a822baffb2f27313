"""Flow `evaluate`: evaluate a registered version on clips of people that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from fer_core.config import RunConfig
from fer_core.dataset.load import labelled_clips
from fer_core.experiments.stability import Stability, stress_version
from fer_core.experiments.version_evaluation import VersionEvaluation, evaluate_version
from fer_core.reports.plots import reliability_figure
from fer_core.reports.version_evaluation import evaluation_markdown, evaluation_page, stress_figure
from fer_core.scoring.inputs import unlabelled
from fer_core.store import writable_place, write_atomic
from fer_core.tracking.evaluated import note_evaluation
from fer_core.tracking.names import run_name
from fer_core.tracking.run import Run, connect, start_run
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar
from flows.support.champion import version_scorer
from flows.support.environment import check_local, settle
from flows.support.summary import name_run, show_summary


@flow(name="evaluate", persist_result=False)
def evaluate_flow(
    manifest: str = "",
    version: int = 0,
    stress: bool = False,
    out: str = "",
    config: RunConfig = RunConfig(),  # noqa: B008  frozen; fills the form
) -> dict[str, Any]:
    """Evaluate a version on labelled clips of subjects that it was not trained on; with `stress`, also on unlabelled
    clips.

    Args:
        manifest: CSV of labelled clips; empty: the workspace's. Clips of people that the version was trained on are
            left out, and counted. With `stress`, no clip needs a label, and it may be a folder of videos.
        version: of the registered model; 0: the champion.
        stress: score the clips again, mirrored, scaled, moved, thinned, turned, darker, lighter and compressed.
        out: HTML page; empty: a file in the workspace.
        config: all settings; `score`, `limits` and `tracking` matter here.
    """
    config = settle(config)
    check_local(config, "an evaluation")
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    scorer = version_scorer(config, version)
    version, path = int(scorer.version), Path(manifest or workspace.manifest).expanduser().absolute()
    page = (
        Path(out).expanduser().absolute() if out else workspace.root / f"evaluation-{version}-{path.parent.name}.html"
    )
    writable_place(page)  # before any clip is read
    name_run(f"version {version} on {path.name}")
    bars: dict[str, Any] = {}

    def progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = progress_bar(f"evaluate-{len(bars)}", f"Scoring {total} clips: {what}")
        bars[what](done, total)

    found: Stability
    if items := unlabelled(path, follow_links=config.limits.follow_links) if stress else []:
        found = stress_version(scorer, items, progress)
    else:
        found = evaluate_version(scorer, labelled_clips(path, None), stress=stress, progress=progress)
    name = f"{scorer.name} version {version}"
    html, markdown = (make(found, name, path.name) for make in (evaluation_page, evaluation_markdown))
    write_atomic(page, html.encode())
    title = run_name(f"evaluation of version {version}", path.parent.name)
    with start_run(tracking, title, tags={"kind": "evaluation", "version": str(version)}) as run:
        _record(run, found, version, config, path, html, markdown)
    note_evaluation(tracking, version, run.id, found)
    markdown += "\nNext: flow `promote`, with floors that fit these clips.\n"
    show_summary(
        markdown, workspace.root, run_url=run.url, version_url=tracking.version_url(version),
        pages={"The whole page": page},
    )  # fmt: skip
    return {
        "version": version,
        "clips": len(found.clips),
        "left_out": dict(found.left_out),
        **(_accuracies(found) if isinstance(found, VersionEvaluation) else {}),
        "verdicts_that_stay": {s.what: f"{100 * s.stays.value:.0f} %" for s in found.stress},
        "page": str(page),
        "run": run.id,
        "url": run.url,
    }


def _accuracies(found: VersionEvaluation) -> dict[str, Any]:
    judged = found.evaluation
    return {
        "mean_recall": [judged.mean_recall.value, judged.mean_recall.low, judged.mean_recall.high],
        "accuracy": [judged.accuracy.value, judged.accuracy.low, judged.accuracy.high],
        "calibration_error": round(found.reliability.expected_error, 4),
    }


def _record(run: Run, found: Stability, version: int, config: RunConfig, path: Path, html: str, markdown: str) -> None:
    """Log settings, data, metrics and figures of the evaluation to its run."""
    run.log_config(config, {"version": version, "manifest": path.name, "stress": bool(found.stress)})
    run.log_data(path.name, found.fingerprint, synthetic=found.synthetic, source=str(path), context="evaluation")
    run.log_metrics(found.metrics())
    if isinstance(found, VersionEvaluation):
        run.log_evaluation(found.evaluation)
        run.log_confusion(found.evaluation, title=path.name)
        run.log_figure(reliability_figure({"version": found.reliability}), "figures/reliability.png")
    if found.stress:
        run.log_figure(stress_figure(found.stress), "figures/stress.png")
    run.log_json(found.to_json(), "evaluation.json")
    run.log_text(html, "evaluation.html")
    run.log_text(markdown, "evaluation.md")
    run.describe(markdown)
