"""Check forms on the Prefect server: a wrong value is refused before a run exists, by the command line's sentence.

Prefect itself checks only bounds and types. This middleware checks everything that the settings check: when a user
submits a form, and when a run, a schedule or a default is written by the API.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fer_core.errors import FerError
from flows.forms.catalog import FORMS
from flows.forms.form import Form, parameter_name

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VALIDATE = re.compile(r"/api/ui/schemas/validate/?")
WRITES = re.compile(r"/api/deployments/([0-9a-f-]{36})(?:/create_flow_run|/schedules(?:/[0-9a-f-]{36})?)?/?")
_TEMPLATED = "__prefect_kind"  # a value that Prefect computes when the run starts
_PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # before a write is tried again


class FormCheck:
    """An ASGI app that refuses wrong values of forms, and passes everything else on to Prefect's app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.responses import JSONResponse

        path = scope.get("path", "")
        asks, writes = VALIDATE.fullmatch(path), WRITES.fullmatch(path)
        if scope["type"] != "http" or scope["method"] not in ("POST", "PATCH") or not (asks or writes):
            await self.app(scope, receive, send)
            return
        body = await read_body(receive)
        try:
            given = json.loads(body)
        except ValueError:
            given = None
        refusal: Any = None
        if asks and isinstance(given, dict):
            refusal = _refused_form(given)
        elif writes:
            refusal = await self._refused_write(scope, writes[1], given)
        if refusal:
            await JSONResponse(refusal, 200 if asks else 409)(scope, receive, send)
        elif writes:
            await self._write(scope, body, receive, send)
        else:
            await self.app(scope, replay_body(body, receive), send)

    async def _write(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Pass a write on to Prefect's app, again and again while SQLite is locked by a running flow.

        Prefect's client repeats such a request by itself, but its UI shows "Oops. Something went wrong".
        """
        for pause_s in (*_PAUSES_S, None):
            held: list[Message] = []
            error: Exception | None = None
            try:
                await self.app({**scope}, replay_body(body, receive), _append_to(held))
            except Exception as exc:  # Starlette raises an error again after its answer; so does this, below
                error = exc
            busy = bool(held) and held[0].get("status") == HTTPStatus.SERVICE_UNAVAILABLE
            if not busy or pause_s is None:
                break
            await asyncio.sleep(pause_s)
        for message in held:
            await send(message)
        if error:
            raise error

    async def _refused_write(self, scope: Scope, deployment: str, given: Any) -> dict[str, Any] | None:
        """Return Prefect's form of an error if parameters in a request body do not fit the deployment's form."""
        parts = given if isinstance(given, list) else [given]
        wanted = [part["parameters"] for part in parts if isinstance(part, dict) and part.get("parameters") is not None]
        runs = scope["path"].rstrip("/").endswith("/create_flow_run")
        if not wanted and not runs:
            return None
        known = await self._deployment(scope, deployment)
        form = FORMS.get(known.get("parameter_openapi_schema", {}).get("form", ""))
        if form is None:
            return None
        for parameters in wanted or [{}]:
            error = _error(form, {**known["parameters"], **parameters})
            if error:
                return {"detail": str(error)}
        return None

    async def _deployment(self, scope: Scope, deployment: str) -> dict[str, Any]:
        """Return a deployment as Prefect's app has it, asked with the headers of the request."""
        import httpx

        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"] if k == b"authorization"}
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://prefect", headers=headers) as client:
            answer = await client.get(f"/api/deployments/{deployment}")
        return answer.json() if answer.status_code == 200 else {}


def _refused_form(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the errors of a submitted form as the UI shows them, each at its field; None if Prefect is to check it."""
    schema, values = given.get("schema"), given.get("values")
    form = FORMS.get(str(schema.get("form"))) if isinstance(schema, dict) else None
    if form is None or not isinstance(values, dict):
        return None
    error = _error(form, values)
    if error is None:
        return None
    return {"valid": False, "errors": [_at(place, str(error)) for place in _places(form, error)]}


def _error(form: Form, values: Mapping[str, Any]) -> FerError | None:
    if _TEMPLATED in json.dumps(values):
        return None  # checked when the run starts
    try:
        form.settings(values)
    except FerError as exc:
        return exc
    return None


def _places(form: Form, error: FerError) -> list[tuple[str, ...]]:
    """Return the fields of a form that an error is about: its first one if the error names none."""
    cause = error.__cause__
    found: list[tuple[str, ...]] = []
    for item in cause.errors() if isinstance(cause, ValidationError) else ():
        names = tuple(part for part in item["loc"] if isinstance(part, str))
        top = parameter_name(".".join(names))
        found.append((top,) if top in form.parameters else names)
    return list(dict.fromkeys(place for place in found if place and place[0] in form.parameters)) or [
        (next(iter(form.parameters)),)
    ]


def _at(place: Sequence[str], sentence: str) -> dict[str, Any]:
    """Return an error at a nested field, as Prefect writes it."""
    inner: Any = sentence
    for name in reversed(place):
        inner = {"property": name, "errors": [inner]}
    return dict(inner)


def _append_to(messages: list[Message]) -> Send:
    async def hold(message: Message) -> None:
        messages.append(message)

    return hold


async def read_body(receive: Receive) -> bytes:
    """Return the whole body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def replay_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that was read before, and then what comes next."""
    messages: Iterator[Message] = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again
