"""Hair and ears, which no muscle moves."""

from __future__ import annotations

import cv2
import numpy as np

from fer_core.clips.synthetic.identity import Grid, Identity


def hair_and_ears(
    i: Identity, g: Grid, rng: np.random.Generator, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return two layers, behind the face (ears, hair) and in front of it (hair).

    Returns:
        Colour and coverage (h, w, 4) and height (h, w) behind the face, then the same in front of it; all float32.
    """
    ax = np.abs(g.x)
    curl = 1.0 if i.hair_style == "curly" else 0.0
    angle, radius = np.arctan2(g.x, -(g.y + 0.3)), np.hypot(g.x, g.y + 0.3)
    strands = _strands(rng, angle, radius, 22 if curl else 110, 12.0 if curl else 0.8)
    hair = np.array(i.hair, np.float32) * np.clip(1 + 0.25 * strands + 0.15 * g.cloud(rng, 0.15), 0.25, 2)[..., None]

    scaled = np.where(g.y < 0, g.y * i.skull_top / (i.skull_top - i.hair_volume), 0)
    outline = i.half_width(scaled) * (1 + 0.8 * i.hair_volume)
    ragged = 0.012 * g.cloud(rng, 0.08) * (1 + 1.5 * curl) * np.clip(outline * 4, 0, 1)
    body = g.inside(outline + 0.1 * np.clip(g.y, 0, 1)) + ragged
    ends = g.edge(i.hair_length + 0.06 * np.cos(5 * g.x) + 0.03 * strands - g.y, 4)
    back = g.edge(body, 2) * ends * (i.hair_style != "bald")

    ear = 1 - np.hypot((ax - width - 0.02) / 0.13, (g.y - 0.16 - 0.12 * (ax - 1)) / 0.27)
    ears = g.edge(ear * 0.13, 1.5) * (np.abs(g.y - 0.16) < 0.3) * (1 - back * (i.hair_length > 0.4))
    skin = np.array(i.skin, np.float32) * np.array([1.0, 0.86, 0.84], np.float32)
    shaded = hair * (0.95 - 0.45 * np.clip(g.y + 0.5, 0, 1))[..., None]  # dark behind the neck
    behind = shaded + (skin - shaded) * ears[..., None]
    bowl = 0.15 + 0.12 * np.sqrt(np.clip(1 - (1 - ear) ** 2, 0, 1)) - 0.08 * g.pair(1.06, 0.14, 0.05, 0.12)
    behind_z = 0.05 + 0.012 * strands + (bowl - 0.05) * ears

    line = i.hairline + 0.5 * np.minimum(ax / 0.95, 1.05) ** 4 + 0.035 * g.cloud(rng, 0.05)
    if i.hair_style == "fringe":
        line = (
            i.hairline
            + 0.36
            + 0.08 * np.cos(2.2 * (g.x - 0.35))
            + 0.04 * strands
            + 0.35 * np.minimum(ax / 0.95, 1.05) ** 4
        )
    if i.hair_style == "parted":
        line = i.hairline + 0.55 * np.abs((g.x - 0.3) / 1.1) ** 1.3 + 0.025 * strands
    front = g.edge(np.minimum(line - g.y, body), {"buzz": 8, "fringe": 4}.get(i.hair_style, 3))
    side = np.where(g.y < 0.1, 0.92 * width, 0.92 * i.cheek - 0.05 * np.clip(g.y - 0.1, 0, 1))
    locks = g.edge(np.minimum(ax - side + 0.02 * g.cloud(rng, 0.2), body), 4) * (g.y > -0.75) * ends
    front = np.maximum(front, locks) * {"bald": 0.12, "buzz": 0.75}.get(i.hair_style, 1.0)
    bulk = np.sqrt(np.clip(1 - (ax / np.maximum(outline, 1e-3)) ** 2.2, 0, 1)) * outline**0.6
    front_z = 1.05 * bulk + 0.03 + (0.006 + 0.012 * curl) * strands

    return (
        np.dstack([behind, np.maximum(back, ears)]).astype(np.float32),
        behind_z.astype(np.float32),
        np.dstack([hair, front]).astype(np.float32),
        front_z.astype(np.float32),
    )


def _strands(
    rng: np.random.Generator, angle: np.ndarray, radius: np.ndarray, across: float, along: float
) -> np.ndarray:
    """Return noise of standard deviation about 1, drawn out along the strands, which radiate from the crown."""
    noise = cv2.GaussianBlur(rng.standard_normal((256, 256)).astype(np.float32), (0, 0), 1.0)
    noise = noise / noise.std()
    u = (angle * across).astype(np.float32) % 255
    v = (radius * along * 4).astype(np.float32) % 255
    return cv2.remap(noise, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
