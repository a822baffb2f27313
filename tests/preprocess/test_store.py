from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from fer_core.config import FaceConfig, PreprocessConfig
from fer_core.preprocess.faces import Faces, Ledger
from fer_core.preprocess.spool import FacesSpool
from fer_core.preprocess.store import FacesStore
from tests.preprocess.conftest import CONFIG, faces_of


def assert_same(a: Faces, b: Faces) -> None:
    for one, other in ((a, b), (a.ledger, b.ledger)):
        for field in dataclasses.fields(one):
            ours, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(ours, np.ndarray):
                assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")
            elif not isinstance(ours, Ledger):
                assert ours == theirs


def test_stored_faces_come_back_exactly(store: FacesStore, film: Path) -> None:
    faces = faces_of(film)
    assert faces.key not in store and store.get(faces.key) is None
    store.put(faces)
    found = store.get(faces.key)
    assert faces.key in store and found is not None
    assert_same(found, faces)


def test_a_clip_without_faces_can_be_stored(store: FacesStore, film: Path) -> None:
    faces = faces_of(film, PreprocessConfig(face=FaceConfig(min_weight=1000)))
    assert faces.n_used == 0 and faces.ledger.counts()["low_weight"] == 10
    store.put(faces)
    found = store.get(faces.key)
    assert found is not None
    assert_same(found, faces)


@pytest.mark.parametrize(
    "change",
    [
        {"selection": "all"},
        {"apex": "last"},
        {"max_frames": 3},
        {"equalize": "opencv"},
        {"size": 112},
        {"face": FaceConfig(mode="tracked")},
        {"face": FaceConfig(min_size=0.3)},
    ],
    ids=str,
)
def test_what_changes_faces_changes_the_key(store: FacesStore, change: dict[str, object]) -> None:
    assert store.key("0" * 32, -1, CONFIG) != store.key("0" * 32, -1, CONFIG.model_copy(update=change))


def test_key_depends_on_content_and_apex(store: FacesStore) -> None:
    keys = {store.key("0" * 32, -1, CONFIG), store.key("1" * 32, -1, CONFIG), store.key("0" * 32, 3, CONFIG)}
    assert len(keys) == 3


def test_a_corrupt_entry_is_removed_and_can_be_made_again(store: FacesStore, film: Path) -> None:
    faces = faces_of(film)
    store.put(faces)
    path = store.entries.path(faces.key)
    path.write_bytes(path.read_bytes()[:-100])
    assert store.get(faces.key) is None and faces.key not in store
    store.put(faces)
    assert store.get(faces.key) is not None


def test_a_long_clip_is_mapped_and_the_same(store: FacesStore, film: Path) -> None:
    short = faces_of(film)
    n = 400
    pixels = np.random.default_rng(0).integers(0, 256, (n, 224, 224), dtype=np.uint8)
    rows = np.arange(n) % short.n_selected
    ledger = Ledger(
        frame=short.ledger.frame[rows],
        time_s=short.ledger.time_s[rows],
        status=tuple(short.ledger.status[i] for i in rows),
        box=short.ledger.box[rows],
        weight=short.ledger.weight[rows],
    )
    faces = dataclasses.replace(short, pixels=pixels, ledger=ledger, points=short.points[:0])
    spool = FacesSpool(224)
    for face in pixels:
        spool.pixels.append(face)
    store.put(faces, spool)
    whole = store.entries.path(faces.key).read_bytes()
    found = store.get(faces.key)
    assert found is not None and isinstance(found.pixels.base, np.memmap)
    assert_same(found, faces)
    found.pixels[0] = 0  # a copy on write: the entry keeps its bytes
    store.put(faces)
    assert store.entries.path(faces.key).read_bytes() == whole


def test_a_lab_that_shares_a_workspace_can_read_what_one_of_them_stored(store: FacesStore, film: Path) -> None:
    before = os.umask(0o022)
    try:
        faces = faces_of(film)
        store.put(faces)
    finally:
        os.umask(before)
    assert stat.S_IMODE(store.entries.path(faces.key).stat().st_mode) == 0o644
