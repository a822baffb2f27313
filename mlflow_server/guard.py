"""Middleware in front of MLflow and Prefect: it checks host name, origin and password.

Every user of the machine can reach a loopback server, and so can every web page whose host name resolves to 127.0.0.1.
So a server answers only requests to its own host names, not from pages of another origin, and only with the password.
Prefect checks the password itself. For MLflow, whose own accounts are meant for a team, this module does. `/login#…`
logs a browser in: the part after `#` is never sent to a server or written to a log.

Run as `python -m mlflow_server.guard APP --port PORT --hosts NAMES [--ask]`.
"""

from __future__ import annotations

import argparse
import os
import secrets
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_server.address import CREDENTIALS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/health", "/login")  # answered without a password
CLOSED = "/ajax-api/3.0/mlflow/assistant"  # never answered: MLflow's assistant runs programs on this machine

_LOGIN = """<!doctype html><meta charset="utf-8"><title>Log in</title><p>Logging in …</p><script>
const [secret, ...rest] = location.hash.slice(1).split("&");
const path = rest.join("&");  // it may have parameters of its own
const failed = () => { document.querySelector("p").textContent =
  "This link is out of date or incomplete. 'ferflow status' prints the current one."; };
if (!secret) location.replace("/");  // opened without a link: the server's own page asks for the password
else { %s }
</script>"""
# Prefect's UI reads the password from local storage. For MLflow and the pages beside Prefect, the browser keeps the
# password of a request. MLflow opens its assistant over a quarter of its first page, unless told that it has done so.
_PREFECT_LOGIN = """fetch("/api/admin/version", {headers: {Authorization: "Basic " + secret}}).then(answer => {
  if (!answer.ok) return failed();
  localStorage.setItem("prefect-password", secret);
  const [user, ...password] = atob(secret).split(":");
  const request = new XMLHttpRequest();
  request.open("GET", "/pages/", true, user, password.join(":"));
  request.onloadend = () => location.replace("/" + path);
  request.send();
});"""
_BROWSER_LOGIN = """const [user, ...password] = atob(secret).split(":");
const request = new XMLHttpRequest();
request.open("GET", "/version", true, user, password.join(":"));
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
request.onload = () => request.status === 200 ? location.replace("/" + path) : failed();
request.send();"""


class Guard:
    """An ASGI app that passes only allowed requests on to another app.

    Args:
        app: the app behind the guard.
        hosts: host names of this server in a Host header, without a port.
        auths: `user:password` of each login that may enter; none if the app checks them itself, as Prefect does.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], auths: Sequence[str] = ()) -> None:
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import HTMLResponse, PlainTextResponse

        self.app = app
        self.expected = [b64encode(auth.encode()) for auth in auths]
        self._admit = TrustedHostMiddleware(self._same_origin, list(hosts), www_redirect=False)
        self._login = HTMLResponse(_LOGIN % (_BROWSER_LOGIN if auths else _PREFECT_LOGIN))
        self._foreign = PlainTextResponse("Pages of another origin are not answered.\n", 403)
        self._closed = PlainTextResponse("MLflow's assistant is switched off.\n", 404)
        self._denied = PlainTextResponse(
            "A password is needed: open the link that 'ferflow status' prints; for programs, "
            f"'. WORKSPACE/{CREDENTIALS}' in their shell sets the variables that hold it.\n",
            401,
            {"WWW-Authenticate": 'Basic realm="ferflow", charset="UTF-8"'},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._admit if scope["type"] in ("http", "websocket") else self.app)(scope, receive, send)

    async def _same_origin(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        host, origin = headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin", b"").decode("latin-1")
        answer: Any = self.app
        if origin and urlsplit(origin).netloc != host:
            answer = self._foreign
        elif scope["path"] == "/login":
            answer = self._login
        elif scope["path"] not in OPEN and not self._may_enter(headers):
            answer = self._denied
        elif scope["path"].startswith(CLOSED):
            answer = self._closed
        await answer(scope, receive, send)

    def _may_enter(self, headers: dict[bytes, bytes]) -> bool:
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        same = [secrets.compare_digest(given.strip(), expected) for expected in self.expected]  # all, in constant time
        return not self.expected or (kind.lower() == b"basic" and any(same))


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m mlflow_server.guard`: serve one app until SIGTERM."""
    import uvicorn
    from uvicorn.importer import import_from_string

    parser = argparse.ArgumentParser(description="Serve an app behind host names and a password.")
    parser.add_argument("app", help="module:function that makes the app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--hosts", required=True, help="names to answer to, separated by commas")
    parser.add_argument("--ask", action="store_true", help="ask for $MLFLOW_TRACKING_USERNAME and …_PASSWORD")
    parser.add_argument("--accounts", action="store_true", help="ask for a login of $FERFLOW_USERS too")
    given = parser.parse_args(argv)
    auths = [f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"] if given.ask else []
    if given.accounts:
        from mlflow_server.users import read_users

        auths += [f"{user.name}:{user.password}" for user in read_users(Path(os.environ["FERFLOW_USERS"]))]
    app = Guard(import_from_string(given.app)(), given.hosts.split(","), auths)
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning", lifespan="on")


if __name__ == "__main__":
    main()
