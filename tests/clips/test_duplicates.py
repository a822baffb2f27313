"""A copy of a recording is found whatever was done to it; two recordings are not taken for one."""

from __future__ import annotations

import itertools
import shlex
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from fer_core.clips.clip import Clip, Split
from fer_core.clips.duplicates import PLAIN, Pair, clip_hash, hash_positions, near_duplicates
from fer_core.clips.leaks import check_leaks
from fer_core.clips.manifest import Manifest
from fer_core.emotions import Emotion
from fer_core.errors import DataError, ShapeError


def recording(seed: int, n_frames: int = 20) -> list[np.ndarray]:
    """A room and a head of its own that drifts and opens its mouth."""
    rng = np.random.default_rng(seed)
    room = cv2.resize(rng.normal(110, 45, (7, 9)).astype(np.float32), (160, 120), interpolation=cv2.INTER_CUBIC)
    skin, size, x = rng.uniform(90, 220), rng.integers(22, 36), rng.integers(60, 100)
    frames = []
    for i in range(n_frames):
        frame = room.copy()
        cv2.ellipse(frame, (int(x + i // 4), 62), (int(size), int(size * 1.3)), 0, 0, 360, skin, -1)
        cv2.ellipse(frame, (int(x + i // 4), 80), (10, 2 + i // 3), 0, 0, 360, 40.0, -1)
        frames.append(np.clip(frame + rng.normal(0, 1, frame.shape), 0, 255).astype(np.uint8))
    return frames


def hashed(frames: list[np.ndarray]) -> np.ndarray:
    return clip_hash([frames[i] for i in hash_positions(len(frames))])


def jpeg(frame: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE)


COPIES = {
    "re-encoded": lambda fs: [jpeg(f) for f in fs],
    "half size": lambda fs: [cv2.resize(f, (80, 60)) for f in fs],
    "brighter": lambda fs: [cv2.convertScaleAbs(f, alpha=1.0, beta=20) for f in fs],
    "less contrast": lambda fs: [cv2.convertScaleAbs(f, alpha=0.6, beta=40) for f in fs],
    "noise": lambda fs: [
        np.clip(f + np.random.default_rng(0).normal(0, 4, f.shape), 0, 255).astype(np.uint8) for f in fs
    ],
    "a frame lost at either end": lambda fs: fs[1:-1],
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_nine_of_ten_copies_are_found(copy):
    found = sum(
        bool(near_duplicates({"a": hashed(f), "b": hashed(copy(f))}, {"a": "x", "b": "y"}))
        for f in map(recording, range(30))
    )
    assert found >= 27


def test_of_fifty_recordings_no_two_are_taken_for_one():
    hashes = {str(seed): hashed(recording(seed)) for seed in range(50)}
    assert near_duplicates(hashes, {name: name for name in hashes}) == []


def test_plain_pictures_are_like_nothing():
    black = [np.zeros((120, 160), np.uint8)] * 5
    assert near_duplicates({"a": clip_hash(black), "b": clip_hash(black)}, {"a": "x", "b": "y"}) == []


def test_clips_of_one_side_are_not_compared_and_order_counts():
    frames = recording(3, n_frames=40)
    moving = [np.roll(f, 4 * i, axis=1) for i, f in enumerate(frames)]
    hashes = {"a": hashed(moving), "b": hashed(moving), "back": hashed(moving[::-1])}
    assert near_duplicates(hashes, dict.fromkeys(hashes, "train")) == []
    pairs = near_duplicates(hashes, {"a": "train", "b": "test", "back": "validation"})
    assert [(p.first, p.second, p.matches, p.distance) for p in pairs] == [("a", "b", 5, 0.0)]


def test_hash_positions_are_five_from_first_to_last():
    assert [hash_positions(n) for n in (1, 2, 5, 101)] == [
        (0, 0, 0, 0, 0), (0, 0, 0, 1, 1), (0, 1, 2, 3, 4), (0, 25, 50, 75, 100)
    ]  # fmt: skip


def test_a_hash_needs_five_grey_frames():
    with pytest.raises(ShapeError, match="needs 5 grey frames"):
        clip_hash([np.zeros((4, 4), np.uint8)] * 4)
    with pytest.raises(ShapeError, match=r"\(4, 4, 3\)"):
        clip_hash([np.zeros((4, 4, 3), np.uint8)] * 5)


def every_pair_compared(hashes, sides, near: int, least: int) -> list[Pair]:
    """The definition: all bits of all positions of every pair."""
    ids = [i for i in hashes if i in sides]
    bits = {i: np.unpackbits(hashes[i], axis=1) for i in ids}
    found = []
    for a, b in itertools.combinations(ids, 2):
        if sides[a] != sides[b]:
            apart = (bits[a] != bits[b]).sum(axis=1)
            told = np.minimum(bits[a].sum(axis=1), bits[b].sum(axis=1)) >= PLAIN
            close = (apart <= near) & told
            if close.sum() >= least:
                found.append(Pair(a, b, int(close.sum()), float(apart[close].mean())))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("near", "least"), [(14, 4), (14, 5), (6, 4), (20, 3)])
def test_the_pairs_are_those_of_comparing_all(seed, near, least):
    """Rooms that many share, copies at every distance around the limit, plain pictures, one person's own pairs."""
    rng = np.random.default_rng(seed)
    rooms = rng.random((3, 1, 256)) < rng.choice([0.03, 0.1, 0.3])
    bits = []
    for _ in range(60):
        flipped = rng.random((5, 256)) < rng.choice([0.0, 0.01, 0.02, 0.03], size=(5, 1))
        bits.append(rooms[rng.integers(3)] ^ flipped)
    hashes = {f"c{i}": np.packbits(one, axis=1) for i, one in enumerate(bits)}
    sides = {clip: f"s{rng.integers(20)}" for clip in hashes if rng.random() < 0.95}
    found = near_duplicates(hashes, sides, near, least)
    assert found == every_pair_compared(hashes, sides, near, least) and (found or near < 20)


def test_two_thousand_clips_take_seconds():
    rng = np.random.default_rng(0)
    hashes = {str(i): rng.integers(0, 256, (5, 32), dtype=np.uint8) for i in range(2000)}
    started = time.monotonic()
    assert near_duplicates(hashes, {i: str(int(i) % 2) for i in hashes}) == []
    assert time.monotonic() - started < 20


# Leaks


def clip(name: str, subject: str, split: Split | None = None, emotion: Emotion = Emotion.FEAR) -> Clip:
    return Clip(name, Path("/d") / name, subject, emotion, "d", split=split)


def test_070_the_same_content_under_two_subjects_or_labels_is_refused():
    table = Manifest((clip("a", "s1"), clip("b", "s2"), clip("c", "s1", emotion=Emotion.ANGER), clip("d", "s1")))
    report = check_leaks(table, {"a": "0", "b": "0", "c": "0", "d": "0"})
    assert [(leak.kind, leak.clips) for leak in report.leaks] == [
        ("same content, two subjects", ("a", "b")),
        ("same content, two labels", ("a", "c")),
    ]
    assert report.repeated == (("a", "d"),)
    with pytest.raises(
        DataError, match=r"2 leaks: clips 'a' and 'b' have the same content, but subjects 's1' and 's2'"
    ):
        report.refuse()
    check_leaks(table, {"a": "0", "b": "1", "c": "2", "d": "3"}).refuse()


def test_070_the_same_content_of_nobody_known_is_refused_on_two_sides():
    table = Manifest((clip("a", "", Split.TRAIN), clip("b", "", Split.TEST), clip("c", "", Split.TRAIN)))
    report = check_leaks(table, dict.fromkeys("abc", "0"))
    assert [(leak.kind, leak.clips) for leak in report.leaks] == [("same content, two sides", ("a", "b"))]
    assert report.repeated == (("a", "c"),)


def test_near_duplicates_across_sides_are_refused_until_a_person_clears_them():
    frames = recording(1)
    hashes = {"a": hashed(frames), "b": hashed(COPIES["re-encoded"](frames)), "c": hashed(recording(2))}
    table = Manifest((clip("a", "s1", Split.TRAIN), clip("b", "s2", Split.TEST), clip("c", "s3", Split.TEST)))
    report = check_leaks(table, hashes=hashes)
    with pytest.raises(DataError, match=r"clips 'a' and 'b' \('s1' and 's2'\) look like one recording.*allow_pairs"):
        report.refuse()
    cleared = check_leaks(table, hashes=hashes, allow_pairs=[("b", "a")])
    cleared.refuse()
    assert [(p.first, p.second) for p in cleared.cleared] == [("a", "b")] and cleared.n_hashed == 3


def test_the_command_that_clears_a_pair_survives_the_shell_whatever_the_clips_are_called():
    names, frames = ('O\'Neil/a "b"', "Zoë $HOME, x"), recording(1)
    table = Manifest((clip(names[0], "s1"), clip(names[1], "s2")))
    (leak,) = check_leaks(table, hashes=dict.fromkeys(names, hashed(frames))).leaks
    _, setting = shlex.split(leak.reason[leak.reason.index("--set") :])
    assert setting.startswith("split.allow_pairs=")
    assert yaml.safe_load(setting.partition("=")[2]) == [list(names)]


@pytest.mark.parametrize("side", [None, Split.TRAIN], ids=["no split yet", "all to train on"])
def test_near_duplicates_of_two_people_are_refused_on_one_side_too(side):
    frames = recording(1)
    hashes = {"a": hashed(frames), "b": hashed(frames), "c": hashed(frames)}
    table = Manifest((clip("a", "s1", side), clip("b", "s1", side), clip("c", "s2", side)))
    assert [leak.clips for leak in check_leaks(table, hashes=hashes).leaks] == [("a", "c"), ("b", "c")]


def test_near_duplicates_of_nobody_known_are_refused_across_sides():
    frames = recording(1)
    table = Manifest((clip("a", "", Split.TRAIN), clip("b", "", Split.TRAIN), clip("c", "", Split.TEST)))
    leaks = check_leaks(table, hashes=dict.fromkeys("abc", hashed(frames))).leaks
    assert [leak.clips for leak in leaks] == [("a", "c"), ("b", "c")]


def test_one_pair_is_one_leak():
    frames = recording(1)
    table = Manifest((clip("a", "s1"), clip("b", "s2")))
    report = check_leaks(table, {"a": "0", "b": "0"}, {"a": hashed(frames), "b": hashed(frames)})
    assert [leak.kind for leak in report.leaks] == ["same content, two subjects"]


def test_a_refusal_names_five_and_counts_the_rest():
    table = Manifest(tuple(clip(f"{i}", f"s{i}") for i in range(9)))
    with pytest.raises(DataError, match=r"8 leaks: .*'0' and '5'.*; and 3 more$"):
        check_leaks(table, dict.fromkeys(map(str, range(9)), "0")).refuse()
