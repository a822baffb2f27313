"""`ferflow search --dashboard`: all studies of a workspace in optuna-dashboard (extra `search-ui`)."""

from __future__ import annotations

import logging
import threading
import time
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, NoReturn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from fer_core.errors import ConfigError, FerError

if TYPE_CHECKING:
    from flows.commands.session import Session

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
EVERY_S = 10.0  # from one look for new trials to the next


def serve_dashboard(session: Session, port: int) -> NoReturn:
    """Serve copies of the studies until Ctrl-C; nothing that is clicked there changes a search.

    Args:
        port: port on loopback; 0: any free one.
    Raises:
        ConfigError: the extra is not installed, the workspace has no study, or the port is taken.
    """
    if find_spec("optuna_dashboard") is None:
        raise ConfigError(
            "the dashboard needs optuna-dashboard, which is not installed; pip install 'ferflow[search-ui]'"
        )
    from optuna_dashboard import wsgi

    from fer_core.experiments.search.joined import JoinedStudies

    joined = JoinedStudies(session.workspace, session.config.search.storage)
    joined.refresh()
    if not joined.names:
        raise ConfigError(f"{session.workspace} has no study yet; 'ferflow search' makes one")
    try:
        server = make_server(HOST, port, wsgi(joined.storage), _Server, _Quiet)
    except OSError as exc:
        raise ConfigError(f"port {port} cannot be used ({exc.strerror}); choose another with --port") from exc
    url = f"http://{HOST}:{server.server_port}/dashboard/"
    session.say(f"Studies: {', '.join(joined.names)}")
    session.say(f"Open {url}; trials appear within {EVERY_S:.0f} s of their end. Ctrl-C stops it.")
    # Not in this thread, which gets the signals: in the middle of an answer, wsgiref would swallow them.
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        while True:
            time.sleep(EVERY_S)
            try:
                joined.refresh()
            except FerError as exc:
                log.warning("new trials are not shown: %s", exc)
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at a time."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Prints no line for every request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass
