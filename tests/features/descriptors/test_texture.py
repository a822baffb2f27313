"""Local binary patterns against scikit-image's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.feature import local_binary_pattern

from fer_core.features.descriptors.texture import (
    BINS,
    GRID,
    _uniform_bins,
    has_no_change,
    pattern_codes,
    texture,
    texture_change,
)

rng = np.random.default_rng(0)
NOISE = rng.integers(0, 256, (80, 90), dtype=np.uint8)
FACES = {"noise": NOISE, "smooth": cv2.GaussianBlur(NOISE, (0, 0), 4), "flat": np.full((20, 20), 7, np.uint8)}


@pytest.mark.parametrize("name", FACES)
def test_codes_are_scikit_images(name):
    face = FACES[name]
    theirs = local_binary_pattern(face, 8, 1, "default")[1:-1, 1:-1]
    assert np.array_equal(pattern_codes(face), theirs.astype(np.uint8))


@pytest.mark.parametrize("name", FACES)
def test_bins_are_scikit_images_under_other_numbers(name):
    ours = _uniform_bins()[pattern_codes(FACES[name])].ravel()
    theirs = local_binary_pattern(FACES[name], 8, 1, "nri_uniform")[1:-1, 1:-1].ravel()
    pairs = set(zip(ours.tolist(), theirs.tolist(), strict=True))
    assert len(pairs) == len(set(ours)) == len(set(theirs))


def test_every_bin_is_used_by_some_code():
    assert set(_uniform_bins()) == set(range(BINS))


def test_a_brighter_face_has_the_same_codes():
    face = NOISE // 2
    assert np.array_equal(pattern_codes(face), pattern_codes(face + 90))


def test_the_last_face_alone_is_described_cell_by_cell():
    clip = rng.integers(0, 256, (3, 224, 224), dtype=np.uint8)
    found = texture(clip)
    assert found.shape == (GRID**2, BINS) and found.dtype == np.float32
    assert np.allclose((found**2).sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(found, texture(clip[-1:]))
    changed = clip.copy()
    changed[-1, :20, :20] = 0  # well inside the first cell
    assert np.flatnonzero((texture(changed) != found).any(axis=1)).tolist() == [0]


def test_the_change_of_texture_is_of_the_last_face_from_the_first_and_turns_round_with_the_clip():
    clip = rng.integers(0, 256, (3, 112, 112), dtype=np.uint8)
    found = texture_change(clip)
    assert found.shape == (GRID**2, BINS) and found.dtype == np.float32
    assert np.array_equal(found, texture(clip) - texture(clip[:1]))
    assert np.array_equal(texture_change(clip[::-1]), -found)
    assert has_no_change(np.stack([found, texture_change(clip[:1])])).tolist() == [False, True]
