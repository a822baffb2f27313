"""A film shows its clip frame by frame, with each box and verdict where the results have it."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest

from fer_core.clips.clip import clip_digest
from fer_core.errors import ClipError
from fer_core.preprocess.annotate import FOOT, MARGIN, STRIP, Canvas, Film, Person, write_film
from fer_core.preprocess.decode import Frame
from tests.preprocess.conftest import LIMITS
from tests.preprocess.films import face_frames, write_folder, write_video

RED, GREEN = [220, 30, 30], [30, 200, 30]
ONE = Person(
    1, [0, 10], [[40, 30, 50, 50], [60, 30, 50, 50]], [0.0, 0.4], [0.4, 0.8], [0, 1], [0.9, 0.5], [False, True]
)
FILM = Film(["anger", "fear"], [RED, GREEN], [ONE], 0.8, "a model")
GREY = np.full((120, 160, 3), 90, np.uint8)
SCALE = 3  # 160 pixels wide clips are shown 480 wide


def coloured(picture: np.ndarray, color: list[int]) -> np.ndarray:
    """Places of a colour, (height, width)."""
    return (np.abs(picture.astype(int) - color).max(axis=2) < 12).nonzero()


def drawn(film: Film, index: int) -> np.ndarray:
    return Canvas(film, (160, 120), 0.8).draw(Frame(index, index / 25, GREY), index / 25)


def test_the_box_is_where_the_face_is_in_the_colour_of_the_verdict():
    picture = drawn(FILM, 0)[: SCALE * 120]
    rows, columns = coloured(picture, RED)
    assert (columns.min(), columns.max()) == pytest.approx((SCALE * 40, SCALE * 90), abs=2)
    assert rows.max() == pytest.approx(SCALE * 80, abs=2)
    assert not len(coloured(picture, GREEN)[0])


def test_between_two_frames_that_were_looked_at_the_box_moves_evenly():
    _, columns = coloured(drawn(FILM, 5)[: SCALE * 120], RED)
    assert columns.min() == pytest.approx(SCALE * 50, abs=2)


def test_later_the_later_verdict_holds_and_a_frame_without_a_face_has_no_box():
    assert len(coloured(drawn(FILM, 12)[: SCALE * 120], GREEN)[0])
    lost = replace(FILM, people=[replace(ONE, boxes=[[], []], label=[-1, -1])])
    assert (drawn(lost, 3)[: SCALE * 120] == 90).all()


def test_the_timeline_has_a_block_per_verdict_and_a_line_at_the_present():
    foot = drawn(FILM, 10)[SCALE * 120 :]
    assert len(foot) == MARGIN + STRIP + MARGIN + FOOT
    _, columns = coloured(foot, RED)
    assert (columns.min(), columns.max()) == pytest.approx((MARGIN, 240), abs=3)  # the first half
    assert not len(coloured(foot, GREEN)[0])  # abstained: drawn darker
    bright = (foot[MARGIN : MARGIN + 4] > 230).all(axis=2).any(axis=0).nonzero()[0]
    assert bright.mean() == pytest.approx(MARGIN + (480 - 2 * MARGIN) / 2, abs=3)


def test_a_film_has_the_frames_and_the_times_of_its_clip(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", face_frames(20))
    assert write_film(clip, clip_digest(clip), FILM, tmp_path / "film", LIMITS) == 20
    with av.open(str(tmp_path / "film")) as file:
        stream = file.streams.video[0]
        shown = [(float(f.pts * stream.time_base), f.to_ndarray(format="rgb24")) for f in file.decode(stream)]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
    assert [time for time, _ in shown] == pytest.approx([i / 25 for i in range(20)], abs=1e-3)
    pictures = [picture for _, picture in shown]
    assert pictures[0].shape[:2] == (SCALE * 120 + MARGIN + STRIP + MARGIN + FOOT, 480)
    assert all(picture.shape == pictures[0].shape for picture in pictures)
    plain = np.array([picture[200:300, 10:100].mean() for picture in pictures])
    clip_frames = np.array([frame[66:100, 3:33].mean() for frame in face_frames(20)])
    assert np.abs(plain - clip_frames).max() < 6  # the clip itself is beneath


def test_a_folder_of_frames_becomes_a_film_of_25_frames_per_second(tmp_path):
    folder = write_folder(tmp_path / "frames", face_frames(5))
    assert write_film(folder, clip_digest(folder), FILM, tmp_path / "film", LIMITS) == 5
    with av.open(str(tmp_path / "film")) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(25, rel=0.01)


def test_a_clip_that_changed_since_it_was_scored_is_not_drawn(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", face_frames(3))
    with pytest.raises(ClipError, match="its content was replaced"):
        write_film(clip, "0" * 32, FILM, tmp_path / "film", LIMITS)


def test_what_is_drawn_survives_the_way_to_the_child():
    assert Film.from_json(FILM.to_json()) == FILM
