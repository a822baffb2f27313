"""Where a workspace's servers are: written by `ferflow up`, found by every other command."""

from __future__ import annotations

import http.client
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

FILE = "servers.json"


@dataclass(frozen=True)
class Addresses:
    """URLs of the running servers, without a trailing slash, and the process that watches over them."""

    mlflow: str
    prefect: str
    pid: int


def announce(workspace: Path, addresses: Addresses) -> None:
    """Let other commands find the servers."""
    new = workspace / f".{FILE}-{os.getpid()}"
    new.write_text(json.dumps(asdict(addresses), indent=2) + "\n", encoding="utf-8")
    new.replace(workspace / FILE)


def withdraw(workspace: Path) -> None:
    """Take the announcement back."""
    (workspace / FILE).unlink(missing_ok=True)


def announced(workspace: Path) -> Addresses | None:
    """What was announced last, whether or not it still runs."""
    try:
        return Addresses(**json.loads((workspace / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError, ValueError):
        return None


def running(workspace: Path) -> Addresses | None:
    """The workspace's servers, both of which have just answered; None otherwise, within 2 s."""
    found = announced(workspace)
    if found and answers(f"{found.mlflow}/health") and answers(f"{found.prefect}/api/health"):
        return found
    return None


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether something healthy speaks HTTP at `url`; a demand for a password counts, a proxy is never asked."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status in (200, 401)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
