"""Data augmentation (§2.7): views are randomly changed copies of a face, made once and used in training only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from fer_core.config import AugmentConfig
from fer_core.preprocess.faces import Faces

AUGMENT_VERSION = 1  # raise it whenever the same face and settings give another view; a test compares stored views
_DRAWS = 8  # random numbers for one view of a face


@dataclass(frozen=True)
class View:
    """A view of all faces. View 0 does not change them; every other view changes each face by random numbers.

    A view depends on the settings, but not on the number of views: with more views, the stored ones remain valid.
    """

    number: int = 0
    cfg: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def identity(self) -> dict[str, Any]:
        """What the view adds to a feature key; nothing for view 0."""
        if self.number == 0:
            return {}
        settings = self.cfg.model_dump(mode="json", exclude={"views"})
        return {"view": {"number": self.number, "version": AUGMENT_VERSION, **settings}}

    def of(self, faces: Faces) -> np.ndarray:
        """Return (n, size, size) uint8 faces in this view; deterministic for the same faces, settings and number."""
        if self.number == 0:
            return faces.pixels
        rng = np.random.default_rng([self.cfg.seed, self.number, int(faces.key, 16)])
        draws = rng.uniform(-1, 1, (len(faces.pixels), _DRAWS))  # independent of later faces
        views = [_look(face, draw, self.cfg) for face, draw in zip(faces.pixels, draws, strict=True)]
        return np.stack(views) if views else faces.pixels


PLAIN = View()


def views_of(cfg: AugmentConfig) -> tuple[View, ...]:
    """Return the views of `cfg`; the first does not change the faces."""
    return (PLAIN, *(View(number, cfg) for number in range(1, cfg.views)))


def random_view(face: np.ndarray, rng: np.random.Generator, cfg: AugmentConfig) -> np.ndarray:
    """Return a face changed at random within the ranges of `cfg`."""
    return _look(face, rng.uniform(-1, 1, _DRAWS), cfg)


def _look(face: np.ndarray, draw: np.ndarray, cfg: AugmentConfig) -> np.ndarray:
    """Rotate, crop and mirror a face in one resampling, then blur it and change contrast and brightness.

    Args:
        face: (size, size) uint8.
        draw: (8,) random numbers in [-1, 1].
    """
    mirror, turn, cut, right, down, light, spread, soft = draw
    size = len(face)
    centre = (size - 1) / 2
    share = cfg.crop * abs(cut)
    angle, zoom = np.deg2rad(cfg.rotation * turn), 1 / (1 - share)
    across = -zoom if cfg.flip and mirror < 0 else zoom
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([across, zoom])
    kept = centre + share * size / 2 * np.array([right, down])  # centre of the crop
    affine = np.column_stack([matrix, centre - matrix @ kept])
    seen = cv2.warpAffine(face, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    sigma = cfg.blur * abs(soft)
    if sigma > 0.1:  # a smaller blur changes no grey value
        seen = cv2.GaussianBlur(seen, (0, 0), sigma)
    grey = 127.5 + (seen.astype(np.float32) - 127.5) * np.float32(1 + cfg.contrast * spread)
    return np.clip(np.rint(grey + np.float32(255 * cfg.brightness * light)), 0, 255).astype(np.uint8)
