"""Show values as Prefect artifacts: tables, Markdown, pictures, and progress bars."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from fer_core.clips.cells import markdown_text
from flows.support.progress import report


def artifact_key(text: str) -> str:
    """Return `text` as a valid Prefect key: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Show rows with the same columns as a table on the run's page.

    Text in cells is escaped, because the UI reads it as Markdown.
    """
    cells = [{name: markdown_text(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows]
    create_table_artifact(cells, key=artifact_key(key), description=description)


def show_markdown(key: str, markdown: str, description: str = "") -> None:
    """Show Markdown text on the run's page."""
    create_markdown_artifact(markdown, key=artifact_key(key), description=description)


def show_picture(key: str, png: bytes, title: str) -> None:
    """Show a picture on the run's page, as a data URI in Markdown.

    An image artifact would need a URL that the UI can load.
    """
    data = base64.b64encode(png).decode()
    create_markdown_artifact(f"![{title}](data:image/png;base64,{data})", key=artifact_key(key), description=title)


def progress_bar(key: str, description: str) -> Callable[[int, int], None]:
    """Show a progress bar on the run's page, and return the callback that moves it: (done, total).

    Changes below one percent are not sent.
    """
    artifact = cast(UUID, create_progress_artifact(0.0, key=artifact_key(key), description=description))
    shown = 0.0

    def move(done: int, total: int) -> None:
        nonlocal shown
        report(description, done, total)
        percent = 100.0 * done / max(total, 1)
        if percent - shown >= 1 or done == total:
            update_progress_artifact(artifact, percent)
            shown = percent

    return move
