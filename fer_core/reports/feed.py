"""The page of a watched folder: what arrived, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fer_core import __version__
from fer_core.reports.page import bars_svg, data_uri, render_page
from fer_core.scoring.arrivals import Arrival
from fer_core.store import write_atomic

REFRESH_S = 30  # a browser loads the page again


def write_feed(arrivals: Sequence[Arrival], folder: str, page: Path) -> None:
    """Write the page; it appears complete or not at all.

    Args:
        arrivals: newest first.
        folder: name of the watched folder.
    Raises:
        StoreError: the file cannot be written.
    """
    shown = [_shown(arrival, row) for arrival in arrivals for row in arrival.rows]
    classes = tuple(dict.fromkeys(name for arrival in arrivals for row in arrival.rows for name in row["classes"]))
    html = render_page(
        "feed.html.j2",
        colored=classes,
        rows=shown,
        folder=folder,
        refresh=REFRESH_S,
        synthetic=any(row["synthetic_trained"] for arrival in arrivals for row in arrival.rows),
        ferflow=__version__,
    )
    write_atomic(page, html.encode())


def _shown(arrival: Arrival, row: dict[str, Any]) -> dict[str, Any]:
    also = [name for name in arrival.names if name != row["clip"]]
    return {
        "clip": row["clip"],
        "person": row["person"] if len(arrival.rows) > 1 else 0,
        "also": also,
        "gone": not arrival.names,
        "when": datetime.fromisoformat(arrival.scored_at).strftime("%d %B %Y, %H:%M:%S UTC").lstrip("0"),
        "face": data_uri(arrival.face) if arrival.face and row["person"] == 1 else "",
        "emotion": row["emotion"],
        "confidence": row["confidence"],
        "abstained": row["abstained"],
        "status": row["status"],
        "reason": row["reason"],
        "flags": row["flags"].split(),
        "model": f"{row['model']} version {row['model_version']}",
        "bars": bars_svg([row[name] for name in row["classes"]], row["classes"]) if row["emotion"] else "",
    }
