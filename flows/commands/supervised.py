"""Run programs under a supervisor until Ctrl-C or SIGTERM; shared by `ferflow up` and `ferflow worker`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from flows.commands.session import Session

if TYPE_CHECKING:
    from mlflow_server.supervise import Program


def run_until_stopped(
    session: Session,
    folder: Path,
    programs: Sequence[Program],
    environment: Mapping[str, str],
    start_s: float,
    on_ready: Callable[[], None],
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Start programs, and stop them all when a signal comes.

    Args:
        session: prints what is done.
        folder: folder of logs and socket.
        programs: the programs.
        environment: variables for them.
        start_s: seconds in which all must be ready.
        on_ready: called when they are.
        on_end: called before they are stopped.
    Raises:
        ServerError: they do not start, or end by themselves.
    """
    from mlflow_server import ServerError
    from mlflow_server.supervise import Supervisor

    previous = {s: signal.signal(s, _interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    supervisor = Supervisor(folder, programs, environment)
    try:
        session.note(f"Starting; logs are in {supervisor.folder}")
        supervisor.wait_ready(start_s, lambda name, s: session.note(f"  {name} is up ({s:.0f} s)"))
        on_ready()
        raise ServerError(f"supervisord ended by itself ({supervisor.wait()}); see {supervisor.folder}")
    except KeyboardInterrupt:
        session.note("Stopping ...")
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them
        on_end()
        supervisor.stop()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
