"""The MLflow server of a workspace: its command line, its environment, and what it refuses.

Loopback unless authentication is set. On loopback, artifacts go straight to `<workspace>/artifacts`: a run logged
through the server is then read without it, and the other way round. Beyond loopback they go through the server.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow_server import ServerError

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
SHORTEST_PASSWORD = 12  # MLflow's own floor


@dataclass(frozen=True)
class Server:
    """A program that answers at `url`; secrets are in `environment`, never in `command`, which anyone can list."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    url: str


def mlflow_server(workspace: Path, host: str = "127.0.0.1", port: int = 5000, database: str = "") -> Server:
    """How to start MLflow for a workspace.

    Args:
        workspace: holds `mlflow.db` and `artifacts/`.
        database: SQLAlchemy URL of PostgreSQL or SQLite; empty: SQLite in the workspace.
    Raises:
        ServerError: `host` is not loopback and no authentication is set, or the database is of an unknown kind.
    """
    check_exposed(host, {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"})
    if database.partition("://")[0] not in ("", "sqlite", "postgresql", "postgresql+psycopg"):
        kind = database.partition("://")[0]
        raise ServerError(f"MLflow's database is '{kind}://…'; use postgresql+psycopg://… or sqlite:///…")
    artifacts = str(workspace / ARTIFACTS)
    auth = "MLFLOW_AUTH_ADMIN_PASSWORD" in os.environ
    if auth and importlib.util.find_spec("flask_wtf") is None:
        raise ServerError("MLflow's authentication needs Flask-WTF; install it with: pip install 'mlflow[auth]'")
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    if is_loopback(host):
        command += ["--no-serve-artifacts", "--default-artifact-root", artifacts]
    else:
        command += ["--serve-artifacts", "--artifacts-destination", artifacts]
    command += ["--allowed-hosts", ",".join(f"{name}:*" for name in _names(host))]
    command += ["--app-name", "basic-auth"] if auth else []
    environment = {
        "MLFLOW_BACKEND_STORE_URI": database or f"sqlite:///{workspace / DATABASE}",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, none of use here
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # it runs `uvicorn`
    }
    return Server(tuple(command), environment, url(host, port))


def check_exposed(host: str, secrets: set[str]) -> None:
    """Refuse a host that others can reach unless the environment holds `secrets`, none of them short.

    Raises:
        ServerError: one is missing, or easily guessed.
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
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url(host: str, port: int) -> str:
    """The address to open: a wildcard host is reached by its loopback name."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def _names(host: str) -> list[str]:
    """Host headers to accept; MLflow's list replaces its default, so loopback must be spelt out."""
    wanted = ["localhost", "127.0.0.1", "[::1]"]
    if not is_loopback(host):
        names = os.environ.get("FERFLOW_ALLOWED_HOSTS", "")
        wanted += [host] + [n.strip() for n in names.split(",") if n.strip()]
    return wanted
