from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_core.config import PreprocessConfig
from fer_core.preprocess.apex import farthest
from tests.preprocess.conftest import faces_of
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video

ESTIMATE = PreprocessConfig(apex="estimate")


def grimace(strengths: list[float]) -> list[np.ndarray]:
    """A wandering face whose mouth is drawn wide by `strengths` (0 neutral, 1 apex)."""
    frames = face_frames(len(strengths), 240, 320)
    y, x = np.mgrid[0:240, 0:320].astype(np.float32)
    out = []
    for i, (frame, strength) in enumerate(zip(frames, strengths, strict=True)):
        left, top = 2 * (20 + round(8 * np.sin(i / 5))), 2 * (8 + i % 5)
        mouth = (2 * 83 - left, 2 * 92 - top)  # where the portrait has it
        pull = 0.5 * strength * np.exp(-((x - mouth[0]) ** 2 / 600 + (y - mouth[1]) ** 2 / 250))
        out.append(cv2.remap(frame, x + (mouth[0] - x) * pull, y + (mouth[1] - y) * pull * 1.5, cv2.INTER_LINEAR))
    return out


@pytest.mark.parametrize("apex", [12, 20, 30])
def test_the_apex_of_a_face_that_returns_to_neutral_is_found(apex: int, tmp_path: Path) -> None:
    strengths = [float(np.exp(-((i - apex) ** 2) / 60)) for i in range(44)]
    faces = faces_of(write_video(tmp_path / "clip.mp4", grimace(strengths)), ESTIMATE)
    assert abs(faces.apex - apex) <= 3
    assert faces.ledger.frame[-1] == faces.apex and faces.ledger.frame[0] == (faces.apex + 1) // 2


def test_a_face_that_stays_at_its_apex_is_cut_late(tmp_path: Path) -> None:
    faces = faces_of(write_folder(tmp_path / "clip", grimace([min(i / 24, 1.0) for i in range(30)])), ESTIMATE)
    assert faces.apex >= 22


def test_a_given_apex_is_not_estimated(film: Path) -> None:
    assert faces_of(film, ESTIMATE, apex=7).apex == 7


def test_no_face_no_cut(tmp_path: Path) -> None:
    faces = faces_of(write_folder(tmp_path / "clip", plain_frames(6)), ESTIMATE)
    assert faces.apex == -1 and faces.ledger.frame.tolist() == [3, 4, 5] and faces.n_used == 0


def test_a_blink_is_no_apex() -> None:
    distances = np.exp(-((np.arange(60) - 40.0) ** 2) / 80)
    distances[10:12] = 1.5
    assert abs((farthest(distances) or 0) - 40) <= 1


def test_frames_without_a_face_are_bridged() -> None:
    distances = np.exp(-((np.arange(60) - 25.0) ** 2) / 80)
    distances[[3, 24, 26, 27, 59]] = np.nan
    assert abs((farthest(distances) or 0) - 25) <= 1
    assert farthest(np.full(5, np.nan)) is None
