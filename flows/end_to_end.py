"""Flow `end-to-end`: faces, search, candidate, champion and scoring of a folder, each by its own flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from fer_core.clips.cells import markdown_text
from fer_core.clips.synthetic import synthesize
from fer_core.config import RunConfig
from fer_core.dataset.load import load_dataset
from fer_core.errors import TrackingError
from fer_core.models.registry import requirements_of
from fer_core.workspace import Workspace
from flows.preprocess import preprocess_flow
from flows.promote import promote_flow
from flows.score import score_flow
from flows.search import search_flow
from flows.support.artifacts import progress_bar
from flows.support.environment import check_local, settle
from flows.support.formatting import format_result
from flows.support.prepare import backbones_for
from flows.support.summary import name_run, show_summary
from flows.train import train_flow

SCORED_SUBJECTS = 6  # subjects of the demo's batch to score; another seed draws them, so no model was trained on them


@flow(name="end-to-end", persist_result=False)
def end_to_end_flow(subjects: int = 24, config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008  fills the form
    """Run all steps. Without a manifest, they use drawn faces, and all of their results are marked as synthetic.

    Args:
        subjects: people to draw when no manifest is given.
        config: all settings.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    drawn = not config.manifest and not workspace.own_manifest.is_file()
    if drawn:
        manifest = draw(workspace.drawn_manifest.parent, subjects, 0)
        config = config.model_copy(update={"manifest": str(manifest)})
    check_local(config, "an end-to-end run")
    name_run(f"{subjects} drawn people" if drawn else f"clips of {Path(config.manifest or workspace.manifest).name}")
    load_dataset(config, workspace, folded=True)
    backbones_for(config, requirements_of(config.train, config.search))
    clips = preprocess_flow(config=config)
    found = search_flow(config=config)
    made = train_flow(trial=found["trial"], config=config)
    if not made["version"]:
        raise TrackingError("MLflow does not answer any more; run 'ferflow sync' when it does, then 'ferflow promote'")
    promoted = promote_flow(version=made["version"], config=config)
    scored: dict[str, Any] = {}
    if promoted["champion"]:
        unseen = draw(workspace.synthetic / "unseen", SCORED_SUBJECTS, 1) if drawn else None
        scored = score_flow([str(unseen or config.manifest or workspace.manifest)], config=config)
    result = {
        "clips": clips["clips"],
        "frames": clips["frames"],
        "faces": clips["faces"],
        "synthetic": clips["synthetic"],
        "trials": found["trials"],
        "best_trial": found["best"],
        "chosen_trial": found["chosen"],
        "choice": found["choice"],
        "mean_recall": made["mean_recall"],
        "champion": promoted["champion"],
        "gate": promoted["reason"],
        "verdicts": scored.get("status", {}),
        "people": scored.get("people", ""),
        "report": scored.get("report", ""),
        "workspace": str(workspace.root),
    }
    report = {"The report of the scored clips": Path(scored["report"])} if scored else {}
    show_summary(
        "\n".join(
            [
                "## End to end",
                "",
                *(f"- {k.replace('_', ' ')}: {markdown_text(format_result(k, v))}" for k, v in result.items()),
                "",
                "Next: flow `card` for your own clips.",
            ]
        ),
        workspace.root,
        pages=report,
    )
    return result


@task(task_run_name="draw {subjects} subjects", cache_policy=NO_CACHE, persist_result=False)
def draw(folder: Path, subjects: int, seed: int) -> Path:
    """Draw synthetic clips with a manifest, or reuse those that were drawn before."""
    synthesize(folder, subjects, seed, progress=progress_bar("drawing", f"Synthetic clips of {subjects} subjects"))
    return folder / "manifest.csv"
