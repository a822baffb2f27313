"""The commands that run a flow: they take minutes, show in Prefect, and end with a summary and the next step.

A flow gets the whole RunConfig and returns a JSON-able dict; its `next` is a list of lines saying where to look.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.errors import FerError
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

    config = prepare(session.config)
    session.err.print(f"Workspace {config.workspace}")
    run = getattr(import_module(module), flow)
    _quieten(session)
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


class _NoTraceback(logging.Filter):
    """A user's mistake is told once, by the command, in a sentence; Prefect logs a traceback of it besides."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], FerError))


def _quieten(session: Session) -> None:
    """Prefect's own lines stay in its UI; on the terminal it says warnings only."""
    from prefect.logging.handlers import PrefectConsoleHandler

    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.setLevel(logging.ERROR)
                handler.addFilter(_NoTraceback())
    session.show_logs()
