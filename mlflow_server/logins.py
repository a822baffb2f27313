"""Logins of several people in front of Prefect, which itself knows one password.

A request with the login of a user goes on with the password that Prefect knows. A reader reaches pages only.
"""

from __future__ import annotations

import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlflow_server.pages import MLFLOW, PAGES
from mlflow_server.users import User

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Logins:
    """An ASGI app that replaces the login of a user by Prefect's own; every other login goes on as it is.

    Args:
        app: the app behind it.
        users: the people who may log in.
        auth: `user:password` that the app knows.
    """

    def __init__(self, app: ASGIApp, users: Sequence[User], auth: str) -> None:
        self.app, self.users, self.auth = app, users, auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self.app(scope, self._with_own_token(receive), send)
            return
        if scope["type"] == "http":
            readers = scope["path"].startswith((PAGES, MLFLOW))
            scope = {**scope, "headers": [(k, self._header(k, v, readers)) for k, v in scope["headers"]]}
        await self.app(scope, receive, send)

    def _header(self, name: bytes, value: bytes, readers: bool) -> bytes:
        kind, _, given = value.partition(b" ")
        if name.lower() != b"authorization" or kind.lower() != b"basic":
            return value
        try:
            login = b64decode(given, validate=True).decode()
        except ValueError:
            return value
        return b"Basic " + b64encode(self.auth.encode()) if self._may_enter(login, readers) else value

    def _may_enter(self, login: str, readers: bool) -> bool:
        found = False
        for user in self.users:  # all of them, so that the time says nothing
            same = secrets.compare_digest(f"{user.name}:{user.password}".encode(), login.encode())
            found |= same and (readers or user.runs_flows)
        return found

    def _with_own_token(self, receive: Receive) -> Receive:
        """Replace the login in the first message of a websocket, by which Prefect's UI follows events."""

        async def replaced() -> Message:
            message = await receive()
            try:
                sent = json.loads(message.get("text") or "")
            except ValueError:
                return message
            if isinstance(sent, dict) and sent.get("type") == "auth" and self._may_enter(str(sent.get("token")), False):
                return {**message, "text": json.dumps({**sent, "token": self.auth})}
            return message

        return replaced
