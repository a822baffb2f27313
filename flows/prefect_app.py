"""Prefect's server as `ferflow up` serves it.

Forms are checked, the summary is the first artifact of a run, and links of run pages lead to pages and to MLflow.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.forms.check import FormCheck, read_body, replay_body
from mlflow_server.address import MLFLOW_PASSWORD, MLFLOW_USER
from mlflow_server.logins import Logins
from mlflow_server.pages import Pages
from mlflow_server.users import read_users

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LIST_OF_ARTIFACTS = "/api/artifacts/filter"


def prefect_app() -> ASGIApp:
    """Return Prefect's app for the workspace and the passwords in the environment."""
    from prefect.server.api.server import create_app

    environment = os.environ
    auth = environment["PREFECT_SERVER_API_AUTH_STRING"]
    users = environment.get("FERFLOW_USERS", "")
    mlflow = "" if users else f"{environment[MLFLOW_USER]}:{environment[MLFLOW_PASSWORD]}"
    app = Pages(NewestFirst(FormCheck(create_app())), Path(environment["FERFLOW_WORKSPACE"]), auth, mlflow)
    return Logins(app, read_users(Path(users)), auth) if users else app


class NewestFirst:
    """An ASGI app that sorts the artifacts of a run by time, so that its summary, written last, comes first.

    Prefect's UI asks for no order, and Prefect then sorts by ids, which are random.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].rstrip("/") == LIST_OF_ARTIFACTS:
            body = await read_body(receive)
            receive = replay_body(_sorted_by_time(body), receive)
        await self.app(scope, receive, send)


def _sorted_by_time(body: bytes) -> bytes:
    """Return a request for artifacts with the newest first, unless it names an order itself."""
    try:
        asked = json.loads(body or b"{}")
    except ValueError:
        return body  # for Prefect to refuse
    return json.dumps({"sort": "CREATED_DESC", **asked}).encode() if isinstance(asked, dict) else body
