"""The MLflow server of a workspace: its command line, its environment, and the settings that it refuses.

The server is on loopback and requires the workspace's password, unless MLflow's own accounts are set up. On loopback,
artifacts are written directly to `<workspace>/artifacts`, so a run can be read with and without the server. On other
hosts, artifacts are sent through the server.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_server import ServerError

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
SHORTEST_PASSWORD = 12  # MLflow's own minimum


@dataclass(frozen=True)
class Server:
    """A program that answers at `url`; secrets are in `environment`, never in `command`, which other users can list."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    url: str


def mlflow_server(workspace: Path, host: str = "127.0.0.1", port: int = 5000, database: str = "") -> Server:
    """Return the command and environment that start MLflow for a workspace.

    Args:
        workspace: folder with `mlflow.db` and `artifacts/`.
        host: address to listen on.
        port: port to listen on.
        database: SQLAlchemy URL of PostgreSQL or SQLite; empty for SQLite in the workspace.
    Raises:
        ServerError: `host` is not loopback and no authentication is set, the database is of an unknown kind, or a
            package for MLflow's accounts is missing.
    """
    check_exposed(host, {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"})
    if database.partition("://")[0] not in ("", "sqlite", "postgresql", "postgresql+psycopg"):
        kind = database.partition("://")[0]
        raise ServerError(f"MLflow's database is '{kind}://…'; use postgresql+psycopg://… or sqlite:///…")
    artifacts = str(workspace / ARTIFACTS)
    hosts = ",".join(f"{name}:*" for name in names(host))
    environment = {
        "MLFLOW_BACKEND_STORE_URI": database or f"sqlite:///{workspace / DATABASE}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # starts eight more processes, which are not used here
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # it runs `uvicorn`
    }
    if database.startswith("postgresql"):  # each pooled connection would fail once after a restart
        environment["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    if not has_accounts():
        environment |= {"MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts, "MLFLOW_SERVER_ALLOWED_HOSTS": hosts}
        return Server((*guarded("mlflow_server.launch:mlflow_app", host, port), "--ask"), environment, url(host, port))
    if importlib.util.find_spec("flask_wtf") is None:
        raise ServerError("MLflow's authentication needs Flask-WTF; install it with: pip install 'mlflow[auth]'")
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    if is_loopback(host):
        command += ["--no-serve-artifacts", "--default-artifact-root", artifacts]
    else:
        command += ["--serve-artifacts", "--artifacts-destination", artifacts]
    command += ["--allowed-hosts", hosts, "--app-name", "basic-auth"]
    return Server(tuple(command), environment, url(host, port))


def has_accounts() -> bool:
    """Return True if the environment has a password for the administrator of MLflow's own accounts."""
    return bool(os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD"))


def guarded(app: str, host: str, port: int) -> tuple[str, ...]:
    """Return the command that serves an app behind `mlflow_server.guard`."""
    # -P: a folder in the workspace must not be imported in place of a package
    command = (sys.executable, "-P", "-m", "mlflow_server.guard", app)
    return (*command, "--host", host, "--port", str(port), "--hosts", ",".join(names(host)))


def mlflow_app() -> Any:
    """Return MLflow's app for the database and artifact folder in the environment, as `mlflow server` sets it up."""
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    database, artifacts = os.environ["MLFLOW_BACKEND_STORE_URI"], os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"]
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = database
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = artifacts
    initialize_backend_stores(database, database, artifacts)
    from mlflow.server.fastapi_app import app

    return app


def check_exposed(host: str, secrets: set[str]) -> None:
    """Refuse a host that other machines can reach, unless the environment has all `secrets`, each long enough.

    Raises:
        ServerError: a secret is missing or too short.
    """
    if is_loopback(host):
        return
    for name in sorted(secrets):
        if len(os.environ.get(name, "")) < SHORTEST_PASSWORD:
            raise ServerError(
                f"host {host} can be reached from other machines, so authentication must be set: "
                f"put at least {SHORTEST_PASSWORD} characters into ${name}, or leave the host at 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url(host: str, port: int) -> str:
    """Return the URL to open; for a wildcard host, the URL with its loopback address."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def names(host: str) -> list[str]:
    """Return the Host headers to accept, without a port, loopback included: MLflow's list replaces its default."""
    wanted = ["localhost", "127.0.0.1", "[::1]"]
    if not is_loopback(host):
        names = os.environ.get("FERFLOW_ALLOWED_HOSTS", "")
        wanted += [host] + [n.strip() for n in names.split(",") if n.strip()]
    return wanted
