"""Check that this machine can work for the servers of another one, and say in one sentence what is missing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

from fer_core.databases import without_password
from fer_core.errors import ConfigError
from fer_core.tracking.connection import TRACKING_URI
from flows.support.environment import PREFECT_S, prefect_environment
from flows.support.pool import VARIABLE, Pool
from flows.support.servers import POLL_S
from mlflow_server.address import (
    CREDENTIALS,
    MLFLOW_PASSWORD,
    MLFLOW_USER,
    PREFECT_AUTH,
    SERVERS,
    Addresses,
    announced,
    credentials,
)


@dataclass(frozen=True)
class Joined:
    """The pool to work for, and the environment variables of the worker."""

    pool: Pool
    environment: dict[str, str]


def join(server: str, workspace: Path) -> Joined:
    """Check server, password, workspace and MLflow, in this order, within seconds each.

    Args:
        server: URL of the Prefect server of `ferflow up`, as this machine reaches it.
        workspace: the workspace of that `ferflow up`, on a disk that both machines share.
    Raises:
        ConfigError: this machine cannot work for it.
    """
    url = server.rstrip("/").removesuffix("/api")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--server {without_password(server)} is no URL; write http://HOST:4200")
    if parts.username or parts.password:
        raise ConfigError(f"--server holds a password, which others could list; set {PREFECT_AUTH}=NAME:PASSWORD")
    _ask(f"{url}/api/health", f"Prefect server at {url}", "start 'ferflow up --pool NAME' there, and name its --host")
    auth, place = _login(workspace)
    answer = _ask(f"{url}/api/variables/name/{VARIABLE}", f"Prefect server at {url}", "", auth)
    if answer.status_code in (401, 403):
        raise ConfigError(f"the Prefect server at {url} refuses the password of {place}")
    if answer.status_code == 404:
        raise ConfigError(f"the flows of {url} are in no work pool; start it with 'ferflow up --pool NAME'")
    pool = Pool.model_validate(answer.json()["value"])
    if not pool.is_at(workspace):
        raise ConfigError(
            f"workspace {workspace} is not that of the server, which is {pool.workspace} on {pool.host}; mount it here "
            "under the same path, and name it with --workspace"
        )
    mlflow = os.environ.get(TRACKING_URI) or _beside(parts.hostname, workspace)
    user, _, password = auth.partition(":")
    logins = {MLFLOW_USER: user, MLFLOW_PASSWORD: password}
    logins |= {name: value for name in logins if (value := os.environ.get(name))}
    _check_mlflow(mlflow, (logins[MLFLOW_USER], logins[MLFLOW_PASSWORD]))
    addresses = Addresses(mlflow, url, pid=0)
    environment = {
        **prefect_environment(workspace, f"{url}/api"),
        **logins,
        PREFECT_AUTH: auth,
        TRACKING_URI: mlflow,
        SERVERS: json.dumps(asdict(addresses)),
        "FERFLOW_WORKSPACE": str(workspace),
        "PREFECT_WORKER_QUERY_SECONDS": POLL_S,
        "PYTHONUNBUFFERED": "1",
    }
    return Joined(pool, environment)


def _login(workspace: Path) -> tuple[str, str]:
    """Return `name:password` of the environment or of the workspace, and where it is from."""
    if auth := os.environ.get(PREFECT_AUTH):
        return auth, f"${PREFECT_AUTH}"
    file = workspace / CREDENTIALS
    if auth := credentials(workspace).get(PREFECT_AUTH):
        return auth, str(file)
    raise ConfigError(
        f"there is no password for the server: {file} cannot be read; set {PREFECT_AUTH}=NAME:PASSWORD, or name the "
        "workspace of the server with --workspace"
    )


def _beside(host: str, workspace: Path) -> str:
    """Return the URL of MLflow on the host of the Prefect server, with the port that `ferflow up` wrote down."""
    found = announced(workspace)
    if found is None:
        raise ConfigError(f"'ferflow up' has not written its addresses into {workspace} yet; wait until all is up")
    return f"http://{f'[{host}]' if ':' in host else host}:{urlsplit(found.mlflow).port}"


def _check_mlflow(url: str, login: tuple[str, str]) -> None:
    what = f"MLflow server at {without_password(url)}"
    remedy = f"make its port reachable from here, or set {TRACKING_URI}"
    asked = f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    status = _ask(asked, what, remedy, ":".join(login)).status_code
    if status == 401:
        raise ConfigError(f"the {what} refuses the password of {login[0]}; set {MLFLOW_USER} and {MLFLOW_PASSWORD}")


def _ask(url: str, what: str, remedy: str, auth: str = "") -> Any:
    """Return the answer to a GET request. Raises ConfigError when nothing answers, or an error of the server."""
    user, _, password = auth.partition(":")
    login = HTTPBasicAuth(user.encode(), password.encode()) if auth else None
    try:
        answer = requests.get(url, auth=login, timeout=PREFECT_S, allow_redirects=False)
    except requests.RequestException as exc:
        raise ConfigError(f"no {what} answers ({type(exc).__name__}); {remedy}") from exc
    if answer.status_code == 400 and "host" in answer.text.lower():
        raise ConfigError(f"the {what} refuses this host name; add it to FERFLOW_ALLOWED_HOSTS there")
    if answer.status_code >= 500:
        raise ConfigError(f"the {what} answers {answer.status_code}; look into its logs")
    return answer
