"""`ferflow up` and `ferflow status`: the workspace's MLflow, Prefect and served flows."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
import typer

from fer_core.errors import ConfigError
from flows.commands.session import Session, command
from flows.commands.supervised import run_until_stopped

if TYPE_CHECKING:
    from flows.support.servers import ServerOptions, Servers

START_S = 180.0  # MLflow makes 65 tables on its first start; 7-12 s each on an idle machine


@command(reads=("watch",))
def up(
    session: Session,
    host: Annotated[str, typer.Option(help="Interface to listen on; beyond loopback only with --users.")] = (
        "127.0.0.1"
    ),
    users: Annotated[
        Path | None,
        typer.Option("--users", metavar="FILE", help="YAML of the people who may log in: NAME: {password, role}."),
    ] = None,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    prefect_port: Annotated[int, typer.Option(min=1, max=65535)] = 4200,
    database: Annotated[
        str,
        typer.Option(
            envvar="FERFLOW_MLFLOW_DATABASE",
            help="PostgreSQL URL for MLflow; Prefect's is NAME_prefect beside it; default SQLite.",
            show_envvar=True,
        ),
    ] = "",
    artifacts: Annotated[
        str, typer.Option(metavar="s3://BUCKET/FOLDER", help="Where MLflow keeps artifacts; default: the workspace.")
    ] = "",
    pool: Annotated[
        str, typer.Option(metavar="NAME", help="Work pool that 'ferflow worker' on other machines takes runs from.")
    ] = "",
    write_units: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Start nothing; write a systemd unit and a compose file of these options."),
    ] = None,
) -> dict[str, Any]:
    """Start MLflow, Prefect and the served flows on this machine; Ctrl-C stops them all."""
    from filelock import FileLock, Timeout

    from fer_core.databases import beside, check_extension, make_database, with_driver
    from flows.support.missing import watched
    from flows.support.servers import PREFECT, ServerOptions
    from mlflow_server import ServerError, address
    from mlflow_server.supervise import stop_all

    workspace, watch = session.workspace, session.config.watch
    if database:
        database = with_driver(database)
        make_database(database, "--database", ConfigError)
        if database.startswith("postgresql"):
            check_extension(database, "pg_trgm", ConfigError)
            make_database(beside(database, PREFECT), "--database", ConfigError)
    if watch.folder:
        watch = watch.model_copy(update={"folder": str(watched(session.config))})
    users = users.expanduser().absolute() if users else None
    options = ServerOptions(host, mlflow_port, prefect_port, database, users, artifacts, watch, pool)
    if write_units:
        return _write_units(session, options, write_units.expanduser().absolute())
    folder = workspace / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            address.withdraw(workspace)
            if left := stop_all(folder):
                session.note(f"An earlier 'ferflow up' was killed and left {left} processes; they are stopped now")
            servers = _serve(session, options)
    except Timeout as exc:
        raise ConfigError(_already(workspace)) from exc
    except ServerError as exc:
        raise ConfigError(str(exc)) from exc
    return {"mlflow": servers.mlflow, "prefect": servers.prefect, "stopped": True}


def _serve(session: Session, options: ServerOptions) -> Servers:
    """Run the servers until a signal comes; return them. Raises ServerError when they end by themselves."""
    from fer_core.config import TrackingConfig
    from fer_core.tracking.connection import connect
    from flows.support.servers import servers_of
    from mlflow_server import address
    from mlflow_server.supervise import check_free

    workspace = session.workspace
    check_free(options.host, [(options.mlflow_port, "--mlflow-port"), (options.prefect_port, "--prefect-port")])
    servers = servers_of(workspace, options)
    addresses = (servers.mlflow, servers.prefect)
    runs = ""
    if not (
        options.database or options.users or options.artifacts
    ):  # makes MLflow's tables whole; a server stopped meanwhile would not
        runs = f"#/experiments/{connect(TrackingConfig(), workspace).experiment_id}/runs"

    def tell() -> None:
        address.announce(workspace, address.Addresses(*addresses, pid=os.getpid()))
        _say_links(session, addresses, runs)
        session.say("Each link logs your browser in; pass none on. Ctrl-C stops the servers.")
        if options.users:
            session.say(
                f"The people in {options.users} log in with their own passwords; the links above are the owner's."
            )
        if options.pool:
            everywhere = options.host in ("0.0.0.0", "::")
            server = f"http://{socket.getfqdn()}:{options.prefect_port}" if everywhere else addresses[1]
            session.say(f"Other machines take runs too: ferflow worker --server {server} --workspace {workspace}")

    run_until_stopped(
        session, workspace / "servers", servers.programs, servers.environment, START_S, tell,
        on_end=lambda: address.withdraw(workspace),
    )  # fmt: skip
    return servers


def _write_units(session: Session, options: ServerOptions, folder: Path) -> dict[str, Any]:
    """Write the units that run `ferflow up` with these options."""
    from mlflow_server import ServerError
    from mlflow_server.launch import check_exposed, url
    from mlflow_server.units import Unit, write_units

    workspace, watch = session.workspace, options.watch
    command = [str(Path(sys.argv[0]).absolute()), "up", "--workspace", str(workspace), "--host", options.host]
    command += ["--mlflow-port", str(options.mlflow_port), "--prefect-port", str(options.prefect_port)]
    command += ["--database", options.database] if options.database else []
    command += ["--artifacts", options.artifacts] if options.artifacts else []
    command += ["--users", str(options.users)] if options.users else []
    command += ["--pool", options.pool] if options.pool else []
    if watch.folder:
        for name, value in watch.model_dump().items():
            command += ["--set", f"watch.{name}={value}"]
    reads = [path for path in (options.users, Path(watch.folder) if watch.folder else None) if path]
    unit = Unit(
        command=command,
        workspace=workspace,
        reads=[path for path in reads if not path.is_relative_to(workspace)],
        health=f"{url(options.host, options.prefect_port)}/api/health",
        user=getpass.getuser(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
    )
    try:
        check_exposed(options.host, options.users)
        files = write_units(folder, unit)
    except ServerError as exc:
        raise ConfigError(str(exc)) from exc
    session.say_lines(str(file) for file in files)
    unit_file = shlex.quote(str(folder / "ferflow.service"))
    session.say(f"systemd: sudo cp {unit_file} /etc/systemd/system/ && sudo systemctl enable --now ferflow")
    return {"written": [str(file) for file in files]}


def _already(workspace: Path) -> str:
    """Return the message of a second 'ferflow up': another one holds the workspace's lock."""
    from mlflow_server import address

    found = address.announced(workspace)
    if found is None:
        return f"another 'ferflow up' is just starting or stopping the servers of workspace {workspace}; wait for it"
    return (
        f"workspace {workspace} is up already: MLflow at {found.mlflow}, Prefect at {found.prefect}; "
        f"stop it with Ctrl-C where it runs, or: kill {found.pid}"
    )


