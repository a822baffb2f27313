"""Our values as Prefect artifacts: tables, Markdown, pictures, and a bar that moves while work goes on."""

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
    """`text` as Prefect wants keys: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """Rows with the same columns, as a table on the run's page; the UI takes text in cells for Markdown."""
    cells = [{name: markdown_text(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows]
    create_table_artifact(cells, key=artifact_key(key), description=description)


def show_markdown(key: str, markdown: str, description: str = "") -> None:
    """Text with headings, links and small tables."""
    create_markdown_artifact(markdown, key=artifact_key(key), description=description)


def show_picture(key: str, png: bytes, title: str) -> None:
    """A picture, inside Markdown: the UI draws data URIs there, and an image artifact only from a URL it can fetch."""
    data = base64.b64encode(png).decode()
    create_markdown_artifact(f"![{title}](data:image/png;base64,{data})", key=artifact_key(key), description=title)


def progress_bar(key: str, description: str) -> Callable[[int, int], None]:
    """A bar on the run's page, moved by the callback: (done, total). Moves under a percent are not sent."""
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
