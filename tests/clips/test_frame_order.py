"""Frames in the order in which they were taken, whatever the habit of naming them."""

from __future__ import annotations

import random

import pytest

from fer_core.clips.frame_order import frame_order
from fer_core.errors import ClipError

N = range(1, 25)


def noise(i: int, digits: int = 8) -> str:
    return f"{random.Random(i).getrandbits(4 * digits):0{digits}x}"


HABITS = {
    "padded": [f"frame_{i:04d}.jpg" for i in N],
    "not padded": [f"frame{i}.jpg" for i in N],
    "a face": [f"frame_{i}_face_0.jpg" for i in N],
    "seconds": [f"t_{i * 0.25:.2f}.png" for i in N],
    "short seconds": [f"t_{i * 0.25:g}.png" for i in N],
    "Python's seconds": [f"t_{i * 0.25}.png" for i in N],
    "clock": [f"{12 + i // 3600}-{i // 60 % 60:02d}-{i % 60:02d}.png" for i in range(3590, 3610)],
    "clock with units": ["10h59m58s.png", "10h59m59s.png", "11h00m00s.png", "11h00m01s.png"],
    "clock before a date": [f"12-00-{i:02d}_2024-01-31.png" for i in N],
    "day first": [f"{d:02d}-{m:02d}-2024_12-00.png" for d, m in [(30, 1), (31, 1), (1, 2), (2, 2)]],
    "before a size": [f"img{i}_640x480.png" for i in N],
    "of": [f"{i} of 120.png" for i in N],
    "Windows": ["frame.png", *(f"frame ({i}).png" for i in range(2, 25))],
    "CK+": [f"S005_001_{i:08d}.png" for i in N],
    "hash behind": [f"frame_{i}_{noise(i)}.png" for i in N],
    "hash before": [f"{noise(i)}-{i}.png" for i in N],
    "confidence before": [f"{random.Random(i).random():.2f}_frame_{i}.png" for i in N],
    "confidence behind": [f"frame_{i}_conf_{random.Random(i).random():.2f}.png" for i in N],
    "around the onset": [f"t_{i}.png" for i in range(-5, 15)],
    "some lost": [f"frame_{i}.png" for i in N if i % 4],
}


@pytest.mark.parametrize("names", HABITS.values(), ids=HABITS)
def test_frames_are_in_order_whatever_the_habit(names):
    shuffled = random.Random(0).sample(names, len(names))
    found = frame_order(shuffled)
    assert list(found.names) == names and found.continuous and not found.others


def test_an_ambiguous_order_says_how_it_was_read():
    assert frame_order(HABITS["hash before"]).reading == "the last number"
    assert frame_order(HABITS["padded"]).reading == ""


def test_a_picture_without_a_number_is_no_frame():
    found = frame_order(["poster.png", "f1.png", "f2.png"])
    assert (found.names, found.others) == (("f1.png", "f2.png"), ("poster.png",))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["apex.png", "onset.png"], r"no numbers in their names \('apex.png', 'onset.png'\)"),
        (["7_3.png", "19_88.png", "40_12.png"], "'19_88.png' comes before '40_12.png', by the last number behind it"),
        ([f"frame_{i}_face_{j}.png" for i in N for j in (0, 1)], "count more than one thing"),
        ([f"{take}_{i}.png" for take in "ab" for i in N], "or are of several series"),
    ],
)
def test_an_uncertain_order_is_refused_with_the_remedy(names, message):
    with pytest.raises(ClipError, match=f"{message}.*; number its frames, or list each picture"):
        frame_order(names)


def test_few_of_many_numbers_are_ordered_but_not_continuous():
    found = frame_order(["train_00101.jpg", "train_00013.jpg", "train_00047.jpg"])
    assert not found.continuous and found.names[0] == "train_00013.jpg"
