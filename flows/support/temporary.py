"""A Prefect server that runs for one command.

Prefect would start a server in our process group, where Ctrl-C in the terminal ends it first; the client then retries
for minutes. This server has its own session, and ends when its standard input is closed. It requires a password, as
`ferflow up` does, because every user of the machine could reach it.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fer_core.errors import FerError
from mlflow_server.address import USER, answers

START_S = 120.0  # 8-13 s on an idle machine


@contextmanager
def temporary_server() -> Iterator[None]:
    """Run the flows inside the block on their own server, with the database of $PREFECT_HOME.

    Raises:
        FerError: the server does not start.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogHandler
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    url, auth = f"http://127.0.0.1:{port}/api", f"{USER}:{secrets.token_urlsafe(32)}"
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "flows.support.temporary", str(port)],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={
            **os.environ, "PREFECT_SERVER_API_AUTH_STRING": auth, "PREFECT_UI_ENABLED": "0",
            "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1",
        },
    )  # fmt: skip
    assert server.stdin is not None
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"{url}/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise FerError(
                    f"the temporary Prefect server does not start (in {START_S:.0f} s, exit code {server.poll()}); "
                    "'ferflow doctor' looks for the cause, and 'ferflow up' keeps a server running"
                )
            time.sleep(0.1)
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth}):
            yield
    finally:
        APILogHandler().flush()  # without the server, unsent lines would be retried for a minute
        EventsWorker.drain_all()
        server.stdin.close()
        try:
            server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Serve until standard input is closed."""
    from mlflow_server.guard import main as serve

    threading.Thread(target=_end_with_input, daemon=True).start()
    serve(["prefect.server.api.server:create_app", "--port", sys.argv[1], "--hosts", "127.0.0.1"])


if __name__ == "__main__":
    main()
