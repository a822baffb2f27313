"""A subject's face at rest: a height field with albedo, and the displacement field of each action unit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

from fer_core.clips.synthetic.hair import hair_and_ears
from fer_core.clips.synthetic.identity import WINDOW, Grid, Identity
from fer_core.clips.synthetic.units import FURROWS, PUSHES, UNITS, Furrow, Push

COARSE = 20.0  # samples per unit of the displacement fields, which are smooth


@dataclass(frozen=True)
class Anatomy:
    """A sampled face at rest, and how its muscles move it. All arrays are float32.

    Args:
        grid: sample points, (h, w).
        height: (h, w) of the face, face units.
        skin: (h, w, 4) albedo of the face, linear RGB, and its coverage.
        gloss: (h, w) specular weight of the face.
        behind, behind_z: (h, w, 4) and (h, w) of ears and the hair behind the face, which muscles do not move.
        front, front_z: the same for the hair in front of the face.
        pushes: (2 * units, 3 * ch * cw) displacements dx, dy, dz on the coarse grid, left sides first.
        coarse: (ch, cw), the shape of the coarse grid.
        furrows: for each crease, its row in (2 * units), its slices of the grid, and its height there at full strength.
    """

    grid: Grid
    height: np.ndarray
    skin: np.ndarray
    gloss: np.ndarray
    behind: np.ndarray
    behind_z: np.ndarray
    front: np.ndarray
    front_z: np.ndarray
    pushes: np.ndarray
    coarse: tuple[int, int]
    furrows: tuple[tuple[int, tuple[slice, slice], np.ndarray], ...]


def build(identity: Identity, ppu: float) -> Anatomy:
    """Return the anatomy of a subject, sampled at `ppu` pixels per face unit."""
    grid = Grid.of(WINDOW, ppu)
    rng = np.random.default_rng(identity.seed)
    width = identity.half_width(grid.y)
    height = _relief(identity, grid, width)
    albedo, gloss = _skin(identity, grid, rng)
    height = height + 0.0009 * grid.cloud(rng, 0.025)
    _brows(identity, grid, rng, albedo, height)
    face = grid.edge(grid.inside(width))
    skin = np.dstack([albedo, face]).astype(np.float32)
    hair = hair_and_ears(identity, grid, rng, width)
    pushes, coarse = _push_fields(identity)
    return Anatomy(grid, height.astype(np.float32), skin, gloss, *hair, pushes, coarse, _furrow_fields(identity, grid))


def _relief(i: Identity, g: Grid, width: np.ndarray) -> np.ndarray:
    """Return the height of the bare face, (h, w) float32: a rounded head with every hill and hollow."""
    across = np.clip(np.abs(g.x) / np.maximum(width, 1e-3), 0, 1)
    z = 1.05 * width**0.6 * np.sqrt(1 - across**2.3)
    z += i.ridge * g.pair(0.36, -0.21, 0.26, 0.08) + 0.04 * g.bump(0, -0.19, 0.13, 0.11)
    z -= 0.15 * g.pair(i.eye_x - 0.02, 0.01, 0.24, 0.15) + 0.07 * g.pair(0.2, 0.02, 0.08, 0.12)
    z += 0.10 * g.pair(i.eye_x, 0.01, 0.17, 0.125)
    z -= 0.018 * g.pair(i.eye_x - 0.04, 0.2, 0.16, 0.05) * (0.4 + i.age)
    z += i.cheekbone * g.pair(0.62, 0.26, 0.24, 0.2) + 0.05 * g.pair(0.4, 0.42, 0.18, 0.17)
    z -= 0.05 * g.pair(0.62, 0.88, 0.2, 0.27)
    z += 0.13 * g.bump(0, i.mouth_y, 0.36, 0.27)
    philtrum = i.mouth_y - 0.2
    z += -0.024 * g.bump(0, philtrum, 0.03, 0.08) + 0.012 * g.pair(0.055, philtrum, 0.025, 0.08)
    z -= 0.075 * g.bump(0, i.mouth_y + 0.25, 0.2, 0.06)
    z += 0.10 * g.bump(0, i.chin_y - 0.22, 0.19, 0.15) - 0.012 * g.bump(0, i.chin_y - 0.2, 0.03, 0.08)
    z -= 0.03 * (0.3 + i.age) * _stroke(g, _mirrored(_anchored(i, FURROWS[12][0])), 0.05)
    return np.asarray(z + _nose(i, g), dtype=np.float32)


def _nose(i: Identity, g: Grid) -> np.ndarray:
    tip = i.nose_tip
    along = np.clip((g.y + 0.16) / (tip + 0.16), 0, 1)
    profile = i.nose_high * (0.22 + 0.78 * along**1.3) * np.clip((g.y + 0.3) / 0.2, 0, 1)
    under = np.clip((g.y - tip) / 0.17, 0, 1)
    profile = profile * (1 - under**1.6) ** 0.9
    spread = i.nose_half * (0.40 + 0.26 * along)
    z = profile * np.exp(-0.5 * np.abs(g.x / spread) ** 2.2)
    z += 0.055 * g.bump(0, tip - 0.03, 0.09, 0.075)
    wing = i.nose_half * 0.80
    z += 0.115 * g.pair(wing, tip + 0.045, 0.06, 0.065) * np.clip((tip + 0.17 - g.y) * 14, 0, 1)
    z -= 0.035 * g.pair(i.nose_half * 1.28, tip + 0.06, 0.035, 0.07)
    z -= 0.03 * g.pair(i.nose_half * 0.42, tip - 0.02, 0.025, 0.06)
    return z


def _skin(i: Identity, g: Grid, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the albedo (h, w, 3) and the gloss (h, w) of the bare skin."""
    tone = 1 + 0.05 * g.cloud(rng, 0.25) + 0.035 * g.cloud(rng, 0.07) + 0.03 * g.cloud(rng, 0.025)
    tone -= 0.10 * g.pair(i.eye_x, 0.03, 0.2, 0.13) + 0.12 * (0.3 + i.age) * g.pair(i.eye_x - 0.05, 0.17, 0.15, 0.05)
    tone -= 0.9 * g.pair(i.nose_half * 0.48, i.nose_tip + 0.12, 0.045, 0.024)
    tone *= 1 - i.freckles * np.clip(g.cloud(rng, 0.022) - 1.2, 0, 1) * g.bump(0, 0.3, 0.6, 0.3)
    beard = g.bump(0, i.chin_y - 0.1, 0.75, 0.35) + 0.8 * g.bump(0, i.mouth_y - 0.17, 0.3, 0.06)
    beard *= 1 - g.bump(0, i.mouth_y, 0.3, 0.1)
    tone *= 1 - i.stubble * np.clip(beard, 0, 1) * (0.75 + 0.25 * g.cloud(rng, 0.02))
    flush = 0.5 * g.pair(0.52, 0.42, 0.22, 0.18) + 0.6 * g.bump(0, i.nose_tip, 0.15, 0.12)
    flush += 0.35 * g.bump(0, i.chin_y - 0.2, 0.2, 0.12) + 0.25 * g.cloud(rng, 0.2)
    tint = np.stack([0.08 * flush, -0.10 * flush, -0.08 * flush], axis=-1)
    albedo = np.clip(tone, 0.05, 2)[..., None] * np.array(i.skin, np.float32) * (1 + tint)
    gloss = 0.5 + 0.5 * g.bump(0, 0.3, 0.14, 0.35) + 0.4 * g.bump(0, -0.6, 0.5, 0.2) + 0.3 * g.pair(0.5, 0.3, 0.2, 0.12)
    return np.clip(albedo, 0.004, 1).astype(np.float32), (gloss * (1 + 0.2 * g.cloud(rng, 0.03))).astype(np.float32)


