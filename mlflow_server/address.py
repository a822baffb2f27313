"""Addresses and login of a workspace's servers; `ferflow up` writes them, and every other command reads them."""

from __future__ import annotations

import http.client
import json
import os
import secrets
from base64 import b64encode
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

FILE = "servers.json"
SERVERS = "FERFLOW_SERVERS"  # environment variable of a worker: the addresses as its machine reaches them, as in FILE
CREDENTIALS = Path("servers") / "credentials"
PREFECT_AUTH = "PREFECT_API_AUTH_STRING"
MLFLOW_USER, MLFLOW_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
USER = "ferflow"


@dataclass(frozen=True)
class Addresses:
    """URLs of the running servers, without a trailing slash, and the process that supervises them."""

    mlflow: str
    prefect: str
    pid: int


def announce(workspace: Path, addresses: Addresses) -> None:
    """Write the addresses for other commands."""
    new = workspace / f".{FILE}-{os.getpid()}"
    new.write_text(json.dumps(asdict(addresses), indent=2) + "\n", encoding="utf-8")
    new.replace(workspace / FILE)


def withdraw(workspace: Path) -> None:
    """Delete the written addresses."""
    (workspace / FILE).unlink(missing_ok=True)


def announced(workspace: Path) -> Addresses | None:
    """Return the addresses that were written last, whether or not their servers still run.

    A worker on another machine gets them from its environment instead.
    """
    try:
        return Addresses(**json.loads(os.environ.get(SERVERS) or (workspace / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def make_credentials(workspace: Path) -> dict[str, str]:
    """Write the login of Prefect's and MLflow's clients to a file that only the owner can read; return its variables.

    The password has 256 random bits. It stays the same at every start, unless other users could have read the file.
    """
    file = workspace / CREDENTIALS
    kept = credentials(workspace) if _is_private(file) else {}
    password = kept.get(MLFLOW_PASSWORD) or secrets.token_urlsafe(32)
    made = {MLFLOW_USER: USER, MLFLOW_PASSWORD: password, PREFECT_AUTH: f"{USER}:{password}"}
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}-{os.getpid()}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
        out.writelines(f"export {name}={value}\n" for name, value in made.items())
    new.replace(file)
    return made


def credentials(workspace: Path) -> dict[str, str]:
    """Return the variables that `make_credentials` wrote; empty if the file cannot be read."""
    try:
        lines = (workspace / CREDENTIALS).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.removeprefix("export ").partition("=") for line in lines)
    return {name: value for name, _, value in pairs if name in (MLFLOW_USER, MLFLOW_PASSWORD, PREFECT_AUTH)}


def login_link(url: str, auth: str, page: str = "") -> str:
    """Return a link that logs a browser in and then opens `page`; without `auth`, a link to the page only."""
    return f"{url}/login#{b64encode(auth.encode()).decode()}&{page}" if auth else f"{url}/{page}"


def _is_private(file: Path) -> bool:
    try:
        status = file.stat()
    except OSError:
        return False
    return not status.st_mode & 0o077 and status.st_uid == os.getuid()


def running(workspace: Path) -> Addresses | None:
    """Return the addresses of the workspace's servers if both answer now; None otherwise, within 2 s."""
    found = announced(workspace)
    if found and answers(f"{found.mlflow}/health") and answers(f"{found.prefect}/api/health"):
        return found
    return None


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Return True if a healthy HTTP server answers at `url`, or asks for a password; no proxy is used."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status in (200, 401)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
