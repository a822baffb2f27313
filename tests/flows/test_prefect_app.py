from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from flows.prefect_app import LIST_OF_ARTIFACTS, NewestFirst


@pytest.mark.parametrize(
    ("path", "asked", "reaches"),
    [
        (LIST_OF_ARTIFACTS, {"limit": 5}, {"sort": "CREATED_DESC", "limit": 5}),
        (LIST_OF_ARTIFACTS, {"sort": "KEY_ASC"}, {"sort": "KEY_ASC"}),
        (LIST_OF_ARTIFACTS, ["no", "request"], ["no", "request"]),
        ("/api/flow_runs/filter", {"limit": 5}, {"limit": 5}),
    ],
    ids=["no order", "an order of its own", "for Prefect to refuse", "another list"],
)
def test_artifacts_are_listed_newest_first_unless_an_order_is_asked_for(path, asked, reaches):
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await JSONResponse(await Request(scope, receive).json())(scope, receive, send)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=NewestFirst(echo))
        async with httpx.AsyncClient(transport=transport, base_url="http://prefect") as client:
            return await client.post(path, content=json.dumps(asked))

    assert asyncio.run(ask()).json() == reaches
