"""Faces are followed by overlap, then by likeness; a cut ends a track; the main face is there longest and largest."""

from __future__ import annotations

import numpy as np
import pytest

from fer_core.preprocess.faces import FrameStatus, Ledger
from fer_core.preprocess.tracks import CutFinder, follow, main_track, of_person
from tests.preprocess.films import face_frames

RATE = 25
LEFT, RIGHT, FAR = (10, 10, 40, 40), (100, 10, 40, 40), (200, 80, 40, 40)


def ledger(frames: list[list[tuple[int, int, int, int]]]) -> Ledger:
    """A ledger of frames with these faces; a frame without one has a row of its own."""
    rows = [(n, box) for n, boxes in enumerate(frames) for box in boxes or [(0, 0, 0, 0)]]
    return Ledger(
        frame=np.array([n for n, _ in rows], np.int32),
        time_s=np.array([n / RATE for n, _ in rows], np.float32),
        status=tuple(FrameStatus.USED if box[2] else FrameStatus.NO_FACE for _, box in rows),
        box=np.array([box for _, box in rows], np.int32),
        weight=np.array([5.0 if box[2] else 0.0 for _, box in rows], np.float32),
    )


def frames_of(found: Ledger, tracks: list[np.ndarray]) -> list[list[int]]:
    return [found.frame[rows].tolist() for rows in tracks]


def test_two_faces_are_two_tracks_whatever_their_order_in_a_frame():
    found = ledger([[LEFT, RIGHT], [RIGHT, LEFT], [LEFT, RIGHT], [RIGHT, LEFT]] * 2)
    tracks = follow(found, [])
    assert [set(found.box[rows, 0].tolist()) for rows in tracks] == [{10}, {100}]
    assert frames_of(found, tracks) == [list(range(8))] * 2


def test_people_are_numbered_by_first_appearance_and_then_from_left_to_right():
    found = ledger([[FAR]] * 3 + [[RIGHT, LEFT, FAR]] * 5)
    assert [int(found.box[rows[0], 0]) for rows in follow(found, [])] == [200, 10, 100]


def test_a_face_that_moves_is_followed_and_one_that_jumps_is_another():
    moving = [[(10 + 5 * n, 10, 40, 40)] for n in range(10)]
    assert len(follow(ledger(moving), [])) == 1
    assert len(follow(ledger([[LEFT]] * 5 + [[FAR]] * 5), [])) == 2


def test_a_face_found_again_elsewhere_is_known_by_its_look_and_only_in_its_shot():
    found = ledger([[LEFT]] * 5 + [[]] * 3 + [[FAR]] * 5)
    seen: list[tuple[int, int]] = []

    def alike(before: int, now: int) -> float:
        seen.append((before, now))
        return 0.95

    assert frames_of(found, follow(found, [], alike)) == [[*range(5), *range(8, 13)]]
    assert seen == [(4, 8)]  # what overlaps is not compared
    assert len(follow(found, [], lambda *_: 0.5)) == 2
    assert len(follow(found, [8], alike)) == 2


def test_of_two_lost_faces_the_more_alike_is_taken():
    found = ledger([[LEFT, RIGHT]] * 4 + [[FAR]] * 4)
    tracks = follow(found, [], lambda before, _: 0.9 if found.box[before, 0] == 10 else 0.99)
    assert [set(found.box[rows, 0].tolist()) for rows in tracks] == [{10}, {100, 200}]


def test_a_cut_ends_a_track_even_where_the_next_face_is_in_the_same_place():
    found = ledger([[LEFT]] * 12)
    assert frames_of(found, follow(found, [5])) == [list(range(5)), list(range(5, 12))]


def test_a_face_of_a_moment_is_no_person():
    found = ledger([[LEFT]] * 4 + [[LEFT, FAR]] * 2 + [[LEFT]] * 4)
    assert len(follow(found, [])) == 1
    assert len(follow(ledger([[LEFT]]), [])) == 1  # a clip of one frame


@pytest.mark.parametrize(
    ("other", "main"), [((100, 10, 30, 30), 10), ((100, 10, 80, 80), 100)], ids=["longer", "larger"]
)
def test_the_main_face_is_there_longest_and_largest_not_first(other, main):
    found = ledger([[LEFT]] * 2 + [[LEFT, other]] * 10)
    assert int(found.box[main_track(found, [])[0], 0]) == main
    late = ledger([[RIGHT]] * 3 + [[LEFT]] * 9)
    assert int(late.box[main_track(late, [3])[0], 0]) == 10


def test_a_main_face_that_was_lost_and_found_is_one():
    found = ledger([[LEFT]] * 5 + [[FAR]] * 5 + [[FAR, RIGHT]] * 5)
    assert found.frame[main_track(found, [])].tolist() == list(range(15))


def test_the_ledger_of_a_person_has_a_row_per_frame_and_a_face_only_of_that_person():
    found = ledger([[LEFT]] * 2 + [[LEFT, FAR]] * 4 + [[LEFT], [LEFT, FAR], []])
    _, rows = follow(found, [])
    own, places = of_person(found, rows, whole=False)
    assert own.frame.tolist() == [2, 3, 4, 5, 6, 7] and [s.value for s in own.status].count("no_face") == 1
    assert own.box[own.used][:, 0].tolist() == [200] * 5 and (own.box[~own.used] == 0).all()
    assert places.tolist() == [3, 5, 7, 9, 12]  # of the used rows
    whole, _ = of_person(found, rows, whole=True)
    assert whole.frame.tolist() == list(range(9)) and int(whole.used.sum()) == 5


def test_a_cut_is_found_and_movement_is_none():
    finder, frames = CutFinder(), face_frames(12)
    other = [np.ascontiguousarray(np.rot90(frame, 2)) for frame in frames]
    assert [finder.cut(frame) for frame in [*frames, *other]] == [False] * 12 + [True] + [False] * 11