def _brows(i: Identity, g: Grid, rng: np.random.Generator, albedo: np.ndarray, height: np.ndarray) -> None:
    """Paint the brows hair by hair into `albedo`, and raise them in `height`."""
    fine = 2
    canvas = np.zeros((g.x.shape[0] * fine, g.x.shape[1] * fine), np.float32)
    for side in (-1, 1):
        n = int(170 + 120 * i.brow_dark)
        t = rng.uniform(0, 1, n)
        x = 0.16 + t * (i.eye_x + 0.13)
        arch = i.brow_arch * (1 - ((t - 0.62) / 0.62) ** 2) + i.brow_slant * (t - 0.5)
        thick = i.brow_thick * np.sqrt(np.clip(1.08 - t, 0, 1)) * (0.75 + 0.25 * np.clip(t * 6, 0, 1))
        y = i.brow_y + 0.03 - arch + thick * rng.uniform(-1, 1, n)
        lean = np.interp(t, [0, 0.3, 1], [1.35, 0.6, -0.15]) + rng.normal(0, 0.15, n)
        length = rng.uniform(0.06, 0.11, n)
        ends = np.stack([x + np.cos(lean) * length, y - np.sin(lean) * length * 0.8], -1)
        dark = rng.uniform(0.35, 0.8, n)
        for start, end, d in zip(np.stack([x, y], -1), ends, dark, strict=True):
            line = [
                ((side * px - WINDOW[0]) * g.ppu * fine, (py - WINDOW[2]) * g.ppu * fine) for px, py in (start, end)
            ]
            layer = np.round(np.array(line) * 16).astype(int)
            cv2.line(canvas, layer[0].tolist(), layer[1].tolist(), float(d), 1, cv2.LINE_AA, 4)
    mask = cv2.resize(cv2.GaussianBlur(canvas, (0, 0), 0.9), g.x.shape[::-1], interpolation=cv2.INTER_AREA)
    mask = np.clip(mask * (0.9 + 1.1 * i.brow_dark), 0, 0.96)
    albedo[...] = albedo * (1 - mask[..., None]) + np.array(i.hair, np.float32) * 0.8 * mask[..., None]
    height += 0.012 * mask


