from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from mlflow_server.address import Addresses, announce
from mlflow_server.pages import Pages, page_path

AUTH = "ferflow:secret of prefect"


@pytest.fixture
def pages(tmp_path):
    """The pages of a workspace, before an app that says that it was reached."""
    from starlette.responses import PlainTextResponse

    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "report.html").write_text("<p>faces</p>")
    (tmp_path / "scored" / "verdicts.csv").write_text("a,b\n")
    (tmp_path / "card.html").write_text("<p>card</p>")
    (tmp_path / "mlflow.db").write_text("runs")
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "note.html").write_text("secret")
    (tmp_path / "scored" / "out.html").symlink_to("/etc/hostname")
    (tmp_path / "elsewhere").symlink_to("/etc")
    announce(tmp_path, Addresses("http://127.0.0.1:5000", "http://127.0.0.1:4200", pid=1))
    return Pages(PlainTextResponse("prefect"), tmp_path, AUTH, "ferflow:secret of mlflow")


def get(app: Pages, path: str, auth: str = AUTH, method: str = "GET", host: str = "lab.example:4200") -> Any:
    import httpx

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            login = {"Authorization": f"Basic {b64encode(auth.encode()).decode()}"} if auth else {}
            return await client.request(method, path, headers=login)

    return asyncio.run(ask())


def test_pages_and_tables_of_the_workspace_open(pages):
    page = get(pages, "/pages/scored/report.html")
    assert (page.status_code, page.text) == (200, "<p>faces</p>")
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert get(pages, "/pages/scored/verdicts.csv").headers["content-type"].startswith("text/csv")
    assert [name in get(pages, "/pages/").text for name in ("card.html", "scored/report.html", "note.html")] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/pages/", "/pages/scored/report.html", "/mlflow/experiments/1/runs/a"])
@pytest.mark.parametrize("auth", ["", "ferflow:guessed"])
def test_pages_ask_for_the_password(pages, path, auth):
    refused = get(pages, path, auth)
    assert refused.status_code == 401 and "faces" not in refused.text and "secret" not in refused.text
    assert refused.headers["www-authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "path",
    [
        "servers/note.html", "mlflow.db", "servers/credentials", "scored/out.html", "elsewhere/passwd", "gone.html",
        "%2e%2e/outside.html", "/etc/hostname", "scored", "scored/../servers/note.html",
    ],
)  # fmt: skip
def test_nothing_else_opens(pages, path, tmp_path):
    (tmp_path.parent / "outside.html").write_text("outside")
    assert get(pages, f"/pages/{path}").status_code == 404


def test_pages_cannot_be_written(pages):
    assert get(pages, "/pages/card.html", method="PUT").status_code == 405


def test_a_link_leads_to_mlflow_on_the_host_that_was_used_and_logs_in(pages):
    found = get(pages, "/mlflow/experiments/1/runs/abc")
    secret = b64encode(b"ferflow:secret of mlflow").decode()
    assert found.status_code == 303
    assert found.headers["location"] == f"http://lab.example:5000/login#{secret}&#/experiments/1/runs/abc"


def test_with_accounts_mlflow_asks_for_its_own_password(pages):
    pages.mlflow_auth = ""
    assert get(pages, "/mlflow/models/x").headers["location"] == "http://lab.example:5000/#/models/x"
    found = get(pages, "/mlflow/models/x?workflowType=machine_learning")
    assert found.headers["location"] == "http://lab.example:5000/#/models/x?workflowType=machine_learning"


def test_other_paths_are_prefects(pages):
    assert get(pages, "/api/health", auth="").text == "prefect"


def test_only_files_of_the_workspace_have_a_path(tmp_path):
    assert page_path(tmp_path, tmp_path / "scored" / "a b" / "report.html") == "/pages/scored/a%20b/report.html"
    assert page_path(tmp_path, tmp_path.parent / "report.html") == ""
    assert page_path(tmp_path, tmp_path / "servers" / "x.html") == ""
