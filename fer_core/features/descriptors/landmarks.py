"""How far the 468 landmarks of a face move from neutral to apex, in 3-D."""

from __future__ import annotations

import numpy as np

from fer_core.errors import WeightsError
from fer_core.preprocess.landmarks import FETCH, LEFT_EYE, RIGHT_EYE, eye_centre

AVERAGED = 3  # the mean of the first faces is the neutral face, that of the last ones the apex: single points are noisy
STILL = 0.008  # root mean square displacement, in eye distances, below which nothing has moved


def landmark_displacement(points: np.ndarray) -> np.ndarray:
    """Return the (468, 3) float32 displacement of each point from the mean of the first three faces to the mean of the
    last three: right, down and away from the camera, in distances between the eyes.

    Each face is first aligned to the first one by the best similarity transform (Umeyama 1991). This removes the
    movement of the head; what is left is expression.

    Args:
        points: (n, 468, 3) points of the course, n >= 1. The displacement of a single face is zero.
    Raises:
        WeightsError: n is 0, because the faces were stored without landmarks.
    """
    if not len(points):
        raise WeightsError(
            f"the faces are stored without landmarks; fetch the network with {FETCH}, set "
            "preprocess.face.landmarks to auto, and repeat the command"
        )
    faces = points.astype(np.float64)
    faces = faces - faces.mean(axis=1, keepdims=True)
    first = faces[0]
    eye_distance = np.linalg.norm(eye_centre(first, LEFT_EYE) - eye_centre(first, RIGHT_EYE))
    aligned = np.stack([_aligned_to(face, first) for face in faces]) / eye_distance
    n = min(AVERAGED, max(len(aligned) // 2, 1))
    moved: np.ndarray = (aligned[-n:].mean(axis=0) - aligned[:n].mean(axis=0)).astype(np.float32)
    return moved


def landmarks_are_still(displacement: np.ndarray) -> np.ndarray:
    """Return (c,) bool: True for clips in which nothing of the face has moved.

    Args:
        displacement: (c, 468, 3), of c clips.
    """
    still: np.ndarray = np.sqrt((displacement.astype(np.float64) ** 2).sum(axis=-1).mean(axis=-1)) < STILL
    return still


def _aligned_to(face: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return a centred face, rotated and scaled so that its squared distance to another centred face is least."""
    u, stretch, v = np.linalg.svd(face.T @ first)
    mirrored = np.linalg.det(u @ v) < 0
    if mirrored:
        u[:, -1], stretch[-1] = -u[:, -1], -stretch[-1]
    scale = stretch.sum() / max(float((face**2).sum()), 1e-12)
    aligned: np.ndarray = scale * face @ (u @ v)
    return aligned
