"""Parameters in which faces differ, and the grid on which faces are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator

WINDOW = (-1.5, 1.5, -1.85, 2.05)  # left, right, top, bottom of the drawn head, face units


@dataclass(frozen=True)
class Identity:
    """Parameters of one person's face. Lengths in face units (see `units.py`), colours linear RGB in 0..1."""

    seed: int  # of the random texture: pores, strands, freckles
    cheek: float
    jaw: float
    chin_y: float
    chin_square: float
    skull_top: float
    eye_x: float
    eye_half: float
    eye_tilt: float
    lid_up: float
    lid_low: float
    crease: float
    brow_y: float
    brow_arch: float
    brow_slant: float
    brow_thick: float
    brow_dark: float
    ridge: float
    nose_tip: float
    nose_half: float
    nose_high: float
    mouth_y: float
    mouth_half: float
    lip_up: float
    lip_low: float
    cheekbone: float
    age: float  # 0 smooth .. 1 lined
    stubble: float
    freckles: float
    lash: float
    skin: tuple[float, float, float]
    lip: tuple[float, float, float]
    iris: tuple[float, float, float]
    hair: tuple[float, float, float]
    hair_style: str
    hairline: float
    hair_volume: float
    hair_length: float

    def anchor(self, name: str) -> tuple[float, float]:
        """Return the position (x, y) of a landmark on the side x >= 0."""
        return {
            "brow": (self.eye_x, self.brow_y),
            "root": (0.0, -0.02),
            "eye": (self.eye_x, 0.0),
            "cheek": (0.57, 0.36),
            "wing": (self.nose_half, self.nose_tip + 0.06),
            "corner": (self.mouth_half, self.mouth_y),
            "lips": (0.0, self.mouth_y),
            "chin": (0.0, self.chin_y),
        }[name]

    def half_width(self, y: np.ndarray) -> np.ndarray:
        """Return half the width of the bare head at height `y`; 0 above the skull and below the chin."""
        knots = [self.skull_top - 0.5, -1.2, -0.6, -0.2, 0.15, 0.55, 1.0, self.chin_y + 0.3]
        below_cheek = 0.5 * (self.cheek + self.jaw) + 0.06
        widths = [0.9, 0.93, 0.95, 0.97, self.cheek, below_cheek, self.jaw, self.jaw - 0.2]
        side = PchipInterpolator(knots, widths)(np.clip(y, knots[0], knots[-1]))
        crown = 1 - np.clip((-0.55 - y) / (-0.55 - self.skull_top), 0, 1) ** 2.3
        chin = 1 - np.clip((y - 0.15) / (self.chin_y - 0.15), 0, 1) ** self.chin_square
        return (side * np.sqrt(crown * chin)).astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """Sample points of a window in face units; `x`, `y` are (h, w) float32."""

    x: np.ndarray
    y: np.ndarray
    ppu: float  # samples per unit

    @classmethod
    def of(cls, window: tuple[float, float, float, float], ppu: float) -> Grid:
        left, right, top, bottom = window
        xs = np.arange(left, right, 1 / ppu, dtype=np.float32)
        ys = np.arange(top, bottom, 1 / ppu, dtype=np.float32)
        return cls(*np.meshgrid(xs, ys), ppu=ppu)

    def bump(self, x: float, y: float, sx: float, sy: float) -> np.ndarray:
        """Return a Gaussian of height 1 at (x, y), with standard deviations (sx, sy)."""
        return np.exp(-0.5 * (((self.x - x) / sx) ** 2 + ((self.y - y) / sy) ** 2))

    def pair(self, x: float, y: float, sx: float, sy: float) -> np.ndarray:
        """Return the sum of a Gaussian and its mirror image."""
        return self.bump(x, y, sx, sy) + self.bump(-x, y, sx, sy)

    def edge(self, distance: np.ndarray, soft: float = 1.0) -> np.ndarray:
        """Return the coverage 0..1 of a region from the signed distance to its border.

        Args:
            distance: positive inside, face units.
            soft: width of the border, pixels.
        """
        return np.clip(distance * (self.ppu / soft) + 0.5, 0, 1)

    def inside(self, width: np.ndarray) -> np.ndarray:
        """Return the approximate signed distance to the outline |x| = width(y), positive inside."""
        slope = np.gradient(width, 1 / self.ppu, axis=0)
        return np.where(width > 1e-3, (width - np.abs(self.x)) / np.sqrt(1 + slope**2), -1)

    def cloud(self, rng: np.random.Generator, size: float) -> np.ndarray:
        """Return smooth noise of mean 0 and standard deviation 1 with spots about `size` face units wide."""
        left, right, top, bottom = WINDOW
        cells = (int((bottom - top) / size) + 4, int((right - left) / size) + 4)
        coarse = rng.standard_normal(cells).astype(np.float32)
        noise = cv2.resize(coarse, self.x.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return (noise - noise.mean()) / noise.std()
