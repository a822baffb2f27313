from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import PreprocessConfig
from fer_core.features.descriptors.descriptor import course_config
from fer_core.preprocess.decode import VideoFile
from fer_core.preprocess.pipeline import preprocess_into
from fer_core.preprocess.store import FacesStore
from tests.preprocess.conftest import CONFIG, LIMITS, faces_of
from tests.preprocess.films import face_frames, write_folder, write_video

ESTIMATE = PreprocessConfig(apex="estimate", max_frames=4)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every pass over a video."""
    counted: list[int] = []
    frames = VideoFile.frames
    monkeypatch.setattr(VideoFile, "frames", lambda *a, **k: counted.append(1) or frames(*a, **k))
    return counted


def put(path: Path, cfg: PreprocessConfig, store: FacesStore, apex: int | None = None) -> list[str]:
    return preprocess_into(
        store, Clip(id="x", path=path, apex=apex), [cfg, course_config(cfg)], LIMITS, clip_digest(path)
    )


@pytest.mark.parametrize(
    ("cfg", "apex", "n_passes"), [(CONFIG, None, 1), (CONFIG, 11, 1), (ESTIMATE, None, 2)], ids=["whole", "cut", "apex"]
)
def test_second_half_and_whole_course_are_read_in_one_pass_and_are_those_of_two(
    cfg: PreprocessConfig, apex: int | None, n_passes: int, film: Path, store: FacesStore, passes: list[int]
) -> None:
    """An estimate of the apex is a pass of its own, which comes before the frames are known."""
    keys = put(film, cfg, store, apex)
    assert len(passes) == n_passes
    for key, own in zip(keys, (cfg, course_config(cfg)), strict=True):
        made, alone = store.get(key), faces_of(film, own, apex=apex)
        assert made is not None and key == alone.key and (made.apex, made.flags) == (alone.apex, alone.flags)
        assert np.array_equal(made.pixels, alone.pixels) and np.array_equal(made.points, alone.points)
        assert np.array_equal(made.ledger.box, alone.ledger.box)


def test_a_video_with_a_wrong_frame_count_gives_the_same_faces(
    tmp_path: Path, store: FacesStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", face_frames(9))
    made_anew = VideoFile.__init__

    def states_more(self: VideoFile, *args: object, **kwargs: object) -> None:
        made_anew(self, *args, **kwargs)  # type: ignore[arg-type]
        self.n_expected += 3

    monkeypatch.setattr(VideoFile, "__init__", states_more)
    for key, cfg in zip(put(path, CONFIG, store), (CONFIG, course_config(CONFIG)), strict=True):
        made = store.get(key)
        assert made is not None and np.array_equal(made.pixels, faces_of(path, cfg).pixels)


def test_a_folder_of_frames_has_both_too(tmp_path: Path, store: FacesStore) -> None:
    path = write_folder(tmp_path / "frames", face_frames(6))
    made = [store.get(key) for key in put(path, CONFIG, store)]
    assert [faces.n_used for faces in made if faces] == [3, 6]
