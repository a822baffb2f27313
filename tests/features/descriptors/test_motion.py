"""What displacement and 3-D gradients say of clips whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_core.features.descriptors.descriptor import COURSE_FRAMES
from fer_core.features.descriptors.motion import (
    _AXES,
    CELLS,
    GRID,
    SIDE,
    SPANS,
    displacement,
    gradient_histograms,
    is_still,
)
from tests.models.conftest import smooth

rng = np.random.default_rng(0)
FACE = (128 + 40 * smooth(rng, 16, 2 * SIDE)).clip(0, 255).astype(np.uint8)
X, Y = np.meshgrid(np.arange(2 * SIDE, dtype=np.float32), np.arange(2 * SIDE, dtype=np.float32))


def bent(right: np.ndarray, down: np.ndarray, frames: int = 8) -> np.ndarray:
    """A clip whose points end so many pixels from where they began."""
    shares = np.linspace(0, 1, frames, dtype=np.float32)
    steps = [(X - s * right.astype(np.float32), Y - s * down.astype(np.float32)) for s in shares]
    return np.stack([cv2.remap(FACE, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101) for x, y in steps])


def test_a_bend_is_measured_where_it_is():
    right, down = 5 * smooth(rng, 4, 2 * SIDE), 5 * smooth(rng, 4, 2 * SIDE)
    found = displacement(bent(right, down))
    places = (np.linspace(0.14, 0.86, GRID) * 2 * SIDE).astype(int)
    for axis, field in enumerate((right, down)):
        true = field[np.ix_(places, places)].ravel() / (2 * SIDE)
        assert np.corrcoef(found[:, axis], true)[0, 1] > 0.9


def test_a_head_that_moves_as_one_has_no_expression():
    frames = []
    for share in np.linspace(0, 1, 8):
        matrix = cv2.getRotationMatrix2D((SIDE, SIDE), 8 * share, 1 + 0.08 * share)
        matrix[:, 2] += (6 * share, -4 * share)
        frames.append(cv2.warpAffine(FACE, matrix, FACE.shape, borderMode=cv2.BORDER_REFLECT_101))
    moved = np.abs(displacement(np.stack(frames))) * SIDE  # pixels, of the ten or so that the points have moved
    assert np.median(moved) < 0.5 and moved.max() < 1.5


def test_one_face_has_not_moved_and_a_blank_clip_is_no_error():
    assert np.abs(displacement(FACE[None])).max() < 1e-9
    assert np.isfinite(displacement(np.full((4, 224, 224), 9, np.uint8))).all()
    assert not gradient_histograms(np.full((4, 224, 224), 9, np.uint8)).any()


def test_blocks_are_scaled_to_length_one():
    found = gradient_histograms(bent(6 * smooth(rng, 4, 2 * SIDE), np.zeros_like(X)))
    assert found.shape == (SPANS * CELLS**2, 12) and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


GOLDEN = (1 + 5**0.5) / 2
CORNERS = (  # of an icosahedron, as written down everywhere: right, down, later
    (0, 1, GOLDEN), (0, 1, -GOLDEN), (0, -1, GOLDEN), (0, -1, -GOLDEN),
    (1, GOLDEN, 0), (1, -GOLDEN, 0), (-1, GOLDEN, 0), (-1, -GOLDEN, 0),
    (GOLDEN, 0, 1), (-GOLDEN, 0, 1), (GOLDEN, 0, -1), (-GOLDEN, 0, -1),
)  # fmt: skip


@pytest.mark.parametrize(("right", "down", "later"), [(1, 0, 0), (0, 0, 3), (-1, 1, 0), (1, 1, 2), (1, -1, -4)])
def test_a_gradient_votes_for_the_corners_it_is_nearest_to_by_how_much_nearer_than_the_next(right, down, later):
    """A clip whose grey rises evenly has one gradient everywhere: Kläser et al. 2008, eq. 4 and 5, by hand."""
    time, y, x = np.mgrid[:COURSE_FRAMES, :SIDE, :SIDE]
    grey = right * x + down * y + later * time
    found = gradient_histograms((grey - grey.min()).astype(np.uint8)).reshape(SPANS, CELLS, CELLS, 12)
    length = (right**2 + down**2 + later**2) ** 0.5
    votes = []
    for corner in CORNERS:
        cosine = (right * corner[0] + down * corner[1] + later * corner[2]) / (length * (1 + GOLDEN**2) ** 0.5)
        votes.append(max(cosine - 5**-0.5, 0))  # 1/√5: between a corner and the next
    expected = {corner: vote / sum(v**2 for v in votes) ** 0.5 for corner, vote in zip(CORNERS, votes, strict=True)}
    nearest = [int(np.argmax(np.array(CORNERS) @ axis)) for axis in _AXES]
    assert sorted(nearest) == list(range(12))
    for block in found[:, 1:-1, 1:-1].reshape(-1, 12):  # smoothing bends the slope at the edges
        assert block == pytest.approx([expected[CORNERS[i]] for i in nearest], abs=1e-4)


def test_a_still_clip_is_its_own_mirror_in_time_and_a_moving_one_is_not():
    mirror = [int(np.argmin(np.linalg.norm(_AXES - axis * (1, 1, -1), axis=1))) for axis in _AXES]
    still = gradient_histograms(np.repeat(FACE[None], 16, axis=0))
    moving = gradient_histograms(bent(6 * smooth(rng, 4, 2 * SIDE), 6 * smooth(rng, 4, 2 * SIDE)))
    assert np.allclose(still[:, mirror], still, atol=1e-5)
    assert not np.allclose(moving[:, mirror], moving, atol=0.05)


def test_motion_to_the_right_and_to_the_left_differ():
    right = np.full_like(X, 6.0)
    assert not np.allclose(gradient_histograms(bent(right, 0 * X)), gradient_histograms(bent(-right, 0 * X)), atol=0.05)


def test_a_face_that_keeps_still_is_told_from_one_that_moves_by_a_hundredth_of_its_width():
    noise = np.random.default_rng(1).normal(0, 2, (8, *FACE.shape))
    still = np.clip(FACE + noise, 0, 255).astype(np.uint8)
    bend = 0.01 * 2 * SIDE * np.sqrt(2) * np.sin(X / 25)
    ways = np.stack([displacement(still), displacement(bent(0 * X, bend))])
    assert is_still(ways).tolist() == [True, False]
