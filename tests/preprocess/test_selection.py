from __future__ import annotations

import numpy as np
import pytest

from fer_core.config import PreprocessConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.selection import select

HALF = PreprocessConfig()


@pytest.mark.parametrize("n, frames", [(1, [0]), (2, [1]), (3, [1, 2]), (4, [2, 3]), (7, [3, 4, 5, 6])])
def test_item_11_second_half_is_frames_from_n_half(n: int, frames: list[int]) -> None:
    assert select(n, None, HALF).tolist() == frames


@pytest.mark.parametrize("n", [1, 2, 3, 10, 99])
def test_cutting_at_the_apex_is_a_clip_that_ends_there(n: int) -> None:
    for apex in range(n):
        assert np.array_equal(select(n, apex, HALF), select(apex + 1, None, HALF))


@pytest.mark.parametrize("n", range(1, 60))
def test_thinned_frames_are_of_the_second_half_even_and_end_at_the_apex(n: int) -> None:
    whole = select(n, None, HALF)
    for most in range(1, n + 2):
        kept = select(n, None, HALF.model_copy(update={"max_frames": most}))
        gaps = np.diff(kept)
        assert len(kept) == min(most, len(whole))
        assert set(kept) <= set(whole)
        assert kept[-1] == whole[-1]
        assert (gaps >= 1).all()
        assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_all_frames_means_all() -> None:
    assert select(5, None, PreprocessConfig(selection="all")).tolist() == [0, 1, 2, 3, 4]


def test_an_apex_behind_the_end_is_damage_not_a_guess() -> None:
    with pytest.raises(ClipError, match=r"apex is frame 9.*only 5 frames") as caught:
        select(5, 9, HALF)
    assert caught.value.status is ClipStatus.DAMAGED


@pytest.mark.parametrize("n, apex", [(72, None), (300, None), (300, 150), (17, None)])
def test_a_whole_course_thinned_begins_at_the_start_and_ends_at_the_apex(n: int, apex: int | None) -> None:
    end = n - 1 if apex is None else apex
    for most in (2, 8, 16):
        kept = select(n, apex, PreprocessConfig(selection="all", max_frames=most))
        gaps = np.diff(kept)
        assert (kept[0], kept[-1], len(kept)) == (0, end, most) and gaps.max() - gaps.min() <= 1
    assert select(n, apex, PreprocessConfig(selection="all", max_frames=1)).tolist() == [end]
