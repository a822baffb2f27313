"""`ferflow watch`: score what arrives in a folder, each content once, until Ctrl-C."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.run_flow import settled
from flows.commands.session import Session, command
from flows.support import reads


@command(reads=reads.WATCH)
def watch(
    session: Session,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="The folder; default: incoming in the workspace.", show_default=False),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Score what is there now, and end.")] = False,
) -> dict[str, Any]:
    """Score the clips that arrive in a folder, each content once: one table, and a page, the newest first."""
    from fer_core.errors import FerError
    from fer_core.scoring.watch import WatchBusyError
    from flows.support.environment import check_local
    from flows.support.watching import Watcher

    config = settled(session)
    if folder:
        named = config.watch.model_copy(update={"folder": str(folder.expanduser().absolute())})
        config = config.model_copy(update={"watch": named})
    check_local(config, "a watched folder")
    watcher = Watcher(config)
    total = 0
    with session.progress("Scoring") as progress:
        while True:
            try:
                result = watcher.once(progress)
            except WatchBusyError as exc:
                if once:
                    raise
                session.note(str(exc))
            except FerError as exc:
                if once or not total:  # at the start a person is there to mend it
                    raise
                session.note(f"error: {exc}; the next look comes in {config.watch.every_s:.0f} s")
            else:
                if not total or result["clips"]:
                    _tell(session, result)
                total += 1
            if once:
                return result
            time.sleep(config.watch.every_s)


def _tell(session: Session, result: dict[str, Any]) -> None:
    found = ", ".join(f"{n} {emotion}" for emotion, n in result["emotions"].items()) or "no verdict"
    left = n if (n := result["still_being_written"]) else "none"
    new = f"{result['clips']} new ({found})" if result["clips"] else "nothing new"
    session.say(f"{time.strftime('%H:%M:%S')} {new}; {left} still being written")
    session.say(f"Look at them: python3 -m webbrowser {shlex.quote(result['page'])}")
