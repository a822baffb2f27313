from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.errors import ClipStatus
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.store import FacesStore
from tests.preprocess.conftest import CONFIG, LIMITS, faces_of
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video


def test_a_batch_gives_what_one_process_gives_in_order_and_the_second_run_does_no_work(
    store: FacesStore, tmp_path: Path
) -> None:
    paths = [write_video(tmp_path / f"{i}.mp4", face_frames(4 + i)) for i in range(5)]
    paths += [write_folder(tmp_path / "frames", face_frames(6)), tmp_path / "none.mp4"]
    (tmp_path / "text.mp4").write_text("hello " * 100)
    paths += [tmp_path / "text.mp4", write_video(tmp_path / "plain.mp4", plain_frames(4))]
    clips = [Clip(id=p.name, path=p) for p in paths]
    seen: list[tuple[int, int]] = []
    results = list(preprocess_batch(clips, CONFIG, LIMITS, store, tmp_path, lambda *done: seen.append(done)))
    assert [r.clip for r in results] == clips
    assert seen == [(i + 1, len(clips)) for i in range(len(clips))]
    for result in results[:6]:
        assert result.error is None and result.faces is not None and not result.cached
        alone = faces_of(result.clip.path)
        assert result.key == alone.key and result.digest == alone.clip_digest
        assert np.array_equal(result.faces.pixels, alone.pixels)
    assert [r.error.status for r in results[6:] if r.error] == [
        ClipStatus.MISSING,
        ClipStatus.UNSUPPORTED,
        ClipStatus.NO_FACE,
    ]
    again = list(preprocess_batch(clips, CONFIG, LIMITS, store, tmp_path))
    assert [r.cached for r in again] == [True] * 6 + [False, False, True]
    assert all(
        np.array_equal(a.faces.pixels, b.faces.pixels)
        for a, b in zip(results, again, strict=True)
        if a.faces and b.faces
    )


def test_item_54_the_same_content_is_decoded_once_and_every_row_is_answered(
    store: FacesStore, film: Path, tmp_path: Path
) -> None:
    copies = [Path(shutil.copy(film, tmp_path / f"{i}.mp4")) for i in range(6)]
    results = list(preprocess_batch([Clip(id=p.name, path=p) for p in copies], CONFIG, LIMITS, store))
    assert sum(not r.cached for r in results) == 1
    assert all(r.faces is not None and r.faces.n_used == 10 for r in results)


def test_an_empty_batch_is_empty(store: FacesStore) -> None:
    assert list(preprocess_batch([], CONFIG, LIMITS, store)) == []
