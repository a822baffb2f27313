from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import FaceConfig, PreprocessConfig
from fer_core.errors import WeightsError
from fer_core.preprocess import blazeface, weights_file
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.face import FaceFinder, detect, overlap
from fer_core.preprocess.store import FacesStore
from tests.preprocess.conftest import CONFIG, LIMITS, faces_of
from tests.preprocess.films import face_frames, portrait, write_folder

fetched = pytest.mark.skipif(
    not (weights_file.weights_folder() / "blazeface.tflite").is_file(), reason="'ferflow weights fetch blazeface' first"
)
CFG = FaceConfig(detector="blazeface")
WITH_IT = PreprocessConfig(face=CFG)


def test_there_are_896_anchors_two_a_fine_cell_and_six_a_coarse_one() -> None:
    anchors = blazeface.anchors()
    assert anchors.shape == (896, 2)
    assert anchors[:4].tolist() == [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32], [3 / 32, 1 / 32]]
    assert (anchors[512:518] == 1 / 16).all() and anchors[518].tolist() == [3 / 16, 1 / 16]


def test_an_offset_counts_from_its_anchor_and_overlapping_boxes_become_one() -> None:
    odds, offsets = np.full(896, -9.0), np.zeros((896, 16))
    odds[[0, 1, 895]] = 4.0, 4.0, 2.0
    offsets[[0, 1, 895], 2:4] = 32
    offsets[:, 6] = 9  # the left eye beside the right
    offsets[1, 0] = 8  # pixels of 128 to the right
    found, log_odds = blazeface._joined(*blazeface._decoded(odds, offsets))
    assert found == pytest.approx(np.array([[-1 / 16, -3 / 32, 0.25, 0.25], [13 / 16, 13 / 16, 0.25, 0.25]]))
    assert log_odds.tolist() == [4.0, 2.0]


@fetched
def test_both_detectors_cut_out_the_same_part_of_a_face() -> None:
    (cascade,), (network,) = detect(portrait(), FaceConfig()), detect(portrait(), CFG)
    assert overlap(cascade.box, network.box) > 0.65  # a little larger here; alike on average


@fetched
@pytest.mark.parametrize("shape", [(320, 480), (480, 320)], ids=["wide", "tall"])
def test_a_frame_that_is_not_square_moves_the_box_by_no_more_than_its_border(shape: tuple[int, int]) -> None:
    face = cv2.resize(portrait(), (320, 320))
    canvas = np.zeros(shape, np.uint8)
    top, left = (shape[0] - 320) // 2, (shape[1] - 320) // 2
    canvas[top : top + 320, left : left + 320] = face
    (whole,), (within,) = detect(face, CFG), detect(canvas, CFG)
    assert overlap((whole.box[0] + left, whole.box[1] + top, *whole.box[2:]), within.box) > 0.75


@fetched
def test_a_face_on_its_side_is_none_and_its_clip_is_turned(tmp_path) -> None:
    frames = face_frames(4, 240, 320)
    assert all(detect(frame, CFG) and not detect(np.ascontiguousarray(np.rot90(frame)), CFG) for frame in frames)
    faces = faces_of(write_folder(tmp_path / "side", [np.rot90(frame) for frame in frames]), WITH_IT)
    assert "turned" in faces.flags and faces.n_used == faces.n_selected


@fetched
def test_a_picture_without_a_face_has_none() -> None:
    assert FaceFinder(CFG).find(np.random.default_rng(0).integers(0, 255, (240, 320), dtype=np.uint8)) is None


@fetched
def test_decoding_children_find_the_faces_that_this_process_finds(film, store) -> None:
    (made,) = preprocess_batch([Clip(id="face", path=film)], WITH_IT, LIMITS, store)
    here = faces_of(film, WITH_IT)
    assert made.faces is not None and here.n_used == here.n_selected
    assert (made.faces.pixels == here.pixels).all() and (made.faces.ledger.box == here.ledger.box).all()


def test_the_key_of_faces_names_the_detector(film) -> None:
    keys = {FacesStore(film.parent).key(clip_digest(film), -1, cfg) for cfg in (CONFIG, WITH_IT)}
    assert len(keys) == 2


def test_missing_or_damaged_weights_end_a_batch_before_its_first_clip(film, store, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(weights_file.FOLDER, str(tmp_path))
    wanted = [Clip(id="face", path=film)]
    with pytest.raises(WeightsError, match=r"blazeface are not on this machine .*'ferflow weights fetch blazeface'"):
        next(preprocess_batch(wanted, WITH_IT, LIMITS, store))
    (tmp_path / "blazeface.tflite").write_bytes(b"other")
    with pytest.raises(WeightsError, match="blazeface are damaged"):
        next(preprocess_batch(wanted, WITH_IT, LIMITS, store))


def test_a_setting_of_the_cascade_is_refused_beside_the_network() -> None:
    with pytest.raises(ValueError, match="'blazeface' does not read scale_factor"):
        FaceConfig(detector="blazeface", scale_factor=1.2)
    assert FaceConfig(detector="blazeface", min_size=0.1).min_size == 0.1
