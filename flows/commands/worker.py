"""`ferflow worker`: this machine takes flow runs from the work pool of `ferflow up` on another one."""

from __future__ import annotations

import socket
import sys
from typing import Annotated, Any

import typer

from fer_core.errors import ConfigError
from flows.commands.session import Session, command
from flows.commands.supervised import run_until_stopped

START_S = 60.0


@command(reads=())
def worker(
    session: Session,
    server: Annotated[str, typer.Option(metavar="URL", help="Prefect server of 'ferflow up --pool NAME'.")],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of this worker in the Prefect UI; default: this machine's.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Flow runs at a time; others wait, or go to another machine.")] = 2,
) -> dict[str, Any]:
    """Take flow runs from the 'ferflow up --pool NAME' of another machine; Ctrl-C cancels those that run here.

    Both machines need the workspace under the same path, on a disk that they share.
    """
    from filelock import FileLock, Timeout

    from fer_core.runtime import resolve_workspace, workspace_path
    from flows.support.joining import join
    from mlflow_server import ServerError
    from mlflow_server.supervise import Program, stop_all

    name = name or socket.gethostname()
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise ConfigError(f"--name {name} has other characters than letters, digits, '.', '-' and '_'")
    joined = join(server, workspace_path(session.config.workspace))
    if name == joined.pool.host:
        raise ConfigError(f"'{name}' is the name of the machine of 'ferflow up', which takes runs too; choose a --name")
    folder = resolve_workspace(session.config.workspace) / "servers" / f"worker-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder / "ready"
    command = [sys.executable, "-m", "flows.worker", "--pool", joined.pool.name, "--name", name]
    command += ["--limit", str(limit), "--ready", str(ready)]
    programs = [Program("worker", command, ready.is_file, stop_s=8)]

    def tell() -> None:
        for run in ready.read_text(encoding="utf-8").splitlines():
            session.note(f"Flow run '{run}' was left unfinished by an earlier worker, and is Crashed now")
        session.say(f"Worker '{name}' takes up to {limit} flow runs of pool '{joined.pool.name}' at a time.")
        session.say("Ctrl-C cancels the runs here and stops it.")

    try:
        with FileLock(folder / "lock", timeout=0):
            if left := stop_all(folder):
                session.note(f"An earlier worker was killed and left {left} processes; they are stopped now")
            ready.unlink(missing_ok=True)
            run_until_stopped(session, folder, programs, joined.environment, START_S, tell)
    except Timeout as exc:
        raise ConfigError(f"a worker named '{name}' runs already; choose another --name, or stop it") from exc
    except ServerError as exc:
        raise ConfigError(str(exc)) from exc
    return {"worker": name, "pool": joined.pool.name, "stopped": True}
