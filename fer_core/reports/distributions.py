"""Draw distributions over clips as SVG, in the colours of the page (`templates/datacard.css`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup

from fer_core.preprocess.faces import FrameStatus

_BINS = 24
_TICKS = 120
_BAD_FIRST = (
    FrameStatus.DECODE_ERROR, FrameStatus.NO_FACE, FrameStatus.NOT_A_FACE, FrameStatus.LOW_WEIGHT,
    FrameStatus.USED,
)  # fmt: skip


def meter_svg(share: float) -> Markup:
    """Return a thin bar, filled to the share; empty for NaN."""
    if math.isnan(share):
        return Markup("")
    return Markup(
        '<svg class="meter" viewBox="0 0 60 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="60" height="4"/><rect width="{60 * share:.1f}" height="4"/></svg>'
    )


def ledger_svg(ledger: Sequence[FrameStatus]) -> Markup:
    """Return one tick per selected frame, in order, coloured by the frame's status.

    Many frames share ticks; a shared tick has the colour of its worst frame.
    """
    shared = math.ceil(len(ledger) / _TICKS) or 1
    ticks = [min(ledger[i : i + shared], key=_BAD_FIRST.index) for i in range(0, len(ledger), shared)]
    width = min(240 / max(len(ticks), 1), 16)
    drawn = "".join(
        f'<rect class="{status.value}" x="{i * width:.2f}" y="0" width="{0.8 * width:.2f}" height="14"/>'
        for i, status in enumerate(ticks)
    )
    return Markup(
        f'<svg class="strip" viewBox="0 0 240 14" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
    )


def spread_svg(
    values: np.ndarray, databases: Sequence[int], emotions: Sequence[str | None], classes: Sequence[str]
) -> Markup:
    """Return a histogram stacked by database, and below it the middle 80 % and the median of each class.

    Args:
        values: (n,) one per clip; NaN where unknown; at least one is known.
        databases: n indices of the clips' databases, 0 ... 5.
        emotions: n labels.
        classes: classes to draw a line for.
    """
    known = np.isfinite(values)
    edges = _edges(values[known])
    left, right, top, floor = max(74, 10 + 6 * max(map(len, classes))), 474, 10, 112

    def x(value: float) -> float:
        return left + (right - left) * (value - edges[0]) / (edges[-1] - edges[0])

    columns = [np.histogram(values[known & (np.array(databases) == d)], edges)[0] for d in range(6)]
    highest = int(np.sum(columns, axis=0).max())
    height = floor + 30 + 15 * len(classes)
    parts = [
        f'<svg class="chart" viewBox="0 0 480 {height}" role="img" aria-label="histogram of {int(known.sum())} clips">',
        f'<path class="grid" d="M{left} {floor}H{right}M{left} {top}H{right}"/>',
        f'<text class="name" x="{left - 6}" y="{top + 4}">{highest} clips</text>',
    ]
    for i, (low, high) in enumerate(pairwise(edges)):
        y = float(floor)
        for d, column in enumerate(columns):
            if tall := (floor - top) * column[i] / highest:
                y -= tall
                parts.append(
                    f'<rect class="d{d}" x="{x(low) + 0.5:.1f}" y="{y:.1f}" width="{x(high) - x(low) - 1:.1f}" '
                    f'height="{tall:.1f}"/>'
                )
    for tick in _ticks(edges):
        parts.append(f'<text class="tick" x="{x(tick):.1f}" y="{floor + 14}">{tick:g}</text>')
    for place, emotion in enumerate(classes):
        y = floor + 30 + 15 * place
        parts.append(f'<text class="name" x="{left - 6}" y="{y + 3.5}">{emotion}</text>')
        here = values[known & np.array([e == emotion for e in emotions])]
        if len(here):
            low, middle, high = (x(float(v)) for v in np.percentile(here, [10, 50, 90]))
            parts.append(f'<path class="range c-{emotion}" d="M{low:.1f} {y}H{max(high, low + 0.1):.1f}"/>')
            parts.append(f'<circle class="c-{emotion}" cx="{middle:.1f}" cy="{y}" r="4"/>')
    return Markup("".join(parts) + "</svg>")


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the edges of about 24 equal bins around the values; the edges are whole, round numbers."""
    low, high = float(values.min()), float(values.max())
    raw = max((high - low) / _BINS, 1.0)
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    return step * np.arange(math.floor(low / step), math.floor(high / step) + 2)


def _ticks(edges: np.ndarray) -> list[float]:
    """Return about five of the edges, evenly spaced."""
    return [float(edge) for edge in edges[:: max(round((len(edges) - 1) / 5), 1)]]
