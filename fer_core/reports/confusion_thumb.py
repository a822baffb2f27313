"""The confusion matrix as a thumbnail, drawn in milliseconds because every trial of a search has one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fer_core.evaluation.metrics import Evaluation

SIDE = 480  # pixels
_MARGIN, _INK = 62, (48, 52, 59)
_SHADES = np.array([[247, 251, 255], [107, 174, 214], [8, 48, 107]])  # of 0, 50 and 100 %


def confusion_thumb(evaluation: Evaluation) -> np.ndarray:
    """Draw the confusion matrix in %, rows are the truth, in large type: (480, 480, 3) uint8 RGB."""
    k = len(evaluation.classes)
    names = abbreviations([str(c) for c in evaluation.classes])
    cell = (SIDE - _MARGIN - 8) / k
    size = int(min(28, 0.42 * cell))
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for (row, column), value in np.ndenumerate(evaluation.normalized()):
        left, top = _MARGIN + column * cell, _MARGIN + row * cell
        share = 0.0 if np.isnan(value) else value / 100
        draw.rectangle((left, top, left + cell, top + cell), fill=_shade(share))
        text = "–" if np.isnan(value) else f"{value:.0f}" if value >= 0.5 else ""
        ink = (255, 255, 255) if share > 0.5 else _INK
        draw.text((left + cell / 2, top + cell / 2), text, ink, _font(size), anchor="mm")
    for i, name in enumerate(names):
        middle = _MARGIN + (i + 0.5) * cell
        draw.text((middle, _MARGIN - 6), name, _INK, _font(min(size, 20)), anchor="ms")
        draw.text((_MARGIN - 6, middle), name, _INK, _font(min(size, 20)), anchor="rm")
    title = f"mean recall {100 * evaluation.mean_recall.value:.1f} %"
    draw.text((SIDE / 2, 18), title, _INK, _font(22), anchor="mm")
    return np.asarray(picture)


def abbreviations(names: Sequence[str]) -> list[str]:
    """Return the first letters of each name: three, or as many as keep the names apart, six at most."""
    longest = max(map(len, names))
    length = next((n for n in range(3, longest) if len({name[:n] for name in names}) == len(names)), longest)
    return [name[: min(length, 6)] for name in names]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _shade(share: float) -> tuple[int, ...]:
    return tuple(int(np.interp(share, (0, 0.5, 1), _SHADES[:, channel])) for channel in range(3))
