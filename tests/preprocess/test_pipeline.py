from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fer_core.config import FaceConfig, PreprocessConfig
from fer_core.preprocess.equalize import equalize
from fer_core.preprocess.face import crop, resize
from fer_core.preprocess.faces import FrameStatus
from tests.preprocess.conftest import faces_of
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video


def test_faces_are_the_second_half_cropped_equalised_and_resized_in_this_order(tmp_path: Path) -> None:
    frames = face_frames(10)
    faces = faces_of(write_folder(tmp_path / "clip", frames))
    assert faces.pixels.shape == (5, 224, 224) and faces.n_frames == 10
    assert faces.ledger.frame.tolist() == [5, 6, 7, 8, 9]
    for pixels, index, box in zip(faces.pixels, faces.ledger.frame, faces.ledger.box, strict=True):
        assert np.array_equal(pixels, resize(equalize(crop(frames[index], tuple(box.tolist()))), 224))


def test_a_video_and_its_frames_give_the_same_boxes(tmp_path: Path) -> None:
    frames = face_frames(12)
    lossless = write_video(tmp_path / "v.mkv", frames, codec="ffv1", pix_fmt="gray")
    video, folder = faces_of(lossless), faces_of(write_folder(tmp_path / "f", frames))
    assert np.array_equal(video.pixels, folder.pixels)
    assert np.array_equal(video.ledger.box, folder.ledger.box)
    assert video.key != folder.key


def test_frames_without_a_face_keep_their_place(tmp_path: Path) -> None:
    film = write_video(tmp_path / "v.mp4", face_frames(16) + plain_frames(4))
    faces = faces_of(film)
    assert faces.ledger.frame.tolist() == list(range(10, 20))
    assert [s is FrameStatus.USED for s in faces.ledger.status] == [True] * 6 + [False] * 4
    assert faces.ledger.counts() == {"used": 6, "no_face": 4, "decode_error": 0, "low_weight": 0, "not_a_face": 0}
    assert (faces.ledger.box[6:] == 0).all()
    assert not faces.low_quality


def test_twice_gives_the_same_bytes(film: Path) -> None:
    first, second = faces_of(film), faces_of(film)
    assert first.key == second.key and np.array_equal(first.pixels, second.pixels)


def test_times_count_from_the_first_frame(film: Path) -> None:
    faces = faces_of(film)
    assert np.allclose(faces.ledger.time_s, np.arange(10, 20) / 25)
    assert abs(faces.duration_s - 0.8) < 1e-6 and (faces.width, faces.height) == (160, 120)


def test_a_given_apex_cuts_the_clip(film: Path) -> None:
    cut, whole = faces_of(film, apex=9), faces_of(film)
    assert cut.apex == 9 and cut.ledger.frame.tolist() == [5, 6, 7, 8, 9]
    assert whole.apex == -1 and cut.key != whole.key
    last = PreprocessConfig(apex="last")
    assert faces_of(film, last, apex=9).ledger.frame.tolist() == whole.ledger.frame.tolist()
    assert faces_of(film, last, apex=9).key == faces_of(film, last).key


def test_size_and_number_of_faces_follow_the_config(film: Path) -> None:
    faces = faces_of(film, PreprocessConfig(size=64, max_frames=3, face=FaceConfig(mode="tracked")))
    assert faces.pixels.shape == (3, 64, 64) and faces.ledger.frame[-1] == 19


def test_shrinking_averages_and_growing_interpolates() -> None:
    chequers = np.indices((448, 448)).sum(axis=0).astype(np.uint8) % 2 * 255
    assert np.abs(resize(chequers, 224).astype(int) - 128).max() <= 1
    small = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert np.array_equal(resize(small, 224), cv2.resize(small, (224, 224), interpolation=cv2.INTER_LINEAR))
