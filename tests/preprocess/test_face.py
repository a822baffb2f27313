from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_core.clips.synthetic import draw_clip, draw_landmarks
from fer_core.config import FaceConfig, PreprocessConfig
from fer_core.emotions import SIX
from fer_core.preprocess.face import (
    REFRESH,
    Detection,
    FaceFinder,
    choose,
    clamp,
    detect,
    overlap,
    resize,
    smallest_face,
)
from fer_core.preprocess.faces import FrameStatus
from tests.preprocess.conftest import faces_of
from tests.preprocess.films import face_frames, plain_frames, portrait, write_folder

PER_FRAME, TRACKED = FaceConfig(), FaceConfig(mode="tracked")


def boxes(frames: list[np.ndarray], cfg: FaceConfig) -> list[Detection | None]:
    finder = FaceFinder(cfg)
    return [finder.find(frame) for frame in frames]


def two_faces(n: int) -> list[np.ndarray]:
    """A face on the left, and its mirror image on the right."""
    return [np.hstack([f, f[:, ::-1]]) for f in face_frames(n)]


def test_the_box_holds_the_face() -> None:
    (found,) = detect(portrait(), PER_FRAME)
    assert overlap(found.box, (51, 43, 65, 65)) > 0.8 and found.weight > 3


def test_the_size_of_the_frame_does_not_move_the_box() -> None:
    for scale in (1.5, 2, 4):
        big = cv2.resize(portrait(), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        (found,) = detect(big, PER_FRAME)
        assert overlap(tuple(round(v / scale) for v in found.box), detect(portrait(), PER_FRAME)[0].box) > 0.75


def test_both_modes_find_the_same_faces() -> None:
    frames = face_frames(40, 240, 320)
    for one, other in zip(boxes(frames, PER_FRAME), boxes(frames, TRACKED), strict=True):
        assert one is not None and other is not None and overlap(one.box, other.box) > 0.75


def test_tracked_looks_everywhere_when_the_face_has_jumped() -> None:
    narrow = face_frames(6)
    frames = [np.hstack([f, np.full_like(f, 90)]) for f in narrow] + [
        np.hstack([np.full_like(f, 90), f]) for f in narrow
    ]
    finder = FaceFinder(TRACKED)
    found = [finder.find(frame) for frame in frames]
    assert all(d is not None for d in found)
    assert [d.box[0] > 160 for d in found if d] == [False] * 6 + [True] * 6
    assert finder.flags == {"tracked_lost"}


def test_tracked_leaves_what_it_followed_for_a_far_surer_face() -> None:
    face = face_frames(1)[0][:, ::-1]
    half = face_frames(1)[0]
    half[:, 77:] = 90
    empty = np.full_like(face, 90)
    alone, beside = np.hstack([empty, half]), np.hstack([face, half])
    finder = FaceFinder(TRACKED)
    found = [finder.find(frame) for frame in [alone] * 3 + [beside] * (REFRESH + 1)]
    assert [d.box[0] > 160 for d in found if d][:4] == [True] * 4
    assert found[-1] is not None and found[-1].box[0] < 160


def test_item_57_of_several_faces_the_surest_is_kept_though_another_is_larger() -> None:
    small = face_frames(1)[0]
    large = cv2.GaussianBlur(cv2.resize(small, None, fx=1.6, fy=1.6), (0, 0), 3)
    picture = np.full((large.shape[0], small.shape[1] + large.shape[1]), 90, np.uint8)
    picture[: small.shape[0], : small.shape[1]] = small
    picture[:, small.shape[1] :] = large
    found = detect(picture, PER_FRAME)
    assert len(found) == 2 and found[0].box[2] < found[1].box[2]
    best = FaceFinder(PER_FRAME).find(picture)
    assert best == found[0]


def test_item_57_the_face_stays_the_same_person_and_the_clip_is_flagged(tmp_path: Path) -> None:
    faces = faces_of(write_folder(tmp_path / "two", two_faces(12)))
    assert "several_faces" in faces.flags
    assert len({bool(x > 160) for x in faces.ledger.box[:, 0]}) == 1


def test_a_frame_of_two_people_is_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The main face is known only after all frames, which are then read again."""
    searched: list[np.ndarray] = []
    monkeypatch.setattr(
        "fer_core.preprocess.face.detect", lambda picture, *a: searched.append(picture) or detect(picture, *a)
    )
    faces = faces_of(write_folder(tmp_path / "two", two_faces(12)), PreprocessConfig(selection="all"))
    assert "several_faces" in faces.flags and faces.n_used == 12
    assert len(searched) == 12


@pytest.mark.parametrize("last, kept", [(None, 0), ((100, 0, 50, 50), 1), ((300, 0, 50, 50), 0)])
def test_continuity_decides_between_boxes_about_as_sure(last: tuple[int, int, int, int] | None, kept: int) -> None:
    found = [Detection((0, 0, 50, 50), 6.0), Detection((100, 0, 50, 50), 4.0), Detection((200, 0, 90, 90), 1.0)]
    assert choose(found, last) == found[kept]


def test_continuity_does_not_keep_a_box_the_cascade_hardly_believes() -> None:
    found = [Detection((0, 0, 50, 50), 6.0), Detection((200, 0, 50, 50), 1.0)]
    assert choose(found, (200, 0, 50, 50)) == found[0]


def test_item_55_no_face_is_counted_not_guessed(tmp_path: Path) -> None:
    faces = faces_of(write_folder(tmp_path / "plain", plain_frames(8)))
    assert faces.n_used == 0 and faces.pixels.shape == (0, 224, 224) and faces.low_quality
    assert faces.ledger.counts()["no_face"] == 4


def test_item_56_a_face_in_under_half_of_the_frames_is_low_quality(tmp_path: Path) -> None:
    most = faces_of(write_folder(tmp_path / "a", plain_frames(10) + face_frames(6) + plain_frames(4)))
    few = faces_of(write_folder(tmp_path / "b", plain_frames(10) + face_frames(4) + plain_frames(6)))
    assert (most.n_used, few.n_used) == (6, 4)
    assert not most.low_quality and few.low_quality


def test_item_58_a_head_seen_from_behind_or_upside_down_is_no_face(tmp_path: Path) -> None:
    faces = faces_of(write_folder(tmp_path / "clip", [f[::-1] for f in face_frames(6)]))
    assert faces.n_used == 0


def test_item_59_a_small_face_is_low_quality(tmp_path: Path) -> None:
    frames = [cv2.resize(f, (80, 60), interpolation=cv2.INTER_AREA) for f in face_frames(6)]
    faces = faces_of(write_folder(tmp_path / "clip", frames))
    assert faces.n_used == 3 and {"small_face", "low_quality"} <= set(faces.flags) and faces.low_quality


@pytest.mark.parametrize("value", [0, 255])
def test_item_60_black_and_white_clips_have_no_face(value: int, tmp_path: Path) -> None:
    assert faces_of(write_folder(tmp_path / "clip", plain_frames(4, value))).n_used == 0


def test_item_61_a_face_that_leaves_the_frame_is_lost_in_its_place(tmp_path: Path) -> None:
    frames = [
        np.roll(np.hstack([f, np.full_like(f, 90)]), -12 * i, axis=1)[:, :160] for i, f in enumerate(face_frames(16))
    ]
    faces = faces_of(write_folder(tmp_path / "clip", frames), PreprocessConfig(selection="all", face=TRACKED))
    used = faces.ledger.used
    assert used[0] and not used[9:].any() and used.sum() == np.flatnonzero(~used)[0]
    assert (faces.ledger.box[used][:, 0] >= 0).all()


def test_item_62_boxes_are_clamped_to_the_frame() -> None:
    assert clamp((-5, -3, 50, 50), (40, 30)) == (0, 0, 30, 40)
    assert clamp((10, 5, 10, 10), (40, 30)) == (10, 5, 10, 10)
    for left in range(30, 70, 4):  # the face cut ever more by the border
        for found in detect(np.ascontiguousarray(portrait()[:, left:]), PER_FRAME):
            x, y, width, height = found.box
            assert x >= 0 and y >= 0 and x + width <= 214 - left and y + height <= 160


def test_a_face_the_cascade_hardly_believes_is_not_used_but_told(tmp_path: Path) -> None:
    faces = faces_of(write_folder(tmp_path / "clip", face_frames(4)), PreprocessConfig(face=FaceConfig(min_weight=50)))
    assert faces.ledger.status == (FrameStatus.LOW_WEIGHT,) * 2
    assert (faces.ledger.weight > 0).all() and (faces.ledger.box[:, 2] > 0).all()


@pytest.mark.parametrize("quarters", [1, -1])
def test_a_clip_that_lies_on_its_side_is_set_upright_by_its_faces(quarters: int, tmp_path: Path) -> None:
    frames = face_frames(8)
    upright = faces_of(write_folder(tmp_path / "up", frames))
    lying = faces_of(write_folder(tmp_path / "lying", [np.rot90(f, quarters) for f in frames]))
    assert lying.flags == ("turned",) and "turned" not in upright.flags
    assert np.array_equal(lying.pixels, upright.pixels) and (lying.width, lying.height) == (160, 120)


def test_each_thread_has_a_cascade_of_its_own() -> None:
    frames = face_frames(30)
    alone = [detect(frame, PER_FRAME) for frame in frames]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda frame: detect(frame, PER_FRAME), frames)) == alone


def test_a_box_the_cascade_rejects_late_is_a_weak_face_not_a_crash() -> None:
    found = [Detection((0, 0, 50, 50), -0.5), Detection((100, 0, 50, 50), -2.0)]
    assert choose(found, None) == choose(found, (100, 0, 50, 50)) == found[0]


def dark(subject: int, light: float = 1.0) -> np.ndarray:
    """The first frame of a drawn clip of someone with very dark skin, grey."""
    return cv2.cvtColor(next(draw_clip(1, subject, SIX[0], (98, 65, 48), light)), cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize("light", [1.0, 0.25])
def test_a_dark_face_is_found_where_the_picture_as_it_is_shows_the_cascade_none(light: float) -> None:
    picture = dark(2, light)
    assert all(d.weight < PER_FRAME.min_weight for d in detect(picture, PER_FRAME))
    found = FaceFinder(PER_FRAME).find(picture)
    assert found is not None and found.weight > 3
    x, y, width, height = found.box
    inside = [(x < px < x + width and y < py < y + height) for px, py in draw_landmarks(1, 2, SIX[0])[0]]
    assert all(inside)


def test_a_portrait_film_is_searched_for_faces_as_small_as_a_landscape_one() -> None:
    wide = np.full((180, 320), 90, np.uint8)
    face = cv2.resize(portrait()[30:120, 40:130], (72, 72), interpolation=cv2.INTER_AREA)
    wide[50:122, 40:112] = face
    tall = np.full((320, 180), 90, np.uint8)
    tall[150:222, 40:112] = face
    (one,), (other,) = detect(wide, PER_FRAME), detect(tall, PER_FRAME)
    assert one.box[2] < 0.2 * 320 and abs(one.box[2] - other.box[2]) <= 4
    assert smallest_face(wide.shape, PER_FRAME) == smallest_face(tall.shape, PER_FRAME) == 36


def test_without_a_detector_the_frame_is_the_face(tmp_path: Path) -> None:
    frames = [cv2.resize(portrait()[40:112, 48:120], (48, 48)) for _ in range(4)]
    cfg = PreprocessConfig(face=FaceConfig(detector="none"), equalize="none")
    faces = faces_of(write_folder(tmp_path / "cropped", frames), cfg)
    assert faces.n_used == 2 and not faces.low_quality and faces.flags == ()
    assert faces.ledger.box.tolist() == [[0, 0, 48, 48]] * 2
    assert np.array_equal(faces.pixels[0], resize(frames[2], 224))


def test_without_a_detector_a_frame_that_is_no_face_by_its_shape_is_flagged(tmp_path: Path) -> None:
    cfg = PreprocessConfig(face=FaceConfig(detector="none"))
    faces = faces_of(write_folder(tmp_path / "wide", [np.hstack([f, f]) for f in face_frames(4)]), cfg)
    assert faces.low_quality and "not_square" in faces.flags


def test_settings_of_a_detector_that_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="detector 'none' does not read min_size"):
        FaceConfig(detector="none", min_size=0.1)


def test_a_lying_picture_does_not_turn_an_upright_clip_whose_faces_are_unsure(tmp_path: Path) -> None:
    """The clear face that lies in the frame has the greater weight; the upright one is confirmed in every frame."""
    face = portrait()[30:120, 40:130]
    weak = cv2.GaussianBlur(cv2.resize(face, (120, 120)), (0, 0), 2)
    frames = []
    for i in range(8):
        frame = np.full((240, 480), 90, np.uint8)
        frame[60:180, 60:180] = weak
        frame[40:220, 280:460] = np.rot90(cv2.resize(face, (180, 180)))
        frame[:4, : 4 + i] = 255
        frames.append(frame)
    faces = faces_of(write_folder(tmp_path / "poster", frames))
    assert "turned" not in faces.flags and faces.n_used == 4
