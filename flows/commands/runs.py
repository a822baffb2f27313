"""The commands that run a flow: they take minutes, show in Prefect, and end with a summary and the next step.

A flow gets the whole RunConfig and returns a JSON-able dict; its `next` is a list of lines saying where to look.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.session import BAD_ROWS, Session, command


@command(preset="demo")
def demo(session: Session) -> dict[str, Any]:
    """The whole way on drawn faces: clips, faces, a small search, a champion, a scored folder."""
    return _run(session, "flows.end_to_end", "end_to_end_flow")


@command()
def preprocess(session: Session) -> dict[str, Any]:
    """Find the faces in every clip of the manifest and store them."""
    return _run(session, "flows.preprocess", "preprocess_flow")


@command()
def search(session: Session) -> dict[str, Any]:
    """Search settings by subject-grouped cross-validation; every trial is an MLflow run."""
    return _run(session, "flows.search", "search_flow")


@command()
def train(session: Session) -> dict[str, Any]:
    """Fit one head with the settings given, and register it as a candidate."""
    return _run(session, "flows.train", "train_flow")


@command()
def promote(
    session: Session,
    version: Annotated[int, typer.Option(min=1, help="Version of the registered model; default: the newest.")] = 0,
) -> dict[str, Any]:
    """Put a version through the gate and make it champion."""
    return _run(session, "flows.promote", "promote_flow", version=version)


@command()
def score(
    session: Session,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Videos, folders of them, or a manifest.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of verdicts and report.")],
    strict: Annotated[bool, typer.Option("--strict", help="End with code 3 when a row has no verdict.")] = False,
) -> dict[str, Any]:
    """Score videos with the champion: verdicts.csv, verdicts.parquet and report.html, one row a clip whatever it is."""
    result = _run(session, "flows.score", "score_flow", paths=[str(p) for p in paths], out=str(out))
    if (strict or session.config.score.strict) and result["unscored"]:
        session.exit_code = BAD_ROWS
    return result


def _run(session: Session, module: str, flow: str, **arguments: Any) -> dict[str, Any]:
    """Run a flow in this process, on a running server or a temporary one, and tell its result."""
    from flows.environment import prepare
    from flows.progress import watched_by

    config = prepare(session.config)
    where = os.environ.get("PREFECT_API_URL") or "a temporary one, 10 s to start; 'ferflow up' keeps one running"
    session.err.print(f"Workspace {config.workspace}; Prefect server: {where}", soft_wrap=True)
    run = getattr(import_module(module), flow)
    session.show_logs()  # Prefect has set up its own
    with session.bars() as move, watched_by(move):
        result: dict[str, Any] = run(config, **arguments)
    session.table("", ("", flow.removesuffix("_flow")), [(k, _told(v)) for k, v in result.items() if k != "next"])
    session.say_lines(result.get("next", ()))
    return result


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_told(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(_told(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
