"""The command line. Each command reads settings and runs one flow or, if it takes only seconds, calls the library.

This module only registers the commands, so `ferflow --help` answers at once; each command imports its modules later.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fer_core import __version__
from flows.commands import (
    backup,
    compare,
    config,
    correct,
    data,
    diff,
    doctor,
    forget,
    frames,
    lists,
    reproduce,
    runs,
    servers,
    store,
    sync,
    watch,
    weights,
    worker,
)  # fmt: skip
from flows.commands.session import INTERRUPTED, TERMINATED

app = typer.Typer(
    name="ferflow",
    help="Emotion recognition from videos of faces: from clips to a champion model and scored folders of videos.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ferflow {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Only here for its option."""


data_app = typer.Typer(help="Clips: find, merge, split, compare, draw, forget.", no_args_is_help=True)

for function in (
    runs.demo, doctor.doctor, config.config, runs.preprocess, runs.search, runs.train, runs.adopt,
    runs.promote, runs.rollback, sync.sync, runs.score, watch.watch, diff.diff, runs.evaluate, compare.compare,
    reproduce.reproduce, reproduce.cross_database, servers.up, servers.status, worker.worker, backup.backup,
    backup.restore, store.store,
):  # fmt: skip
    app.command()(function)
app.add_typer(data_app, name="data")
for function in (
    data.scan, data.merge, data.split, runs.card, data.diff, correct.correct, frames.frames, data.synth, forget.forget,
):  # fmt: skip
    data_app.command()(function)


class _ListByDefault(TyperGroup):
    """A command group that runs `list` when no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if {*args[:1]} & {*self.commands, "--help"} else ["list", *args])


weights_app = typer.Typer(cls=_ListByDefault, help="Networks that know faces, from published packages: list, fetch.")
for name, function in (("list", weights.listed), ("fetch", weights.fetch)):
    weights_app.command(name)(function)
app.add_typer(weights_app, name="weights")


list_app = typer.Typer(help="What there is, and what each cost: versions, trials, runs.", no_args_is_help=True)
for function in (lists.versions, lists.trials, lists.runs):
    list_app.command()(function)
app.add_typer(list_app, name="list")


def main() -> None:
    """Entry point of the `ferflow` command. An interrupted command writes its output and exits immediately."""
    code = 1
    atexit.register(lambda: _leave(code))  # registered first, so it runs last, after those of all libraries
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code in (INTERRUPTED, TERMINATED):
            _leave(code)
        raise


def _leave(code: int) -> None:
    """End the process without freeing what torch and Prefect hold, which takes half a minute on a busy machine.

    Everything that matters is closed.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed by its reader
            stream.flush()
    os._exit(code)
