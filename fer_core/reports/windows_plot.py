"""The verdicts of a clip's windows as a strip over time."""

from __future__ import annotations

from itertools import groupby

import numpy as np
from markupsafe import Markup

from fer_core.emotions import Classes
from fer_core.scoring.windows import Windows

WIDTH, HEIGHT = 760, 34  # of the strip, in the units of the picture
_MOST = 400  # blocks; more cannot be told apart
_STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)  # seconds between marks of the time axis
_MARKS = 10


def windows_svg(windows: Windows, classes: Classes) -> Markup:
    """Return a strip: colour by predicted class, height by confidence, pale where abstained, empty without a face.

    A block begins where its window begins and ends where the next one begins. Neighbours of one verdict are joined, up
    to 1/400 of the clip.
    """
    end = float(windows.end_s[-1])
    starts, ends = windows.start_s, np.append(windows.start_s[1:], end)
    index, confidence = windows.index, windows.confidence
    spoken = _spoken(index, ends - starts, classes)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 14}" role="img" aria-label="{spoken}">']
    parts.append(f'<path class="grid" d="M0 0H{WIDTH}M0 {HEIGHT}H{WIDTH}"/>')
    smallest = end / _MOST

    def run(place: int) -> tuple[int, bool, int]:
        return int(index[place]), bool(windows.abstained[place]), int(starts[place] / smallest) if smallest else 0

    for (label, weak, _), group in groupby(range(len(windows)), key=run):
        places = list(group)
        if label < 0:
            continue
        height = HEIGHT * float(np.mean(confidence[places]))
        x, right = WIDTH * starts[places[0]] / end, WIDTH * ends[places[-1]] / end
        box = f'x="{x:.1f}" y="{HEIGHT - height:.1f}" width="{right - x:.1f}" height="{height:.1f}"'
        kind = f"c-{classes[label]}" + (" weak" if weak else "")
        parts.append(f'<rect class="{kind}" {box}/>')
    return Markup("".join([*parts, *_axis(end)]) + "</svg>")


def _axis(end_s: float) -> list[str]:
    step = next((s for s in _STEPS if end_s / s <= _MARKS), _STEPS[-1])
    marks = np.arange(0, end_s, step)
    return [f'<text x="{WIDTH * t / end_s:.1f}" y="{HEIGHT + 12}">{_clock(float(t))}</text>' for t in marks]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes else f"{rest} s"


def _spoken(index: np.ndarray, lasts_s: np.ndarray, classes: Classes) -> str:
    """Return how long each class is predicted, longest first."""
    seconds = [(float(lasts_s[index == place].sum()), label) for place, label in enumerate(classes)]
    said = [f"{label} {total:.1f} s" for total, label in sorted(seconds, reverse=True) if total]
    return "verdicts over time: " + (", ".join(said) or "no face")
