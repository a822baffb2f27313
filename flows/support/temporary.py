"""A Prefect server for commands, which is kept for some minutes for the next command of the same workspace.

Starting a server takes several times as long as all else in a short command. Prefect would start one in our process
group, where Ctrl-C in the terminal ends it first; the client then retries for minutes. This server has its own session.
It requires a password, as `ferflow up` does, because every user of the machine could reach it.

A command holds a shared lock while it uses the server, also when it is killed; the server ends when nobody has held
the lock for `kept_s()` seconds.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from filelock import FileLock

from fer_core.errors import ConfigError, FerError
from mlflow_server.address import USER, answers

KEPT = "FERFLOW_PREFECT_KEPT_S"
KEPT_S = 300.0
START_S = 120.0  # 8-13 s on an idle machine
_POLL_S = 0.2


@dataclass(frozen=True)
class _Server:
    """A server of this machine: its port, its login, its process, and see `_installation`."""

    port: int
    auth: str
    pid: int
    made_by: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def lets_in(self) -> bool:
        """True if its process runs and answers to its password; after a kill, another may have its number or port."""
        try:
            if "flows.support.temporary" not in psutil.Process(self.pid).cmdline():
                return False
        except psutil.Error:
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            login = b64encode(self.auth.encode()).decode()
            connection.request("GET", "/api/admin/version", headers={"Authorization": f"Basic {login}"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def kept_s() -> float:
    """Return for how many seconds the server waits for another command: $FERFLOW_PREFECT_KEPT_S, or 300.

    Raises:
        ConfigError: the variable holds no number of seconds.
    """
    given = os.environ.get(KEPT, "")
    try:
        seconds = float(given) if given else KEPT_S
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"${KEPT} is {given!r}; it needs a number of seconds, 0 to end the server with its command")
    return seconds


@contextmanager
def temporary_server() -> Iterator[None]:
    """Run the flows inside the block on a server with the database of $PREFECT_HOME: one that was kept, or a new one.

    Raises:
        FerError: the server does not start.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_HOME, temporary_settings

    # Prefect may have been imported, and have read its settings, before the workspace was known
    home = Path(os.environ.get("PREFECT_HOME") or PREFECT_HOME.value()).expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True)
    kept = kept_s()
    with _users(home).open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # first, so that a server that is found does not end now
        with FileLock(_users(home).with_suffix(".starting")):
            server = _found(home) or _started(home, kept)
        try:
            with temporary_settings({PREFECT_API_URL: server.url, PREFECT_API_AUTH_STRING: server.auth}):
                yield
        finally:
            APILogHandler().flush()  # without the server, unsent lines would be retried for a minute
            EventsWorker.drain_all()


def _users(home: Path) -> Path:
    """Return the file that commands of this machine lock; several machines may share a workspace."""
    return home / f"temporary-{socket.gethostname()}.lock"


def _address(home: Path) -> Path:
    return _users(home).with_suffix(".json")


def _installation(home: Path) -> str:
    """Return what a server must have in common with a command; a workspace may be a copy of another."""
    return f"{sys.executable} prefect {version('prefect')} ferflow {version('ferflow')} {home}"


def _read(home: Path) -> _Server | None:
    try:
        return _Server(**json.loads(_address(home).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _found(home: Path) -> _Server | None:
    """Return the server that an earlier command has started, if this installation has made it and it answers."""
    server = _read(home)
    return server if server and server.made_by == _installation(home) and server.lets_in else None


def _announce(home: Path, server: _Server) -> None:
    """Write where the server is to a file that only the owner can read: it holds the password."""
    new = _users(home).with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
        json.dump(asdict(server), out)
    new.replace(_address(home))


def _started(home: Path, kept: float) -> _Server:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    auth = f"{USER}:{secrets.token_urlsafe(32)}"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.support.temporary", str(home), str(port), str(kept)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={
            **os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_API_AUTH_STRING": auth, "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1",
        },
    )  # fmt: skip
    server = _Server(port, auth, process.pid, _installation(home))
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"{server.url}/health"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise FerError(
                    f"the temporary Prefect server does not start (in {START_S:.0f} s, exit code {process.poll()}); "
                    "'ferflow doctor' looks for the cause, and 'ferflow up' keeps a server running"
                )
            time.sleep(0.1)
        _announce(home, server)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return server


def _end_when_idle(home: Path, kept: float) -> None:
    """End this process when no command has used it for `kept` seconds, or its workspace was removed."""
    used_at = time.monotonic()
    while True:
        time.sleep(_POLL_S)
        try:
            users = _users(home).open("r+")
        except OSError:
            os._exit(0)
        with users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                used_at = time.monotonic()
                continue
            server = _read(home)
            replaced = server is not None and server.pid != os.getpid()
            if replaced or time.monotonic() - used_at >= kept:
                if not replaced:
                    with suppress(OSError):
                        _address(home).unlink()
                os._exit(0)  # only now may another command look for a server


def main() -> None:
    """Serve until nobody uses the server: `python -m flows.support.temporary HOME PORT SECONDS`."""
    from mlflow_server.guard import main as serve

    home, port, kept = sys.argv[1:]
    threading.Thread(target=_end_when_idle, args=(Path(home), float(kept)), daemon=True).start()
    serve(["prefect.server.api.server:create_app", "--port", port, "--hosts", "127.0.0.1"])


if __name__ == "__main__":
    main()
