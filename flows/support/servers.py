"""What `ferflow up` starts for a workspace: three programs, their environment, and their addresses."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from fer_core.config import WatchConfig
from fer_core.databases import beside
from flows.support.environment import prefect_environment
from mlflow_server import launch
from mlflow_server.address import MLFLOW_PASSWORD, MLFLOW_USER, PREFECT_AUTH, answers, make_credentials
from mlflow_server.supervise import Program
from mlflow_server.users import read_users

POLL_S = "2"  # between looks for runs to start; Prefect's 10 s is twice the CPU time of a scoring run's imports
PREFECT = "prefect"  # suffix of Prefect's database beside MLflow's, since both keep tables of the same name


@dataclass(frozen=True)
class ServerOptions:
    """The options of the servers.

    Args:
        host: interface to listen on.
        mlflow_port, prefect_port: ports to listen on.
        database: PostgreSQL URL for MLflow, beside which Prefect's database is; or SQLite URL for MLflow alone; empty:
            SQLite in the workspace.
        users: absolute path of the file of people who may log in; None: one password, on this machine only.
        artifacts: `s3://bucket/folder` for MLflow's artifacts; empty: `artifacts/` in the workspace.
        watch: the folder that is looked into regularly, if it names one.
        pool: work pool of Prefect from which workers of other machines take flow runs; empty: none.
    """

    host: str = "127.0.0.1"
    mlflow_port: int = 5000
    prefect_port: int = 4200
    database: str = ""
    users: Path | None = None
    artifacts: str = ""
    watch: WatchConfig = field(default_factory=WatchConfig)
    pool: str = ""


def note_database(workspace: Path, database: str) -> None:
    """Write down the database of the servers, for a backup."""
    file = workspace / "servers" / "database"
    file.write_text(f"{database}\n", encoding="utf-8")


def noted_database(workspace: Path) -> str:
    """Return the PostgreSQL database with which the servers were started last; empty for SQLite."""
    file = workspace / "servers" / "database"
    noted = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return noted if noted.startswith("postgresql") else ""


@dataclass(frozen=True)
class Servers:
    """The programs to start, in order, their environment, and the URLs of MLflow and Prefect."""

    programs: tuple[Program, ...]
    environment: dict[str, str]
    mlflow: str
    prefect: str


def servers_of(workspace: Path, options: ServerOptions) -> Servers:
    """Return what to start for a workspace; writes its credentials and MLflow's accounts.

    Raises:
        ServerError: the options do not go together, or the users' file cannot be used.
    """
    users, host = options.users, options.host
    if users:
        read_users(users)
    note_database(workspace, options.database)
    mlflow = launch.mlflow_server(workspace, host, options.mlflow_port, options.database, users, options.artifacts)
    prefect = launch.url(host, options.prefect_port)
    ready = workspace / "servers" / "flows.ready"
    ready.unlink(missing_ok=True)
    logins = make_credentials(workspace)
    team = {}
    if users:
        admin = {
            "MLFLOW_AUTH_ADMIN_USERNAME": logins[MLFLOW_USER],
            "MLFLOW_AUTH_ADMIN_PASSWORD": logins[MLFLOW_PASSWORD],
        }
        team = {"FERFLOW_USERS": str(users), **admin}
        launch.write_accounts(users, {**mlflow.environment, **logins, **team})
    watched = ("--watch", options.watch.model_dump_json()) if options.watch.folder else ()
    shared = ("--pool", options.pool) if options.pool else ()
    programs = (
        Program("mlflow", mlflow.command, lambda: answers(f"{mlflow.url}/health"), stop_s=1),
        Program(
            "prefect",
            launch.guarded("flows.prefect_app:prefect_app", host, options.prefect_port),
            lambda: answers(f"{prefect}/api/health"),
        ),
        Program(
            "flows",
            (sys.executable, "-m", "flows.serve", "--ready", str(ready), *watched, *shared),
            ready.is_file,
            stop_s=6 if shared else 4,
            last=True,
        ),
    )
    environment = {
        **prefect_environment(workspace, f"{prefect}/api"),
        **mlflow.environment,
        **_prefect_database(options.database),
        **logins,
        **team,
        "PREFECT_SERVER_API_AUTH_STRING": logins[PREFECT_AUTH],
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": prefect,
        "PREFECT_RUNNER_POLL_FREQUENCY": POLL_S,
        "PREFECT_WORKER_QUERY_SECONDS": POLL_S,
        "PREFECT_UI_API_URL": "/api",  # relative: of whatever name the page was opened by
        "PREFECT__SERVER_FINAL": "1",  # as `prefect server start` says: routes are built once, which saves memory
        "FERFLOW_WORKSPACE": str(workspace),
        "PYTHONUNBUFFERED": "1",
    }
    return Servers(programs, environment, mlflow.url, prefect)


def _prefect_database(database: str) -> dict[str, str]:
    """Return the variable that puts Prefect onto the PostgreSQL server of MLflow; empty for SQLite."""
    if not database.startswith("postgresql"):
        return {}
    url = make_url(beside(database, PREFECT)).set(drivername="postgresql+asyncpg")
    query = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}  # as asyncpg names it
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url.set(query=query).render_as_string(False)}
