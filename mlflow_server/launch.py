"""The MLflow server of a workspace: its command line, its environment, and the settings that it refuses.

On loopback it requires the workspace's password, and artifacts are written directly to `<workspace>/artifacts`, so a
run can be read with and without the server. With a file of users, MLflow's own accounts ask, and artifacts are sent
through the server. So are artifacts in a bucket: only the server needs its keys.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from mlflow_server import ServerError

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
PROXIED = "mlflow-artifacts:/"  # clients send artifacts to the server
PROBE_S = 5


@dataclass(frozen=True)
class Server:
    """A program that answers at `url`; secrets are in `environment`, never in `command`, which other users can list."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    url: str


def mlflow_server(
    workspace: Path,
    host: str = "127.0.0.1",
    port: int = 5000,
    database: str = "",
    users: Path | None = None,
    artifacts: str = "",
) -> Server:
    """Return the command and environment that start MLflow for a workspace.

    Args:
        workspace: folder with `mlflow.db` and `artifacts/`.
        host: address to listen on.
        port: port to listen on.
        database: SQLAlchemy URL of PostgreSQL or SQLite; empty for SQLite in the workspace.
        users: file of the people who may log in; None: one password, on this machine only.
        artifacts: `s3://bucket/folder`; empty for `artifacts/` in the workspace.
    Raises:
        ServerError: the bucket cannot be used, other machines can reach `host` and there are no users, the database is
            of an unknown kind, or a package for MLflow's accounts is missing.
    """
    check_exposed(host, users)
    if artifacts:
        check_bucket(artifacts)
    if database.partition("://")[0] not in ("", "sqlite", "postgresql", "postgresql+psycopg"):
        kind = database.partition("://")[0]
        raise ServerError(f"MLflow's database is '{kind}://…'; use postgresql+psycopg://… or sqlite:///…")
    environment = {
        "MLFLOW_BACKEND_STORE_URI": database or f"sqlite:///{workspace / DATABASE}",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": artifacts or str(workspace / ARTIFACTS),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # starts eight more processes, which are not used here
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    if database.startswith("postgresql"):  # each pooled connection would fail once after a restart
        environment["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    if users is None:
        environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(f"{name}:*" for name in names(host))
        command = (*guarded("mlflow_server.launch:mlflow_app", host, port), "--ask")
        return Server(command, environment, url(host, port))
    environment |= _accounts(workspace)
    command = (*guarded("mlflow_server.launch:team_app", host, port), "--ask", "--accounts")
    return Server(command, environment, url(host, port))


def _accounts(workspace: Path) -> dict[str, str]:
    """Write the settings of MLflow's accounts, and return the environment that names them."""
    if importlib.util.find_spec("flask_wtf") is None:
        raise ServerError("logins of several people need Flask-WTF; install it with: pip install 'ferflow[team]'")
    folder = workspace / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "mlflow-accounts.ini"
    database = folder / "mlflow-accounts.db"
    database.touch(mode=0o600)
    settings.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{database}\n"
        "grant_default_workspace_access = false\n",
        encoding="utf-8",
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_urlsafe(32),
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",  # the guard checks them
        "_MLFLOW_SGI_NAME": "uvicorn",  # MLflow then returns an ASGI app with all of its routes behind the accounts
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",  # refuse a route that has no rule of its own
    }


def write_accounts(users: Path, environment: Mapping[str, str]) -> None:
    """Write the users into MLflow's accounts, in a process of its own.

    Raises:
        ServerError: MLflow refuses them; the message has its last line.
    """
    command = [sys.executable, "-P", "-m", "mlflow_server.users", str(users)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ServerError(f"MLflow's accounts cannot be written: {last}")


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
    if artifacts.startswith("s3://"):
        _serve_artifacts(artifacts)
        artifacts = PROXIED
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = artifacts
    initialize_backend_stores(database, database, artifacts)
    from mlflow.server.fastapi_app import app

    return app


def team_app() -> Any:
    """Return MLflow's app with its accounts; clients send artifacts through it, since they may be on other machines."""
    _serve_artifacts(os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"])
    os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = PROXIED
    mlflow_app()
    from mlflow.server.auth import create_app

    return create_app()


def _serve_artifacts(destination: str) -> None:
    """Make MLflow's app take artifacts from clients, and keep them at `destination`."""
    from mlflow.server import constants

    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = destination


def check_bucket(artifacts: str) -> None:
    """Check within seconds that a bucket can be reached with the keys of the environment.

    Raises:
        ServerError: it is no `s3://` address, boto3 is not installed, or the bucket cannot be reached.
    """
    parts = urlsplit(artifacts)
    if parts.scheme != "s3" or not parts.netloc or parts.username or parts.query:
        raise ServerError(f"artifacts go to s3://BUCKET/FOLDER; got '{parts.scheme}://…' or no bucket")
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as exc:
        raise ServerError("artifacts in S3 need boto3; install it with: pip install 'ferflow[s3]'") from exc
    patience = Config(connect_timeout=PROBE_S, read_timeout=PROBE_S, retries={"total_max_attempts": 1})
    try:
        client = boto3.Session().client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"), config=patience)
        client.head_bucket(Bucket=parts.netloc)
    except (BotoCoreError, ClientError, ValueError) as exc:
        raise ServerError(
            f"bucket '{parts.netloc}' cannot be used ({exc}); make it, or see to $AWS_ACCESS_KEY_ID, "
            "$AWS_SECRET_ACCESS_KEY, $AWS_DEFAULT_REGION and, for a server other than Amazon's, $MLFLOW_S3_ENDPOINT_URL"
        ) from exc


def check_exposed(host: str, users: Path | None) -> None:
    """Refuse a host that other machines can reach, unless there are users who log in.

    Raises:
        ServerError: there are none.
    """
    if not is_loopback(host) and users is None:
        raise ServerError(
            f"host {host} can be reached from other machines, so people must log in: write a file of users and name it "
            "with --users (docs/team.md shows one), or leave the host at 127.0.0.1"
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
    """Return the host names to answer to, without a port: loopback, and beyond it all names of this machine."""
    wanted = ["localhost", "127.0.0.1", "[::1]"]
    if not is_loopback(host):
        extra = os.environ.get("FERFLOW_ALLOWED_HOSTS", "").split(",")
        addresses = [a.address for card in psutil.net_if_addrs().values() for a in card if a.family == socket.AF_INET]
        wanted += [host, socket.gethostname(), socket.getfqdn(), *addresses, *(name.strip() for name in extra)]
    return list(dict.fromkeys(name for name in wanted if name and name not in ("0.0.0.0", "::")))
