"""Views: drawn once, the same ever after, and nothing but a look at the same face."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fer_core.config import AugmentConfig
from fer_core.features.augment import PLAIN, View, views_of
from tests.features.test_store import some_faces

CFG = AugmentConfig(views=4, blur=1.5)
STILL = {"flip": False, "rotation": 0.0, "crop": 0.0, "brightness": 0.0, "contrast": 0.0, "blur": 0.0}


def blotches(key="f" * 32, n=6):
    """Faces of smooth blotches, whose changes can be told from resampling."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:224, 0:224] / 224
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(2, 9, (n, 3))]
    return dataclasses.replace(some_faces(n, key), pixels=(127 + 60 * np.stack(waves)).astype(np.uint8))


def test_the_first_view_is_the_face_as_it_is():
    faces = blotches()
    assert views_of(CFG)[0] == PLAIN and PLAIN.identity == {}
    assert np.array_equal(PLAIN.of(faces), faces.pixels)
    assert views_of(AugmentConfig()) == (PLAIN,)


def test_a_view_is_the_same_bytes_whenever_it_is_taken():
    for view in views_of(CFG):
        assert np.array_equal(view.of(blotches()), view.of(blotches()))


def test_whatever_differs_gives_another_view_under_another_key():
    faces = blotches()
    views = [*views_of(CFG), View(1, AugmentConfig(seed=1)), View(1, AugmentConfig(rotation=20)), View(1)]
    for i, a in enumerate(views):
        for b in views[i + 1 :]:
            assert not np.array_equal(a.of(faces), b.of(faces))
            assert a.identity != b.identity
    assert not np.array_equal(views[1].of(faces), views[1].of(blotches(key="e" * 32)))


def test_more_views_keep_those_that_are_stored():
    few, many = views_of(CFG), views_of(CFG.model_copy(update={"views": 9}))
    for a, b in zip(few, many, strict=False):
        assert a.identity == b.identity and np.array_equal(a.of(blotches()), b.of(blotches()))


def test_a_faces_view_does_not_depend_on_the_faces_after_it():
    faces = blotches()
    fewer = dataclasses.replace(blotches(n=2), pixels=faces.pixels[:2])
    assert np.array_equal(View(2, CFG).of(fewer), View(2, CFG).of(faces)[:2])
    none = some_faces(0)
    assert View(2, CFG).of(none).shape == none.pixels.shape


def test_without_ranges_a_view_is_the_face():
    still = AugmentConfig(views=2, **STILL)
    assert np.array_equal(View(1, still).of(blotches()), blotches().pixels)


def test_mirroring_alone_gives_the_face_or_its_mirror_image():
    faces = blotches(n=20)
    seen = View(1, AugmentConfig(**STILL | {"flip": True})).of(faces)
    same = [np.array_equal(a, b) for a, b in zip(seen, faces.pixels, strict=True)]
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(seen, faces.pixels, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True))
    assert 4 < sum(mirrored) < 16


@pytest.mark.parametrize(
    ("ranges", "change"),
    [({"brightness": 0.1}, 25.5), ({"contrast": 0.2}, 0.2 * 60), ({"rotation": 5.0}, 30.0), ({"crop": 0.1}, 40.0)],
    ids=["brightness", "contrast", "rotation", "crop"],
)
def test_a_view_stays_within_its_ranges(ranges, change):
    faces = blotches(n=20)
    seen = View(1, AugmentConfig(**STILL | ranges)).of(faces)
    moved = np.abs(seen.astype(int) - faces.pixels).reshape(20, -1).mean(axis=1)
    assert moved.max() <= change and moved.max() > change / 10


def test_blur_takes_detail_away_and_keeps_the_mean():
    faces = some_faces(5)  # noise
    seen = View(1, AugmentConfig(**STILL | {"blur": 3.0})).of(faces)
    softened = faces.pixels.std(axis=(1, 2)) - seen.std(axis=(1, 2))
    assert (softened >= 0).all() and (softened > 10).sum() > 1
    assert np.abs(seen.mean(axis=(1, 2)) - faces.pixels.mean(axis=(1, 2))).max() < 1


GOLDEN = [[99, 41, 66, 140], [135, 60, 43, 107], [158, 93, 39, 72], [163, 128, 55, 46]]


def test_golden_the_views_of_this_version():
    """Other values here need another AUGMENT_VERSION: views stored before would be taken for today's."""
    face = View(3, AugmentConfig(blur=1.0)).of(blotches())[2].astype(float)
    assert face.reshape(4, 56, 4, 56).mean(axis=(1, 3)) == pytest.approx(np.array(GOLDEN), abs=0.6)
