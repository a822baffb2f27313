"""The commands that do the work. Those that take minutes run a flow, so that they show in Prefect; a handful of videos
is scored at once, since a temporary Prefect server alone takes ten seconds.

A flow gets the whole RunConfig and returns a JSON-able dict. What a user can get wrong is looked at first.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_core.errors import ConfigError, RegistryError
from fer_core.model_names import FACE_NETWORKS, MODEL_NAMES
from flows.commands.session import BAD_ROWS, FAILED, FollowLinks, Offline, RunManifest, Session, command
from flows.support import reads

if TYPE_CHECKING:
    from fer_core.config import RunConfig
    from fer_core.scoring.batch import Batch
from flows.commands.run_flow import _tell, backbone_checked, dataset_checked, detector_checked, run_flow, settled

AT_ONCE = 16  # clips scored without a flow when no server runs; a second each or so


@command(preset="demo")
def demo(
    session: Session,
    subjects: Annotated[int, typer.Option(min=4, help="Number of drawn people; each has six clips.")] = 24,
) -> dict[str, Any]:
    """Run all steps on drawn faces: clips, faces, a small search, a champion, a scored folder."""
    from fer_core.models.registry import requirements_of
    from flows.support.environment import check_local
    from flows.support.prepare import backbones_for

    config = settled(session)
    check_local(config, "the demo")
    backbones_for(config, requirements_of(config.train, config.search))  # missing weights, before clips are drawn
    result = run_flow(session, "flows.end_to_end", "end_to_end_flow", config, subjects=subjects)
    if not result["report"]:
        raise RegistryError(f"nothing is scored, as no model passed the gate: {result['gate']}")
    workspace = f" --workspace {result['workspace']}" if result["workspace"] != os.path.abspath("workspace") else ""
    typed = "ferflow" if shutil.which("ferflow") else sys.argv[0]  # the virtual environment need not be active
    session.say("To look further:")
    session.say(f"  python3 -m webbrowser {result['report']}")
    session.say(f"  {typed} up{workspace}")
    session.say(f"  {typed} score YOUR.mp4 --out verdicts{workspace}")
    return result


@command(reads=reads.DATA)
def preprocess(
    session: Session,
    manifest: RunManifest = None,
    frames_table: Annotated[
        Path | None,
        typer.Option("--frames-table", metavar="FILE", help="Write a table of all selected frames, .parquet or .csv"),
    ] = None,
    follow_links: FollowLinks = False,
) -> dict[str, Any]:
    """Find the faces in every clip of the manifest and store them."""
    from fer_core.preprocess.frame_table import check_table_path

    if frames_table:
        check_table_path(frames_table)
    config = settled(session, follow_links, manifest, tracked=False)
    dataset_checked(config)
    table = str(frames_table.expanduser().absolute()) if frames_table else ""
    result = run_flow(session, "flows.preprocess", "preprocess_flow", config, frames_table=table)
    session.next("search the best settings", "search", manifest)
    return result


@command(reads=reads.CLIPS)
def card(
    session: Session,
    manifest: Annotated[Path, typer.Argument(metavar="CSV", help="Manifest.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="HTML", help="Page to write.")] = Path("card.html"),
    no_faces: Annotated[
        bool, typer.Option("--no-faces", help="Without pictures of people, so that the page can be shared.")
    ] = False,
    follow_links: FollowLinks = False,
) -> dict[str, Any]:
    """Write the data card of a manifest: a page with its classes, people, detected faces, and warnings."""
    from fer_core.clips.manifest import read_manifest
    from flows.support.missing import check_manifest

    classes = session.config.class_list
    check_manifest(session.config.model_copy(update={"manifest": str(manifest)}))
    read_manifest(manifest, subject="none", classes=classes)  # what the flow would refuse after a server has started
    config = settled(session, follow_links).model_copy(update={"manifest": str(manifest.absolute())})
    page = str(out.expanduser().absolute())
    result = run_flow(session, "flows.card", "card_flow", config, out=page, faces=not no_faces)
    session.next("search the best settings", "search", manifest)
    return result


@command(reads=reads.FITS)
def search(
    session: Session,
    manifest: RunManifest = None,
    offline: Offline = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Search nothing; show all studies in Optuna's dashboard until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the dashboard; 0: any free one.")] = 8080,
) -> dict[str, Any]:
    """Search the best settings by cross-validation grouped by subject. Every trial is an MLflow run."""
    if dashboard:
        from flows.commands.dashboard import serve_dashboard

        serve_dashboard(session, port)
    config = settled(session, manifest=manifest, offline=offline)  # refuses a server that is away, before any import

    from fer_core.experiments.search.storage import check_storage
    from fer_core.models.registry import requirements_of
    from fer_core.preprocess.weights_file import check_weights
    from flows.support.prepare import backbones_for

    check_storage(session.config.search.storage)
    dataset_checked(config, folded=True)
    wanted = requirements_of(config.train, config.search)
    check_weights(config.preprocess, points=wanted.points)
    backbones_for(config, wanted)  # missing weights, before faces are made
    result = run_flow(session, "flows.search", "search_flow", config)
    session.next("a candidate of the chosen setting", "train", manifest, "--trial", result["trial"])
    return result


@command(reads=reads.TRAIN)
def train(
    session: Session,
    manifest: RunManifest = None,
    trial: Annotated[str, typer.Option(metavar="DIR", help="Folder of a trial whose settings are used.")] = "",
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"Another model, by its own recipe but for what is given: {' '.join(MODEL_NAMES)}.",
            show_default=False,
        ),
    ] = "",
    offline: Offline = False,
) -> dict[str, Any]:
    """Cross-validate one model, fit it on all training subjects, and register it as a candidate."""
    from fer_core.config import load_config

    if trial and model:
        raise ConfigError("a trial has its model; name a trial or a model, not both")
    if model and model not in MODEL_NAMES:
        raise ConfigError(f"there is no model '{model}'; there are {', '.join(MODEL_NAMES)}")
    if model:  # a file may be of another model, but a flag given beside this one is meant for it
        own = [item for item in session.overrides if item.strip().startswith(("train.", "train="))]
        load_config(None, [*own, f"train.model={model}"])
    config = settled(session, manifest=manifest, offline=offline)

    from fer_core.experiments.search.trial import complete_result, read_spec
    from fer_core.models.registry import requirements_of

    train = config.train
    if trial:
        train, backbone = complete_result(Path(trial)).train, read_spec(Path(trial)).backbone
        config = config.model_copy(update={"backbone": backbone or config.backbone})
    if model:
        train = train.with_model(model)
    dataset_checked(config, folded=not trial)
    backbone_checked(config, requirements_of(train))
    result = run_flow(session, "flows.train", "train_flow", config, trial=trial, model=model or None)
    after_training(session, result)
    return result


def after_training(session: Session, result: Mapping[str, Any]) -> None:
    """Say what follows a new version, or a model that waits to be registered."""
    if result["version"]:
        session.next("the gate, which makes it the champion if it passes", "promote")
    else:
        session.next("the model's registration, once MLflow answers", "sync")


@command(reads=reads.ADOPT)
def adopt(
    session: Session,
    networks: Annotated[
        str,
        typer.Argument(
            metavar="NAME[+NAME]|FILE.onnx", help=f"{', '.join(FACE_NETWORKS)}, both joined by +, or an ONNX file."
        ),
    ],
    manifest: RunManifest = None,
    relative: Annotated[
        str, typer.Option(help="neutral: subtract the person's neutral face; none: do not.")
    ] = "neutral",
    offline: Offline = False,
) -> dict[str, Any]:
    """Register pretrained emotion networks without training; evaluate and calibrate them if the manifest has labels."""
    from fer_core.experiments.adoption import adopted_backbone

    if relative not in ("none", "neutral"):
        raise ConfigError(f"--relative is none or neutral; got '{relative}'")
    config = settled(session, manifest=manifest, offline=offline)
    detector_checked(config)
    adopted_backbone(networks, config.backbone.onnx)  # missing weights come to light before a server starts
    result = run_flow(session, "flows.adopt", "adopt_flow", config, networks=networks, relative=relative)
    after_training(session, result)
    return result


@command(reads=reads.PROMOTE)
def promote(
    session: Session,
    version: Annotated[int, typer.Option(min=0, help="Version of the registered model; 0: the newest.")] = 0,
    yes_by: Annotated[str, typer.Option("--yes-by", metavar="NAME", help="The person who approves it.")] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, with --yes-by.")] = "",
) -> dict[str, Any]:
    """Check a version by the gate and make it champion if it passes; with promote.approval, if a person approves."""
    from flows.commands.approve import asker
    from flows.support.approval import answered_by

    config = settled(session)
    if yes_by or reason:
        asked = config.promote.model_copy(update={"approval": True})
        config = config.model_copy(update={"promote": asked})
    if config.promote.approval:
        with answered_by(asker(session, yes_by, reason)):
            return _promote(session, config, version)
    return _promote(session, config, version)


def _promote(session: Session, config: RunConfig, version: int) -> dict[str, Any]:
    if os.environ.get("PREFECT_API_URL"):
        result = run_flow(session, "flows.promote", "promote_flow", config, version=version)
    else:  # a server of its own would take longer than the decision, which is kept with the version
        from flows.support.environment import where_runs_go
        from flows.support.gate import promote_if_passed

        session.note(f"Workspace {config.workspace}; versions are in {where_runs_go(session.config)}")
        result = promote_if_passed(config, version, show=lambda decision, url: None)
        _tell(session, "promote", result)
    done = result["champion"] == result["version"]
    if not done:
        remedy = "" if result["passed"] else "; improve it, or add --set promote.force=true"
        session.err.print(f"Version {result['version']} is not promoted{remedy}")
        session.exit_code = FAILED
    session.next("verdicts on your videos" if done else "what there is", *_after_gate(done))
    return result


def _after_gate(passed: bool) -> tuple[str, ...]:
    return ("score", "VIDEOS") if passed else ("list", "versions")


@command(reads=("tracking",))
def rollback(session: Session) -> dict[str, Any]:
    """Make the previous champion the champion again, and the champion the previous one."""
    from fer_core.tracking.connection import connect
    from fer_core.tracking.promotion import rollback as roll_back

    config = settled(session)
    now, before = roll_back(connect(config.tracking, Path(config.workspace)))
    result = {"champion": now, "previous": before}
    _tell(session, "rollback", result)
    session.next("verdicts on your videos", "score", "VIDEOS")
    return result


@command(reads=reads.SCORE)
def score(
    session: Session,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Videos, folders of them, or a manifest.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Folder of verdicts and report; default: a new one in the workspace."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with code 3 when a row has no verdict.")] = False,
    explain: Annotated[
        int | None,
        typer.Option("--explain", metavar="N", min=0, max=8, help="Show N decisive frames a clip, Grad-CAM."),
    ] = None,
    windows: Annotated[
        str | None, typer.Option("--windows", metavar="LENGTH", help="Also a verdict per window of a clip: 2s, 500ms.")
    ] = None,
    step: Annotated[
        str | None, typer.Option("--step", metavar="TIME", help="From one window to the next; default: its length.")
    ] = None,
    faces: Annotated[
        str | None, typer.Option("--faces", metavar="main|all", help="The main face of a clip, or a row per person.")
    ] = None,
    video: Annotated[
        bool, typer.Option("--video", help="Also write each clip as an mp4 with faces and verdicts drawn in.")
    ] = False,
    follow_links: FollowLinks = False,
) -> dict[str, Any]:
    """Score videos with the champion: tables with one row per clip, tables of frames, and report.html."""
    from fer_core.scoring.batch import new_folder
    from fer_core.scoring.inputs import collect
    from fer_core.workspace import Workspace
    from flows.commands.windows import with_windows
    from flows.support.champion import account_for, champion_scorer, record_batch, score_into, summarize
    from flows.support.missing import inputs

    config = with_windows(settled(session, follow_links), windows, step)
    if faces not in (None, "main", "all"):
        raise ConfigError(f"--faces is '{faces}'; it may be main or all")
    chosen: dict[str, Any] = {"video": True} if video else {}
    chosen |= {"faces": faces} if faces else {}
    config = config.model_copy(update={"score": config.score.model_copy(update=chosen)})
    if explain is not None:
        config = config.model_copy(update={"score": config.score.model_copy(update={"explain": explain})})
    inputs(paths, config)
    items = collect(paths, follow_links=config.limits.follow_links)
    if len(items) <= AT_ONCE and "PREFECT_API_URL" not in os.environ and config.runner.kind == "threads":
        scorer, workspace = champion_scorer(config), Workspace.open(config.workspace)
        with session.progress("Scoring") as progress:
            folder = out.expanduser().absolute() if out else new_folder(workspace.scored)
            batch = score_into(scorer, items, folder, workspace.store, progress)
        _tell_verdicts(session, batch)
        result = summarize(scorer, batch) | account_for(paths, config, folder)
        result |= record_batch(config, scorer, batch, items)
        _tell(session, "score", result)
    else:
        arguments = {"paths": [str(p) for p in paths], "out": str(out or "")}
        result = run_flow(session, "flows.score", "score_flow", config, **arguments)
    if result["drift"]:
        session.say(f"Warning: {result['drift']}; see {result['drift_page']}")
    if result["synthetic_trained"]:
        session.say("trained on synthetic faces: its verdicts on real people are unproven")
    if (strict or config.score.strict) and result["unscored"]:
        session.exit_code = BAD_ROWS
    session.say(f"Look at it, and review labels: python3 -m webbrowser {shlex.quote(result['report'])}")
    session.next("the labels that you saved there, in your manifest", "data", "correct", "corrections.csv", "clips.csv")
    return result


def _tell_verdicts(session: Session, batch: Batch) -> None:
    """A line a clip: its verdict and confidence, or why it has none."""
    several = Counter(row.path for row in batch.rows)
    for row in batch.rows:
        who = f"{row.clip}, person {row.person}" if several[row.path] > 1 else row.clip
        if row.emotion is None:
            session.say(f"{who}: {row.status.value}: {row.reason}")
        else:
            why = row.reason.removeprefix("abstained: ")
            doubt = f"; abstained: {why or 'uncertain'}" if row.abstained else f"; {why}" if why else ""
            session.say(f"{who}: {row.emotion}, {row.confidence:.0%}{doubt}")


@command(reads=reads.SCORE)
def evaluate(
    session: Session,
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="CSV",
            help="Manifest of labelled clips; with --stress, labels are not needed, and a folder will do.",
            show_default=False,
        ),
    ],
    version: Annotated[int, typer.Option(min=0, help="Version of the registered model; 0: the champion.")] = 0,
    stress: Annotated[
        bool,
        typer.Option("--stress", help="Score again: mirrored, scaled, moved, thinned, turned, darker, compressed."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="HTML", help="Page to write; default: in the workspace.")
    ] = None,
) -> dict[str, Any]:
    """Evaluate a version on labelled clips of people that it was not trained on; writes a page and an MLflow run."""
    from fer_core.dataset.load import labelled_clips
    from fer_core.scoring.inputs import unlabelled
    from flows.support.champion import version_scorer
    from flows.support.environment import check_local

    config = settled(session)
    check_local(config, "an evaluation")
    path = manifest.expanduser().absolute()
    if not (stress and unlabelled(path, follow_links=config.limits.follow_links)):
        labelled_clips(path, None)  # what the flow would refuse after a server has started
    version_scorer(config, version)
    page = str(out.expanduser().absolute()) if out else ""
    arguments = {"manifest": str(path), "version": version, "stress": stress, "out": page}
    result = run_flow(session, "flows.evaluate", "evaluate_flow", config, **arguments)
    session.next("all versions and what each costs", "list", "versions")
    return result
