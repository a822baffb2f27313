"""Eyes and mouth, drawn anew in every frame: they open, and their insides do not stretch with the skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fer_core.clips.synthetic.identity import WINDOW, Grid, Identity
from fer_core.clips.synthetic.units import ROW

_IRIS = 0.086  # radius in face units: 11.8 mm across, equal in all people
_BALL = 0.175


@dataclass
class Canvas:
    """The frame while it is drawn, before it is lit. All arrays (h, w) float32, `rgb` (h, w, 3).

    `glint` is light that is added after lighting.
    """

    grid: Grid
    z: np.ndarray
    rgb: np.ndarray
    gloss: np.ndarray
    glint: np.ndarray

    def window(self, x: float, y: float, rx: float, ry: float) -> Canvas:
        """Return a view of the part within `rx`, `ry` face units of (x, y)."""
        h, w = self.z.shape
        left, right = (int(np.clip((v - WINDOW[0]) * self.grid.ppu, 0, w)) for v in (x - rx, x + rx))
        top, bottom = (int(np.clip((v - WINDOW[2]) * self.grid.ppu, 0, h)) for v in (y - ry, y + ry))
        cut = np.s_[top:bottom, left:right]
        grid = Grid(self.grid.x[cut], self.grid.y[cut], self.grid.ppu)
        return Canvas(grid, self.z[cut], self.rgb[cut], self.gloss[cut], self.glint[cut])

    def lay(self, cover: np.ndarray, colour: np.ndarray | tuple[float, ...], gloss: float | None = None) -> None:
        """Paint `colour`, and set `gloss`, in proportion to `cover`, (h, w) from 0 to 1."""
        self.rgb += (np.asarray(colour, np.float32) - self.rgb) * cover[..., None]
        if gloss is not None:
            self.gloss += (gloss - self.gloss) * cover


def draw_eye(
    canvas: Canvas,
    i: Identity,
    side: int,
    units: np.ndarray,
    gaze: tuple[float, float],
    blink: float,
    light: np.ndarray,
) -> None:
    """Draw one eye with its lids.

    Args:
        canvas: the frame, drawn into in place.
        i: the person.
        side: -1 image left, 1 image right.
        units: (units,) strengths on this side.
        gaze: where the pupil looks, face units right and down.
        blink: 0 open .. 1 shut.
        light: direction to the key light.
    """
    au = {unit: float(units[row]) for unit, row in ROW.items()}
    cx, cy = side * i.eye_x, -0.05 * au[9] * 0.3
    c = canvas.window(cx, cy, 0.36, 0.3)
    out = side * (c.grid.x - cx)  # towards the temple
    half = i.eye_half * (1 - 0.04 * au[6] - 0.04 * au[7])
    y = c.grid.y - cy + i.eye_tilt * out
    s = np.clip(out / half, -1, 1)
    round_ = np.sqrt(np.clip(1 - s**2, 0, 1))
    up = i.lid_up + 0.055 * au[5] - 0.014 * au[7] - 0.012 * au[6] - 0.02 * au[9] - 0.012 * au[4] - 0.01 * au[12]
    up += -0.012 * au[15] - 0.006 * au[10]
    low = i.lid_low - 0.03 * au[6] - 0.028 * au[7] - 0.022 * au[9] + 0.010 * au[5] - 0.008 * au[12]
    inner = -0.22 * s  # the highest point of the upper lid lies slightly towards the nose
    slant = 0.22 * au[1] * (1 - 0.6 * au[5]) - 0.16 * au[4]  # the lid follows the inner brow up or down
    shape = np.clip(round_ * (1 + inner * round_ - slant * s * 0.6), 0, 2)
    up_y = -up * (1 - blink) * shape + blink * low * 0.8 * round_**1.2
    low_y = np.maximum(low * round_**1.25 * (1 + 0.22 * s), up_y)
    wide = np.abs(out) < half
    opening = np.clip((y - up_y) * c.grid.ppu + 0.4, 0, 1) * np.clip((low_y - y) * c.grid.ppu + 0.4, 0, 1) * wide
    opening *= np.clip((low_y - up_y) * c.grid.ppu / 1.5, 0, 1)

    _lids(c, i, au, out, half, y, up_y, low_y, blink)

    ix, iy = gaze[0], gaze[1] - 0.012
    r = np.hypot(out * side - ix, y - iy)
    white = np.array([0.68, 0.63, 0.60], np.float32) * (
        1 - 0.35 * np.abs(s[..., None]) ** 3 * np.array([0.3, 1, 1], np.float32)
    )
    c.lay(opening, white, 0.9)
    spokes = 0.85 + 0.3 * np.sin(17 * np.arctan2(y - iy, out - side * ix)) * np.clip(r / _IRIS, 0, 1)
    iris = np.array(i.iris, np.float32) * (spokes * (1.25 - 0.5 * r / _IRIS))[..., None]
    c.lay(opening * c.grid.edge(_IRIS - r, 1.6), iris)
    c.lay(opening * np.exp(-0.5 * ((r - _IRIS) / 0.012) ** 2) * 0.75, (0.02, 0.018, 0.015))
    c.lay(opening * c.grid.edge(0.037 - r, 1.4), (0.004, 0.004, 0.004))
    c.lay(opening * np.clip((-s - 0.78) * 6, 0, 1) * 0.7, (0.45, 0.2, 0.18))
    shadow = 1 - 0.62 * np.exp(-np.clip(y - up_y, 0, 1) / 0.03)
    c.rgb *= 1 - opening[..., None] * (1 - shadow[..., None])
    ball = 0.0 - 0.5 * ((out / _BALL) ** 2 + (y / _BALL) ** 2) * _BALL
    floor = c.z[c.z.shape[0] // 2, c.z.shape[1] // 2]
    c.z += (floor + ball - 0.01 - c.z) * opening
    gx, gy = ix + 0.035 * np.sign(light[0]), iy - 0.035
    spot = np.exp(-0.5 * (((out * side - gx) / 0.013) ** 2 + ((y - gy) / 0.013) ** 2))
    c.glint += 0.75 * spot * opening

    lash = np.exp(-0.5 * ((y - up_y + 0.004) / (0.011 + 0.007 * i.lash)) ** 2) * (np.abs(out) < half * 1.04)
    c.lay(np.clip(lash * (0.55 + 0.4 * i.lash) * (0.8 + 0.35 * s), 0, 0.95), (0.012, 0.009, 0.008), 0.1)
    rim = np.exp(-0.5 * ((y - low_y - 0.004) / 0.012) ** 2) * wide
    c.lay(rim * (0.3 + 0.15 * i.lash), (0.06, 0.035, 0.03))


def _lids(
    c: Canvas,
    i: Identity,
    au: dict[int, float],
    out: np.ndarray,
    half: float,
    y: np.ndarray,
    up_y: np.ndarray,
    low_y: np.ndarray,
    blink: float,
) -> None:
    """Draw the fold above the eye and the bulge of the lower lid."""
    t = out / (half * 1.12)
    arc = np.sqrt(np.clip(1 - t**2, 0, 1))
    # a lowered brow pushes the fold onto the lashes; a raised brow or a shut eye shows the lid
    gap = i.crease * np.clip(1 - 0.75 * au[4] - 0.6 * au[9] + 0.5 * au[1] + 0.4 * au[2], 0.15, 1.8) + 0.02 * blink
    rest = -(i.lid_up + 0.6 * np.clip(0.055 * au[5], 0, 1)) * arc
    fold_y = np.minimum(rest, up_y) - gap * (0.45 + 0.55 * arc)
    seen = np.clip(arc * 2.2, 0, 1)
    fold = np.exp(-0.5 * ((y - fold_y) / 0.014) ** 2) * seen
    c.z -= 0.02 * fold
    c.rgb *= (1 - 0.38 * fold)[..., None]
    over = np.exp(-0.5 * ((y - fold_y + 0.035) / 0.03) ** 2) * seen
    c.z += 0.014 * over * (1 + 1.6 * au[4] + au[9])
    bag = np.exp(-0.5 * ((y - low_y - 0.032) / 0.02) ** 2) * seen
    c.z += 0.013 * bag * (1 + 1.3 * au[6] + 1.2 * au[7])


def draw_mouth(canvas: Canvas, i: Identity, units: np.ndarray) -> None:
    """Draw the lips, and the inside of the mouth where they are apart.

    Args:
        canvas: the frame, drawn into in place.
        i: the person.
        units: (2, units) strengths, image left and right.
    """
    both = units.mean(axis=0)
    au = {unit: float(both[row]) for unit, row in ROW.items()}
    left, right = ({unit: float(side[row]) for unit, row in ROW.items()} for side in units)

    drop = 0.25 * au[26]
    ends = [
        (0.12 * a[12] + 0.012 * a[15] + 0.12 * a[20] - 0.035 * a[23] - 0.055 * a[26] - 0.02 * a[17],
         -0.125 * a[12] + 0.115 * a[15] + 0.035 * a[20] - 0.02 * a[10] + 0.10 * a[26])
        for a in (left, right)
    ]  # fmt: skip
    x0, x1 = -i.mouth_half - ends[0][0], i.mouth_half + ends[1][0]
    mid, half = (x0 + x1) / 2, (x1 - x0) / 2
    c = canvas.window(mid, i.mouth_y + 0.13, half * 1.25, 0.55)
    s = (c.grid.x - mid) / half
    a = np.abs(np.clip(s, -1, 1))
    arc = np.clip(1 - a**2, 0, 1)

    rise = 0.075 * au[10] + 0.035 * au[9] - 0.012 * au[15]
    line = i.mouth_y - 0.02 * au[12] + np.where(s < 0, ends[0][1], ends[1][1]) * a**1.7
    line = line - 0.045 * au[17] * arc - 0.35 * rise * arc**0.5 + 0.012 * np.cos(5 * s) * (1 - a) * (1 - au[26])
    part = au[25] + 0.5 * au[26]
    gap_up = 0.075 * part * au[12] + 0.028 * part + 0.6 * rise + 0.008 * au[20] + 0.015 * au[26]
    gap_low = 0.035 * part + 0.03 * part * au[12] + drop + 0.06 * au[16] + 0.03 * au[10] * (1 - au[17]) + 0.012 * au[20]
    shut = max(0.0, 0.055 * au[17] + 0.05 * au[23] + 0.012 - 0.01 * au[25])
    gap_low, gap_up = max(gap_low - shut, 0.0), max(gap_up - shut, 0.0)
    oval = arc ** (0.5 + 0.25 * au[12] * (1 - au[26]))
    square = np.clip(1 - a**4, 0, 1) ** 0.8
    top_in = line - gap_up * (oval + (square - oval) * min(1.0, au[10] + 0.6 * au[20]))
    low_in = line + gap_low * (oval + (square - oval) * min(1.0, 0.8 * au[20] + 0.5 * au[16]))

    thin = (1 - 0.5 * au[23]) * (1 - 0.22 * au[12]) * (1 - 0.15 * au[20]) * (1 - 0.15 * au[26])
    bow = (1 - a) ** 0.7 * (1 + 0.25 * np.exp(-0.5 * ((a - 0.24) / 0.13) ** 2) - 0.22 * np.exp(-0.5 * (a / 0.09) ** 2))
    top_out = top_in - i.lip_up * thin * (1 - 0.2 * au[10]) * bow
    low_out = low_in + i.lip_low * thin * (1 + 0.15 * au[16] + 0.2 * au[17]) * arc**0.75

    _inside(c, i, s, a, top_in, low_in, gap_low, drop)

    ppu = c.grid.ppu
    y = c.grid.y
    inside = np.abs(s) < 1
    upper = np.clip((y - top_out) * ppu / 1.6 + 0.5, 0, 1) * np.clip((top_in - y) * ppu + 0.5, 0, 1) * inside
    lower = np.clip((low_out - y) * ppu / 1.6 + 0.5, 0, 1) * np.clip((y - low_in) * ppu + 0.5, 0, 1) * inside
    v_up = np.clip((y - top_out) / np.maximum(top_in - top_out, 1e-3), 0, 1)
    v_low = np.clip((y - low_in) / np.maximum(low_out - low_in, 1e-3), 0, 1)
    lines = 1 + 0.06 * np.sin(s * 55 + 3 * np.sin(9 * s)) * arc
    c.lay(upper * 0.92, np.array(i.lip, np.float32) * (0.82 * lines)[..., None], 0.8)
    c.lay(lower * 0.92, np.array(i.lip, np.float32) * lines[..., None], 1.25)
    full = 1 - 0.35 * au[23]
    c.z += upper * 0.055 * full * np.sin(np.pi * (0.12 + 0.78 * v_up)) * arc**0.5
    c.z += lower * 0.07 * full * np.sin(np.pi * (0.1 + 0.85 * v_low)) * arc**0.5

    seam = np.exp(-0.5 * ((y - 0.5 * (top_in + low_in)) / 0.011) ** 2) * inside * np.clip(arc * 3, 0, 1)
    closed = np.clip(1 - (low_in - top_in) * ppu / 2.5, 0, 1)
    c.rgb *= (1 - 0.72 * seam * closed)[..., None]
    c.z -= 0.03 * seam * closed
    for end, (_, dy) in zip((x0, x1), ends, strict=True):
        spot = np.exp(-0.5 * (((c.grid.x - end) / 0.03) ** 2 + ((y - i.mouth_y + 0.02 * au[12] - dy) / 0.03) ** 2))
        c.rgb *= (1 - 0.35 * spot)[..., None]
        c.z -= 0.025 * spot


def _inside(
    c: Canvas,
    i: Identity,
    s: np.ndarray,
    a: np.ndarray,
    top: np.ndarray,
    low: np.ndarray,
    gap_low: float,
    drop: float,
) -> None:
    """Draw the hollow of the mouth, tongue and teeth, where the lips are apart."""
    y, ppu = c.grid.y, c.grid.ppu
    gap = low - top
    hollow = np.clip((y - top) * ppu + 0.5, 0, 1) * np.clip((low - y) * ppu + 0.5, 0, 1) * (np.abs(s) < 1)
    hollow *= np.clip(gap * ppu / 1.2, 0, 1)
    if not hollow.any():
        return
    c.lay(hollow, (0.035, 0.010, 0.009), 0.1)
    tongue_y = i.mouth_y + gap_low - 0.055
    if gap_low > 0.09:
        tongue = c.grid.edge(1 - np.hypot(s / 0.62, (y - tongue_y) / (0.3 * gap_low)), 12)
        c.lay(hollow * tongue, (0.26, 0.075, 0.07), 0.6)
    curve = 0.035 * s**2
    each = c.grid.x / 0.088
    cut = 1 - 0.3 * np.exp(-0.5 * ((each - np.round(each)) / 0.09) ** 2)
    ivory = np.array([0.80, 0.74, 0.64], np.float32) * (cut * (1 - 0.75 * np.clip(a, 0, 1) ** 2.5))[..., None]
    edge = i.mouth_y + 0.028 - curve - 0.012 * np.abs(np.sin(np.pi * each)) ** 0.5 * 0.5
    upper = c.grid.edge(edge - y, 1.3)
    lower = c.grid.edge(y - (i.mouth_y + 0.055 + 1.02 * drop - 0.5 * curve), 1.3) if gap_low > 0.03 else 0 * upper
    shade = 1.05 - 0.45 * np.exp(-np.clip(y - top, 0, 1) / 0.02)
    c.lay(hollow * upper, ivory * shade[..., None], 1.0)
    c.lay(hollow * lower, ivory * 0.7, 0.8)
    c.z += 0.035 * hollow  # raised to the lips, whose shadow would otherwise make the teeth black