def _anchored(i: Identity, what: Furrow) -> np.ndarray:
    return np.array(what.line, dtype=np.float64) + i.anchor(what.anchor)


def _mirrored(line: np.ndarray) -> list[np.ndarray]:
    return [line * (-1, 1), line]


def _stroke(g: Grid, lines: list[np.ndarray], width: float) -> np.ndarray:
    """Return the height of smooth, tapering strokes, (h, w): 1 along their middle, 0 far from them."""
    canvas = np.zeros(g.x.shape, np.float32)
    for line in lines:
        at = np.linspace(0, 1, len(line))
        curve = PchipInterpolator(at, line)(np.linspace(0, 1, 24))
        pixels = np.round((curve - (WINDOW[0], WINDOW[2])) * g.ppu * 16).astype(int)
        for k, (a, b) in enumerate(pairwise(pixels)):
            cv2.line(canvas, a.tolist(), b.tolist(), float(np.sin(np.pi * (k + 0.7) / 24) ** 0.6), 1, cv2.LINE_AA, 4)
    blurred = cv2.GaussianBlur(canvas, (0, 0), width * g.ppu * 0.5)
    return blurred / max(float(blurred.max()), 1e-6)


def _furrow_fields(i: Identity, g: Grid) -> tuple[tuple[int, tuple[slice, slice], np.ndarray], ...]:
    fields = []
    for row, unit in enumerate(UNITS):
        for furrow in FURROWS.get(unit, ()):
            for side, line in enumerate(_mirrored(_anchored(i, furrow))):
                groove = _stroke(g, [line], furrow.width)
                flanks = _stroke(g, [line], furrow.width * 2.6)
                crease = furrow.depth * (0.55 + 0.9 * i.age) * (0.55 * flanks - groove)
                rows, columns = (np.flatnonzero((np.abs(crease) > 1e-5).any(axis=axis)) for axis in (1, 0))
                place = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                fields.append((side * len(UNITS) + row, place, crease[place].astype(np.float32)))
    return tuple(fields)


def _push_fields(i: Identity) -> tuple[np.ndarray, tuple[int, int]]:
    g = Grid.of(WINDOW, COARSE)
    fields = np.zeros((2, len(UNITS), 3, *g.x.shape), np.float32)
    for row, unit in enumerate(UNITS):
        for push in PUSHES[unit]:
            for side, sign in enumerate((-1, 1)):
                fields[side, row] += _push(i, g, push, sign)
    return fields.reshape(2 * len(UNITS), -1), g.x.shape


def _push(i: Identity, g: Grid, push: Push, sign: int) -> np.ndarray:
    ax, ay = i.anchor(push.anchor)
    x, y = sign * (ax + push.centre[0]), ay + push.centre[1]
    dy = np.minimum(g.y - y, 0) if push.hinged else g.y - y
    fall = np.exp(-0.5 * (((g.x - x) / push.spread[0]) ** 2 + (dy / push.spread[1]) ** 2))
    return np.stack([sign * push.move[0] * fall, push.move[1] * fall, push.move[2] * fall])
