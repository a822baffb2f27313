"""Landmarks of a face: where they lie, what they say is no face, and that a machine without the network says so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_core.config import FaceConfig, PreprocessConfig
from fer_core.errors import WeightsError
from fer_core.preprocess import landmarks, pipeline
from fer_core.preprocess.face import FaceFinder
from fer_core.preprocess.faces import FrameStatus
from fer_core.preprocess.landmarks import MEASURES, LandmarkFinder, Landmarks, measures
from fer_core.preprocess.store import faces_key
from tests.preprocess.conftest import faces_of
from tests.preprocess.films import face_frames, portrait, write_folder

BOX = (51, 43, 65, 65)  # of the portrait's face
needs_network = pytest.mark.skipif(not landmarks.is_there(), reason="'ferflow weights fetch face-landmarks'")


def measured(picture: np.ndarray, box: tuple[int, int, int, int]) -> dict[str, float]:
    return dict(zip(MEASURES, measures(LandmarkFinder().find(picture, box)).tolist(), strict=True))


@needs_network
def test_a_face_is_present_and_its_points_lie_in_its_box() -> None:
    found = LandmarkFinder().find(portrait(), BOX)
    x, y = found.points[:, :2].mean(axis=0)
    assert found.presence > 0.99 and abs(x - 83.5) < 8 and abs(y - 75.5) < 12


@needs_network
def test_a_picture_without_a_face_has_low_presence() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        blotches = cv2.resize(rng.normal(128, 60, (20, 20)), (200, 200), interpolation=cv2.INTER_CUBIC)
        picture = np.clip(blotches, 0, 255).astype(np.uint8)
        assert LandmarkFinder().find(picture, (50, 50, 100, 100)).presence < landmarks.MIN_PRESENCE


@needs_network
def test_turning_and_mirroring_a_picture_change_the_angles_as_they_should_and_no_length() -> None:
    big = cv2.resize(portrait(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    box = tuple(2 * v for v in BOX)
    turn = cv2.getRotationMatrix2D((box[0] + box[2] / 2, box[1] + box[3] / 2), -15, 1.0)  # clockwise
    turned = cv2.warpAffine(big, turn, big.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    mirrored = np.ascontiguousarray(big[:, ::-1])
    plain, rolled = measured(big, box), measured(turned, box)
    other = measured(mirrored, (big.shape[1] - box[0] - box[2], *box[1:]))
    assert rolled["roll"] - plain["roll"] == pytest.approx(15, abs=3)
    assert other["yaw"] == pytest.approx(-plain["yaw"], abs=5) and other["roll"] == pytest.approx(-plain["roll"], abs=3)
    for name in ("eye_opening", "mouth_opening", "brow_height", "mouth_corner_height"):
        assert rolled[name] == pytest.approx(plain[name], abs=0.06) and other[name] == pytest.approx(
            plain[name], abs=0.06
        )


@needs_network
def test_aligned_faces_have_level_eyes(tmp_path: Path) -> None:
    turn = cv2.getRotationMatrix2D((80, 60), 12, 1.0)
    frames = [cv2.warpAffine(f, turn, f.shape[::-1], borderMode=cv2.BORDER_REPLICATE) for f in face_frames(4)]
    clip = write_folder(tmp_path / "tilted", frames)
    plain, level = (faces_of(clip, PreprocessConfig(align=align)) for align in ("none", "eyes"))
    rolls = [Landmarks(f.points[0].astype(np.float32), 1.0).roll for f in (plain, level)]
    assert abs(np.degrees(rolls[0])) > 8 and abs(np.degrees(rolls[1])) < 0.5
    assert not np.array_equal(plain.pixels, level.pixels)


def test_a_box_without_a_face_is_passed_over_or_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Landmarks(np.zeros((landmarks.N_POINTS, 3), np.float32) + np.float32(1), 0.1)
    monkeypatch.setattr(LandmarkFinder, "find", lambda self, picture, box: nobody)
    found = FaceFinder(FaceConfig(landmarks="yes")).find(portrait())
    assert found is not None and found.weight > 3 and not found.is_face


@needs_network
def test_every_used_frame_has_points_and_measures(tmp_path: Path) -> None:
    faces = faces_of(write_folder(tmp_path / "clip", face_frames(8)))
    assert faces.points.shape == (4, landmarks.N_POINTS, 3) and faces.ledger.measures is not None
    assert (faces.ledger.measures[:, 0] > 0.99).all() and set(faces.ledger.status) == {FrameStatus.USED}
    assert np.abs(faces.points[..., :2].astype(np.float32)).max() < 1, "in widths of the box, from its middle"


def test_keys_say_whether_the_network_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "is_there", lambda: True)
    with_it = faces_key("d", -1, PreprocessConfig())
    assert with_it == faces_key("d", -1, PreprocessConfig(face=FaceConfig(landmarks="yes")))
    monkeypatch.setattr(landmarks, "is_there", lambda: False)
    without = faces_key("d", -1, PreprocessConfig())
    assert without == faces_key("d", -1, PreprocessConfig(face=FaceConfig(landmarks="no"))) != with_it


def test_without_the_network_a_sentence_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FERFLOW_WEIGHTS", str(tmp_path))
    for cfg in (PreprocessConfig(align="eyes"), PreprocessConfig(face=FaceConfig(landmarks="yes"))):
        with pytest.raises(WeightsError, match=r"not on this machine .*'ferflow weights fetch face-landmarks'"):
            landmarks.resolved(cfg)


@needs_network
@pytest.mark.parametrize(("quarters", "turned"), [(0, False), (1, True), (-1, True)])
def test_a_clip_is_turned_only_if_presence_over_the_clip_says_so(
    quarters: int, turned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "SURE", {"viola_jones": 1e9})  # every clip is read sideways too
    monkeypatch.setattr(pipeline, "confirmed", lambda face: bool(quarters == 0))  # the second cascade is always wrong
    frames = [np.ascontiguousarray(np.rot90(frame, quarters)) for frame in face_frames(4)]
    faces = faces_of(write_folder(tmp_path / "clip", frames), PreprocessConfig(face=FaceConfig(landmarks="yes")))
    assert ("turned" in faces.flags) is turned
    assert faces.ledger.measures is not None and (faces.ledger.measures[faces.ledger.used, 0] > 0.99).all()


@needs_network
def test_a_box_without_a_face_is_a_row_with_a_low_presence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = LandmarkFinder.find

    def absent(self: LandmarkFinder, picture: np.ndarray, box: tuple[int, int, int, int]) -> Landmarks:
        return Landmarks(real(self, picture, box).points, 0.3)

    monkeypatch.setattr(LandmarkFinder, "find", absent)
    clip = write_folder(tmp_path / "clip", face_frames(4))
    faces = faces_of(clip, PreprocessConfig(face=FaceConfig(landmarks="yes")))
    assert faces.n_used == 0 and set(faces.ledger.status) == {FrameStatus.NOT_A_FACE}
    assert faces.ledger.measures is not None and np.allclose(faces.ledger.measures[:, 0], 0.3)
    assert faces_of(clip, PreprocessConfig(face=FaceConfig(landmarks="no"))).n_used == 2
