"""The strip of a clip's windows."""

from __future__ import annotations

import re

import numpy as np

from fer_core.emotions import SIX
from fer_core.reports.windows_plot import WIDTH, windows_svg
from fer_core.scoring.windows import Windows


def windows(index: list[int], step: float = 1.0) -> Windows:
    n = len(index)
    shares = np.full((n, len(SIX)), 0.1)
    for row, column in enumerate(index):
        shares[row] = np.nan if column < 0 else shares[row]
        if column >= 0:
            shares[row, column] = 0.5
    used = np.array([0 if column < 0 else 5 for column in index])
    start = step * np.arange(n)
    return Windows(start, start + step, shares, used == 0, used, np.full(n, 5))


def blocks(svg: str) -> list[tuple[str, float, float]]:
    found = re.findall(r'<rect class="(.*?)" x="(.*?)" y=".*?" width="(.*?)"', svg)
    return [(kind, float(x), float(width)) for kind, x, width in found]


def test_blocks_stand_where_their_windows_are_and_none_where_no_face_is():
    svg = str(windows_svg(windows([0, 0, -1, 3]), SIX))
    quarter = WIDTH / 4
    assert blocks(svg) == [
        (f"c-{SIX[0]}", 0, quarter),
        (f"c-{SIX[0]}", quarter, quarter),
        (f"c-{SIX[3]}", 570, quarter),
    ]
    assert f"{SIX[0]} 2.0 s, {SIX[3]} 1.0 s" in svg and "1 s</text>" in svg


def test_the_strip_of_a_long_clip_is_small():
    svg = str(windows_svg(windows([i % 7 // 2 for i in range(7200)]), SIX))
    assert len(svg) < 700_000 and "30:00" in svg
