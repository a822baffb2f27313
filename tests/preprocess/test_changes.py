from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from fer_core.clips.clip import Clip, clip_digest
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.changes import DESCRIPTIONS, Change, Changed, changed_apex
from fer_core.preprocess.decode import Frame
from fer_core.preprocess.pipeline import open_media, preprocess_into
from tests.preprocess.conftest import CONFIG, LIMITS, faces_of
from tests.preprocess.films import face_frames, plain_frames, write_video

CHANGES = get_args(Change)


def frames(path, change: Change) -> tuple[list[Frame], list[Frame], Changed]:
    """A clip's frames, those of the changed clip, and that clip."""
    with open_media(path, LIMITS) as media:
        before = list(media.frames(lambda _: True))
        changed = Changed(media, change)
        return before, list(changed.frames(lambda _: True)), changed


def test_every_change_is_described() -> None:
    assert set(CHANGES) == DESCRIPTIONS.keys()


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_clip_keeps_its_places_and_tells_its_own_size(film, change: Change) -> None:
    before, after, changed = frames(film, change)
    report, n = changed.report(), len(after)
    assert [f.index for f in after] == list(range(n)) and n == changed.n_expected == report.n_frames
    assert n == (10 if change == "every_other_frame" else 20)
    shapes = {f.picture.shape for f in after if f.picture is not None}
    assert shapes == {(report.height, report.width)} and changed.digest != clip_digest(film)
    with open_media(film, LIMITS) as media:
        one = [f.index for f in Changed(media, change).frames(lambda index: index == 3) if f.picture is not None]
    assert one == [3]
    pairs = [(b.picture, a.picture) for b, a in zip(before, after, strict=False)]
    assert change == "every_other_frame" or not all(np.array_equal(b, a) for b, a in pairs)


def test_the_pictures_are_what_the_words_say(film) -> None:
    before, mirrored, _ = frames(film, "mirror")
    assert all((b.picture[:, ::-1] == a.picture).all() for b, a in zip(before, mirrored, strict=True))
    _, thinned, _ = frames(film, "every_other_frame")
    assert all((b.picture == a.picture).all() for b, a in zip(before[::2], thinned, strict=True))
    _, moved, _ = frames(film, "moved")
    assert (moved[0].picture[8:, 21:] == before[0].picture).all() and moved[0].picture.shape == (128, 181)
    _, small, _ = frames(film, "half_size")
    assert small[0].picture.shape == (60, 80)
    darker, lighter = (frames(film, change)[1][0].picture for change in ("darker", "lighter"))
    assert darker.mean() < before[0].picture.mean() < lighter.mean()
    _, compressed, _ = frames(film, "compressed")
    off = np.abs(compressed[5].picture.astype(int) - before[5].picture).mean()
    assert 1 < off < 20 and off < np.abs(compressed[5].picture.astype(int) - before[0].picture).mean()


def test_changed_faces_have_keys_of_their_own_that_the_children_find_again(film, store) -> None:
    plain = [made.key for made in preprocess_batch([Clip(id="a", path=film)], CONFIG, LIMITS, store)]
    (first,) = preprocess_batch([Clip(id="a", path=film)], CONFIG, LIMITS, store, change="mirror")
    (again,) = preprocess_batch([Clip(id="a", path=film)], CONFIG, LIMITS, store, change="mirror")
    assert first.faces is not None and (first.cached, again.cached) == (False, True)
    assert first.key == again.key == first.faces.key not in plain
    x, _, width, _ = first.faces.ledger.box[0]
    assert abs(160 - x - width - faces_of(film).ledger.box[0][0]) < 12


def test_a_thinned_clip_is_cut_at_the_same_place(tmp_path, store) -> None:
    path = write_video(tmp_path / "late.mp4", plain_frames(10) + face_frames(10))
    clip = Clip(id="late", path=path, apex=15)
    (key,) = preprocess_into(store, clip, [CONFIG], LIMITS, clip_digest(path), "every_other_frame")
    faces = store.get(key)
    assert faces is not None and (faces.apex, faces.n_frames) == (7, 10) == (changed_apex(15, "every_other_frame"), 10)