@command(reads=())
def status(session: Session) -> dict[str, Any]:
    """Show which servers of the workspace are running, their addresses, and every process with its pid."""
    from mlflow_server import address
    from mlflow_server.supervise import running_processes

    workspace = session.workspace
    found = address.announced(workspace)
    processes: list[tuple[str, str, int]] = []
    servers = {
        name: {"url": url, "answers": address.answers(url + health)}
        for name, url, health in (
            [("MLflow", found.mlflow, "/health"), ("Prefect", found.prefect, "/api/health")] if found else []
        )
    }
    if found:
        session.table(
            "",
            ("server", "address", "state"),
            [(n, s["url"], "up" if s["answers"] else "does not answer") for n, s in servers.items()],
        )
        processes = [("ferflow up", "running", found.pid)] if found.pid and psutil.pid_exists(found.pid) else []
        processes += running_processes(workspace / "servers")
        session.table("", ("process", "state", "pid"), processes)
        session.say("Links that log your browser in; pass none on:")
        _say_links(session, (found.mlflow, found.prefect))
    else:
        session.say(f"No servers run for {workspace}; start them with 'ferflow up'. Commands work without.")
    session.next("all runs", "list", "runs")
    told = [{"name": name, "state": state, "pid": pid} for name, state, pid in processes]
    return {"workspace": str(workspace), "servers": servers, "processes": told}


def _say_links(session: Session, urls: tuple[str, str], runs: str = "") -> None:
    """MLflow's and Prefect's links; whoever set a password by himself logs in with that."""
    from mlflow_server.address import MLFLOW_PASSWORD, MLFLOW_USER, PREFECT_AUTH, credentials, login_link

    kept = credentials(session.workspace)
    mlflow = f"{kept[MLFLOW_USER]}:{kept[MLFLOW_PASSWORD]}" if MLFLOW_PASSWORD in kept else ""
    session.say(f"MLflow   {login_link(urls[0], mlflow, runs)}  (its switch 'Model training' shows runs as a table)")
    session.say(f"Prefect  {login_link(urls[1], kept.get(PREFECT_AUTH, ''))}")
