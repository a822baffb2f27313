"""Serve a workspace's pages and tables beside Prefect, and lead to MLflow, so that links on a run's page open.

`/pages/PATH` is a file of the workspace. `/mlflow/PAGE` leads to MLflow's page of that name, on the host by which this
server was reached, and logs the browser in. Both ask for the password: pages show faces of people.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from mlflow_server.address import announced, login_link

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PAGES, MLFLOW = "/pages/", "/mlflow/"
KINDS = {
    ".html": "text/html; charset=utf-8", ".png": "image/png", ".csv": "text/csv; charset=utf-8",
    ".json": "application/json", ".md": "text/plain; charset=utf-8", ".parquet": "application/octet-stream",
}  # fmt: skip
CLOSED = ("servers", "prefect", "store", "artifacts")  # folders of the workspace that hold secrets or no pages
SHOWN = 200  # newest pages in the list
_HEADERS = {
    # A page runs its own script, but as an origin of its own: it cannot read the password that Prefect's UI keeps.
    "Content-Security-Policy": "sandbox allow-scripts allow-downloads; default-src 'none'; img-src data: 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-store",
}


class Pages:
    """An ASGI app that answers `/pages/` and `/mlflow/`, and passes everything else on.

    Args:
        app: the app behind it.
        workspace: folder whose pages are served.
        auth: required `user:password`.
        mlflow_auth: `user:password` of MLflow for the login link; empty: MLflow asks for it.
    """

    def __init__(self, app: ASGIApp, workspace: Path, auth: str, mlflow_auth: str = "") -> None:
        self.app, self.workspace, self.mlflow_auth = app, workspace.resolve(), mlflow_auth
        self.expected = f"Basic {b64encode(auth.encode()).decode()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith((PAGES, MLFLOW)):
            await self.app(scope, receive, send)
            return
        await self._answer(scope, path)(scope, receive, send)

    def _answer(self, scope: Scope, path: str) -> Any:
        from starlette.responses import PlainTextResponse, RedirectResponse

        headers = dict(scope["headers"])
        if not secrets.compare_digest(headers.get(b"authorization", b""), self.expected):
            ask = {"WWW-Authenticate": 'Basic realm="ferflow pages", charset="UTF-8"'}
            return PlainTextResponse("A password is needed: that of Prefect.\n", 401, ask)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Pages are read only.\n", 405)
        if path.startswith(MLFLOW):
            target = self._mlflow(path.removeprefix(MLFLOW), headers.get(b"host", b"").decode("latin-1"), scope)
            return RedirectResponse(target, 303, {"Cache-Control": "no-store"})
        return self._page(path.removeprefix(PAGES))

    def _mlflow(self, page: str, host: str, scope: Scope) -> str:
        """Return the address of a page of MLflow on the host of the request."""
        found = announced(self.workspace)
        port = urlsplit(found.mlflow).port if found else 5000
        name = urlsplit(f"//{host}").hostname or "127.0.0.1"
        name = f"[{name}]" if ":" in name else name
        query = scope.get("query_string", b"").decode("latin-1")  # says that MLflow is to show its pages for training
        page = f"#/{quote(page)}{'?' if query else ''}{query}"
        return login_link(f"{scope.get('scheme', 'http')}://{name}:{port}", self.mlflow_auth, page)

    def _page(self, name: str) -> Any:
        from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse

        if not name:
            return HTMLResponse(self._list(), headers={**_HEADERS, "Content-Security-Policy": "default-src 'none'"})
        file = self.workspace / name
        if not self._is_open(file):
            return PlainTextResponse("There is no such page.\n", 404)
        return FileResponse(file, media_type=KINDS[file.suffix], headers=_HEADERS)

    def _is_open(self, file: Path) -> bool:
        """Return True for a regular file of a served kind in the workspace, reached by no link, in no closed folder."""
        if file.suffix not in KINDS or not file.is_file() or file.resolve() != file:
            return False
        parts = file.relative_to(self.workspace).parts if file.is_relative_to(self.workspace) else (".",)
        return parts[0] not in CLOSED and not any(part.startswith(".") for part in parts)

    def _list(self) -> str:
        folders = [f for f in self.workspace.iterdir() if f.is_dir() and f.name not in CLOSED and not f.is_symlink()]
        found = [*self.workspace.glob("*.html"), *(page for folder in folders for page in folder.rglob("*.html"))]
        newest = sorted(filter(self._is_open, found), key=lambda page: page.stat().st_mtime, reverse=True)[:SHOWN]
        names = [page.relative_to(self.workspace).as_posix() for page in newest]
        rows = "".join(f'<li><a href="{PAGES}{quote(name)}">{escape(name)}</a>' for name in names)
        return f"<!doctype html><meta charset=utf-8><title>Pages</title><h1>Pages, newest first</h1><ul>{rows}</ul>"


def page_path(workspace: Path, file: Path) -> str:
    """Return the path of a file of the workspace on the server; empty for a file elsewhere."""
    inside = file.is_relative_to(workspace) and file.relative_to(workspace).parts[0] not in CLOSED
    return f"{PAGES}{quote(file.relative_to(workspace).as_posix())}" if inside and file.suffix in KINDS else ""
