"""FACS action units: how each moves the skin, which furrows it makes, and the prototypes of the six emotions.

Lengths are face units: 1 = half a face's width at the cheekbones (about 7 cm); x to the image's right, y down, z to the
camera; the origin lies between the eyes. Entries describe the side x > 0 and are mirrored; an anchor is a landmark of
the subject, so that a unit moves *this* face's brow or lip corner. Source: Ekman, Friesen & Hager, FACS (2002).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fer_core.emotions import Emotion

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 20, 23, 25, 26)
ROW = {unit: row for row, unit in enumerate(UNITS)}


class Push(NamedTuple):
    """A smooth displacement: `move` (dx, dy, dz) at its centre, falling off as a Gaussian of width `spread` (x, y).

    With `hinged`, everything below the centre moves as far as the centre (the jaw).
    """

    anchor: str
    centre: tuple[float, float]
    spread: tuple[float, float]
    move: tuple[float, float, float]
    hinged: bool = False


class Furrow(NamedTuple):
    """A crease along a polyline, `depth` deep at full strength, between raised flanks."""

    anchor: str
    line: tuple[tuple[float, float], ...]
    width: float
    depth: float


PUSHES: Mapping[int, tuple[Push, ...]] = {
    1: (
        Push("brow", (-0.24, 0.0), (0.15, 0.17), (0.01, -0.17, 0.01)),
        Push("brow", (-0.26, -0.35), (0.2, 0.24), (0.0, -0.06, 0.0)),
    ),
    2: (
        Push("brow", (0.20, 0.02), (0.21, 0.17), (0.0, -0.15, 0.01)),
        Push("brow", (0.18, -0.33), (0.26, 0.24), (0.0, -0.06, 0.0)),
    ),
    4: (
        Push("brow", (-0.25, 0.0), (0.17, 0.16), (-0.065, 0.12, 0.0)),
        Push("brow", (0.05, 0.0), (0.2, 0.15), (-0.03, 0.075, 0.01)),
        Push("root", (0.09, -0.12), (0.06, 0.1), (0.0, 0.0, 0.035)),
    ),
    5: (Push("eye", (0.0, -0.13), (0.2, 0.06), (0.0, -0.02, 0.0)),),
    6: (
        Push("cheek", (-0.02, 0.0), (0.28, 0.17), (0.0, -0.085, 0.0)),
        Push("cheek", (0.0, -0.03), (0.2, 0.13), (0.0, 0.0, 0.055)),
        Push("eye", (0.3, 0.05), (0.1, 0.12), (-0.03, 0.0, 0.0)),
    ),
    7: (
        Push("eye", (0.0, 0.13), (0.2, 0.06), (0.0, -0.03, 0.015)),
        Push("eye", (0.28, 0.0), (0.1, 0.1), (-0.015, 0.0, 0.0)),
    ),
    9: (
        Push("wing", (-0.02, -0.05), (0.13, 0.2), (0.0, -0.08, 0.0)),
        Push("wing", (0.16, -0.12), (0.14, 0.16), (-0.02, -0.06, 0.03)),
        Push("root", (0.12, 0.16), (0.07, 0.1), (0.0, -0.02, 0.03)),
        Push("brow", (-0.27, 0.0), (0.15, 0.14), (-0.04, 0.085, 0.0)),
    ),
    10: (
        Push("wing", (0.06, 0.2), (0.16, 0.12), (0.01, -0.08, 0.015)),
        Push("wing", (0.2, 0.02), (0.12, 0.14), (0.0, -0.05, 0.045)),
    ),
    12: (
        Push("corner", (0.0, 0.0), (0.17, 0.17), (0.12, -0.115, -0.02)),
        Push("cheek", (0.02, 0.26), (0.2, 0.2), (0.03, -0.07, 0.0)),
        Push("cheek", (0.0, 0.16), (0.17, 0.15), (0.0, 0.0, 0.075)),
    ),
    15: (
        Push("corner", (0.0, 0.02), (0.15, 0.15), (0.015, 0.115, 0.0)),
        Push("corner", (0.06, 0.2), (0.09, 0.1), (0.0, 0.0, 0.03)),
    ),
    16: (Push("lips", (0.13, 0.2), (0.2, 0.12), (0.0, 0.08, 0.01)),),
    17: (
        Push("chin", (0.0, -0.22), (0.2, 0.17), (0.0, -0.075, 0.03)),
        Push("lips", (0.0, 0.18), (0.2, 0.1), (0.0, -0.03, 0.02)),
    ),
    20: (
        Push("corner", (0.02, 0.02), (0.2, 0.2), (0.12, 0.035, -0.03)),
        Push("corner", (0.2, 0.3), (0.2, 0.25), (0.04, 0.03, 0.0)),
    ),
    23: (
        Push("corner", (0.0, 0.0), (0.14, 0.12), (-0.035, 0.0, 0.015)),
        Push("lips", (0.1, -0.14), (0.2, 0.06), (0.0, 0.015, 0.03)),
        Push("lips", (0.1, 0.17), (0.2, 0.07), (0.0, -0.015, 0.03)),
    ),
    25: (),
    26: (
        Push("chin", (0.0, -0.1), (0.62, 0.3), (0.0, 0.17, 0.0), hinged=True),  # the midline is pushed by both sides
        Push("cheek", (0.1, 0.5), (0.22, 0.35), (-0.05, 0.06, -0.03)),
    ),
}

FURROWS: Mapping[int, tuple[Furrow, ...]] = {
    1: (
        Furrow("brow", ((-0.46, -0.2), (-0.3, -0.23), (-0.1, -0.2)), 0.03, 0.024),
        Furrow("brow", ((-0.46, -0.36), (-0.26, -0.39), (-0.06, -0.35)), 0.03, 0.022),
    ),
    2: (
        Furrow("brow", ((-0.2, -0.19), (0.08, -0.23), (0.3, -0.16)), 0.03, 0.022),
        Furrow("brow", ((-0.2, -0.36), (0.05, -0.38), (0.24, -0.32)), 0.03, 0.018),
    ),
    4: (
        Furrow("brow", ((-0.38, 0.12), (-0.37, -0.02), (-0.34, -0.18)), 0.028, 0.04),
        Furrow("root", ((0.0, -0.02), (0.1, 0.0)), 0.03, 0.02),
    ),
    6: (
        Furrow("eye", ((0.25, 0.03), (0.42, 0.09)), 0.022, 0.024),
        Furrow("eye", ((0.25, -0.01), (0.43, -0.04)), 0.022, 0.02),
        Furrow("eye", ((-0.2, 0.13), (0.0, 0.19), (0.22, 0.14)), 0.03, 0.028),
    ),
    7: (Furrow("eye", ((-0.17, 0.12), (0.02, 0.15), (0.2, 0.11)), 0.025, 0.022),),
    9: (
        Furrow("root", ((0.0, 0.06), (0.1, 0.03)), 0.026, 0.035),
        Furrow("root", ((0.0, 0.15), (0.13, 0.1)), 0.026, 0.035),
        Furrow("root", ((0.08, 0.3), (0.17, 0.17), (0.24, 0.12)), 0.028, 0.035),
        Furrow("wing", ((0.06, -0.12), (0.1, -0.01), (0.16, 0.12)), 0.03, 0.045),
    ),
    10: (Furrow("wing", ((0.05, -0.06), (0.14, 0.04), (0.26, 0.24), (0.28, 0.36)), 0.034, 0.06),),
    12: (
        Furrow("wing", ((0.06, -0.02), (0.16, 0.1), (0.26, 0.28), (0.28, 0.42)), 0.036, 0.055),
        Furrow("corner", ((0.1, -0.06), (0.12, 0.06)), 0.03, 0.03),
    ),
    15: (Furrow("corner", ((0.05, 0.03), (0.1, 0.14), (0.1, 0.26)), 0.032, 0.045),),
    17: (
        Furrow("chin", ((0.0, -0.4), (0.14, -0.37), (0.22, -0.3)), 0.034, 0.04),
        Furrow("chin", ((0.04, -0.28), (0.1, -0.22)), 0.026, 0.02),
        Furrow("chin", ((0.06, -0.16), (0.13, -0.14)), 0.026, 0.018),
    ),
    20: (Furrow("corner", ((0.14, -0.12), (0.17, 0.04), (0.14, 0.2)), 0.032, 0.035),),
    23: (Furrow("lips", ((0.0, 0.2), (0.16, 0.19), (0.28, 0.14)), 0.03, 0.03),),
}

PROTOTYPES: Mapping[Emotion, Mapping[int, float]] = {
    Emotion.ANGER: {4: 1.0, 5: 0.55, 7: 0.8, 23: 0.9},
    Emotion.DISGUST: {9: 0.95, 10: 0.85, 15: 0.5, 16: 0.5},
    Emotion.FEAR: {1: 0.85, 2: 0.45, 4: 0.5, 5: 0.85, 7: 0.3, 20: 0.8, 26: 0.4},
    Emotion.HAPPINESS: {6: 0.8, 12: 0.95},
    Emotion.SADNESS: {1: 0.9, 4: 0.5, 15: 0.9},
    Emotion.SURPRISE: {1: 0.9, 2: 0.95, 5: 0.8, 26: 0.9},
}

# Units people often add to a prototype: (unit, probability, strength at full intensity).
HABITS: Mapping[Emotion, tuple[tuple[int, float, float], ...]] = {
    Emotion.ANGER: ((9, 0.25, 0.5), (10, 0.3, 0.6), (17, 0.3, 0.5)),
    Emotion.DISGUST: ((4, 0.4, 0.6), (7, 0.5, 0.6), (6, 0.3, 0.4), (17, 0.25, 0.5)),
    Emotion.FEAR: ((25, 0.6, 0.8), (26, 0.25, 0.4)),
    Emotion.HAPPINESS: ((25, 0.65, 0.9), (26, 0.25, 0.3), (7, 0.2, 0.4)),
    Emotion.SADNESS: ((17, 0.6, 0.7), (7, 0.25, 0.35)),
    Emotion.SURPRISE: ((25, 0.5, 0.5), (20, 0.12, 0.4)),
}
