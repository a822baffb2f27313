"""Views: augmented copies of a face, drawn once, stored like the face itself, used in training only (§2.7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from fer_core.config import AugmentConfig
from fer_core.preprocess.faces import Faces

AUGMENT_VERSION = 1  # raised whenever the same face and settings give another view; a golden test holds it honest
_DRAWS = 8  # numbers a face's view is made of


@dataclass(frozen=True)
class View:
    """One view of every face: number 0 shows it as it is, any other changes it by numbers drawn for that face.

    A view depends on the settings but not on how many views there are: more of them keep those already stored.
    """

    number: int = 0
    cfg: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def identity(self) -> dict[str, Any]:
        """Parts that the view adds to a feature key: none for plain faces."""
        if self.number == 0:
            return {}
        settings = self.cfg.model_dump(mode="json", exclude={"views"})
        return {"view": {"number": self.number, "version": AUGMENT_VERSION, **settings}}

    def of(self, faces: Faces) -> np.ndarray:
        """(n, size, size) uint8 faces by this view; the same bytes for the same faces, settings and number."""
        if self.number == 0:
            return faces.pixels
        rng = np.random.default_rng([self.cfg.seed, self.number, int(faces.key, 16)])
        draws = rng.uniform(-1, 1, (len(faces.pixels), _DRAWS))  # row by row: a face's do not depend on those after it
        views = [_look(face, draw, self.cfg) for face, draw in zip(faces.pixels, draws, strict=True)]
        return np.stack(views) if views else faces.pixels


PLAIN = View()


def views_of(cfg: AugmentConfig) -> tuple[View, ...]:
    """The views of `cfg`, the plain one first."""
    return (PLAIN, *(View(number, cfg) for number in range(1, cfg.views)))


def _look(face: np.ndarray, draw: np.ndarray, cfg: AugmentConfig) -> np.ndarray:
    """One face turned, cropped, mirrored (in one resampling), blurred, and its grey values stretched and shifted.

    Args:
        face: (size, size) uint8.
        draw: (8,) numbers in [-1, 1].
    """
    mirror, turn, cut, right, down, light, spread, soft = draw
    size = len(face)
    centre = (size - 1) / 2
    share = cfg.crop * abs(cut)
    angle, zoom = np.deg2rad(cfg.rotation * turn), 1 / (1 - share)
    across = -zoom if cfg.flip and mirror < 0 else zoom
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([across, zoom])
    kept = centre + share * size / 2 * np.array([right, down])  # centre of what is kept
    affine = np.column_stack([matrix, centre - matrix @ kept])
    seen = cv2.warpAffine(face, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    sigma = cfg.blur * abs(soft)
    if sigma > 0.1:  # less changes no grey value
        seen = cv2.GaussianBlur(seen, (0, 0), sigma)
    grey = 127.5 + (seen.astype(np.float32) - 127.5) * np.float32(1 + cfg.contrast * spread)
    return np.clip(np.rint(grey + np.float32(255 * cfg.brightness * light)), 0, 255).astype(np.uint8)
