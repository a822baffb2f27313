"""How far the 468 landmarks of a face move from neutral to apex, in 3-D."""

from __future__ import annotations

import numpy as np

from fer_core.errors import WeightsError
from fer_core.preprocess.landmarks import FETCH, LEFT_EYE, RIGHT_EYE, eye_centre

AVERAGED = 3  # first faces, whose mean is the neutral one, and last ones: the network's points waver

# Root mean square way, in distances between the eyes, under which a face has not moved.
STILL = 0.008


def landmark_ways(points: np.ndarray) -> np.ndarray:
    """(468, 3) float32 way of each point from the mean of the first three faces to that of the last three: right, down
    and away from the camera, in distances between the eyes.

    Each face is first laid upon the first one by the similarity that fits best (Umeyama 1991), so that the head's own
    movement is taken away; what is left is expression.

    Args:
        points: (n, 468, 3) points of the course; n >= 1. One face alone has not moved.
    Raises:
        WeightsError: there are none, because the network was not asked.
    """
    if not len(points):
        raise WeightsError(
            f"the faces are stored without landmarks; fetch the network with {FETCH}, leave "
            "preprocess.face.landmarks at auto, and repeat the command"
        )
    faces = points.astype(np.float64)
    faces = faces - faces.mean(axis=1, keepdims=True)
    first = faces[0]
    apart = np.linalg.norm(eye_centre(first, LEFT_EYE) - eye_centre(first, RIGHT_EYE))
    laid = np.stack([_laid_upon(face, first) for face in faces]) / apart
    n = min(AVERAGED, max(len(laid) // 2, 1))
    ways: np.ndarray = (laid[-n:].mean(axis=0) - laid[:n].mean(axis=0)).astype(np.float32)
    return ways


def have_not_moved(ways: np.ndarray) -> np.ndarray:
    """(c,) whether nothing of a face has moved: it was neutral all along, or did not start neutral.

    Args:
        ways: (c, 468, 3) of clips.
    """
    still: np.ndarray = np.sqrt((ways.astype(np.float64) ** 2).sum(axis=-1).mean(axis=-1)) < STILL
    return still


def _laid_upon(face: np.ndarray, first: np.ndarray) -> np.ndarray:
    """A centred face turned and scaled to lie as near to another as it can."""
    u, stretch, v = np.linalg.svd(face.T @ first)
    mirrored = np.linalg.det(u @ v) < 0
    if mirrored:
        u[:, -1], stretch[-1] = -u[:, -1], -stretch[-1]
    scale = stretch.sum() / max(float((face**2).sum()), 1e-12)
    laid: np.ndarray = scale * face @ (u @ v)
    return laid
