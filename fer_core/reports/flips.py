"""The page of clips whose verdict differs between two versions, with the explanations of both."""

from __future__ import annotations

import time
from typing import Any

from fer_core import __version__
from fer_core.emotions import Classes
from fer_core.reports.page import bars_svg, data_uri, render_page
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.explain import shrunk
from fer_core.scoring.flips import Flips
from fer_core.scoring.inputs import printable

_STRIP = 96  # height in pixels
SHOWN = 500  # clips on the page; the table has all


def flips_page(found: Flips, name: str, versions: tuple[str, str], classes: Classes) -> str:
    """Return the self-contained HTML page.

    Args:
        name: name of the registered model.
        versions: the older and the newer version.
        classes: classes of both versions, for their colours.
    """
    outcomes = [flip.outcome for flip in found.flips]
    return render_page(
        "flips.html.j2",
        extra_css="flips.css",
        colored=classes,
        flips=[
            {
                "clip": printable(flip.before.clip),
                "label": flip.before.label or "",
                "outcome": flip.outcome,
                "face": data_uri(face) if (face := flip.after.thumbnail or flip.before.thumbnail) else "",
                "sides": [
                    _side(row, version) for row, version in zip((flip.before, flip.after), versions, strict=True)
                ],
            }
            for flip in found.flips[:SHOWN]
        ],
        ways=[(before, after, n) for (before, after), n in found.ways.items()],
        n_clips=found.clips,
        n_flips=len(found.flips),
        outcomes=[(kind, outcomes.count(kind)) for kind in ("mended", "broken", "both wrong") if kind in outcomes],
        shown=SHOWN,
        name=name,
        versions=versions,
        generated=time.strftime("%d %B %Y, %H:%M").lstrip("0"),
        ferflow=__version__,
    )


def _side(row: ClipScore, version: str) -> dict[str, Any]:
    return {
        "version": version,
        "emotion": str(row.emotion) if row.emotion else "",
        "confidence": f"{100 * row.confidence:.0f} %" if row.emotion else "",
        "abstained": row.abstained and bool(row.emotion),
        "why": printable(row.reason),
        "status": row.status.value,
        "bars": bars_svg(row.probabilities.tolist(), row.classes) if row.probabilities is not None else "",
        "explained": data_uri(shrunk(row.explanation, _STRIP)) if row.explanation else "",
    }
