"""`ferflow store`: what the workspace's store holds, and making room."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.errors import ConfigError
from flows.commands.session import Session, command


@command(reads=("manifest", "preprocess"))
def store(
    session: Session,
    manifest: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CSV...]", help="Their clips are in use; default: the run's.", show_default=False),
    ] = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="Remove what no clip of the manifest, and no trial, uses.")
    ] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="Remove only what was written longer ago.")
    ] = 0.0,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="KIND", help="Remove results too: comparisons, verdicts. May be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> dict[str, Any]:
    """List what is stored by size; remove some of it after confirmation. Removed files are made again when needed."""
    from fer_core.housekeeping.prune import RESULTS, files_of, removable, remove
    from fer_core.workspace import Workspace

    if unknown := [kind for kind in also or () if kind not in RESULTS]:
        raise ConfigError(f"--also takes {' or '.join(RESULTS)}, not '{unknown[0]}'")
    if also and not (unused or older_than):
        raise ConfigError("--also says what else is removed; add --unused or --older-than DAYS")
    workspace = Workspace(session.workspace)
    named = [*(manifest or ()), *([Path(session.config.manifest)] if session.config.manifest and not manifest else [])]
    files = []
    if unused or older_than:
        with session.progress("Reading clips") as progress:
            files = removable(
                workspace, session.config.preprocess, named,
                unused=unused, older_than_days=older_than, also=[r for r in RESULTS if r in (also or ())],
                progress=progress,
            )  # fmt: skip
    going = set(files)
    kinds = {
        kind: {
            "entries": len(paths),
            "bytes": _size(paths),
            "removable_entries": len(going.intersection(paths)),
            "removable_bytes": _size(going.intersection(paths)),
        }
        for kind, paths in files_of(workspace.store).items()
    }
    columns = ("kind", "entries", "MB") + (("may go", "MB that may go") if unused or older_than else ())
    rows = [
        (kind, n["entries"], _megabytes(n["bytes"]), n["removable_entries"], _megabytes(n["removable_bytes"]))
        for kind, n in kinds.items()
    ]
    session.table(str(workspace.store), columns, [row[: len(columns)] for row in rows])
    removed = bool(files) and (yes or _confirmed(session, f"Remove {len(files)} files?"))
    if removed:
        remove(files)
        session.say(f"Removed {len(files)} files.")
    elif files:
        session.say("Nothing is removed; --yes removes what may go.")
    if not (unused or older_than):
        session.next("what no clip and no trial uses", "store", "--unused")
    else:
        session.next("what is left", "store")
    return {"store": str(workspace.store), "kinds": kinds, "removed": removed}


def _confirmed(session: Session, question: str) -> bool:
    """Ask on a terminal; without one the answer is no."""
    return sys.stdin.isatty() and not session.as_json and typer.confirm(question, err=True)


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _megabytes(n: int) -> float:
    return round(n / 1e6, 1)
