"""Ways of landmarks: expression is what is left once the head's own movement is taken away."""

from __future__ import annotations

import numpy as np
import pytest

from fer_core.errors import WeightsError
from fer_core.features.descriptors.catalogue import DESCRIPTORS
from fer_core.features.descriptors.landmarks import landmark_displacement, landmarks_are_still
from fer_core.preprocess.landmarks import LEFT_EYE, N_POINTS, RIGHT_EYE, eye_centre

FACE = np.random.default_rng(0).normal(size=(N_POINTS, 3))
APART = float(np.linalg.norm(eye_centre(FACE, LEFT_EYE) - eye_centre(FACE, RIGHT_EYE)))


def turned(face: np.ndarray, angle: float, scale: float, shift: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return scale * face @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]) + shift


def test_a_head_that_turns_comes_nearer_and_moves_shows_no_way() -> None:
    course = np.stack([turned(FACE, 0.05 * i, 1 + 0.03 * i, i) for i in range(10)])
    ways = landmark_displacement(course)
    assert np.abs(ways).max() < 1e-6 and landmarks_are_still(ways[None])[0]


def test_what_moves_in_a_face_is_found_on_a_turning_head_in_distances_between_the_eyes() -> None:
    way = np.zeros((N_POINTS, 3))
    way[:20, 1] = 0.3 * APART
    shares = (0, 0, 0, 0.5, 1, 1, 1)
    course = np.stack([turned(FACE + share * way, 0.05 * i, 1 + 0.02 * i, i) for i, share in enumerate(shares)])
    found = landmark_displacement(course)
    assert np.allclose(found[:20, 1] - found[20:, 1].mean(), 0.3, atol=0.05) and not landmarks_are_still(found[None])[0]
    assert np.allclose(landmark_displacement(course[::-1]), -found, atol=0.05), "signed"


def test_the_array_has_the_shape_its_descriptor_names_and_one_face_has_not_moved() -> None:
    ways = landmark_displacement(FACE[None])
    assert ways.shape == DESCRIPTORS["landmarks"].shape and not ways.any()


def test_faces_stored_without_landmarks_are_refused_with_the_command() -> None:
    with pytest.raises(WeightsError, match="stored without landmarks; fetch the network with 'ferflow weights fetch"):
        landmark_displacement(np.empty((0, N_POINTS, 3), np.float16))
