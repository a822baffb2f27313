"""Near-duplicates: pairs of clips of different people that are taken for one recording, which none of these are.

`python -m benchmarks.duplicates [MANIFEST …]` compares the clips of manifests, or drawn ones. A second table measures
the comparison alone, on hashes of drawn pictures: of many clips, twenty a person, in few rooms or in many.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from fer_core.clips.duplicates import POSITIONS, RISE, SIDE, near_duplicates
from fer_core.clips.manifest import read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import LimitsConfig
from fer_core.preprocess.perceptual_hash import hash_batch

SUBJECTS, EACH = 6, 20


def main(*manifests: str) -> None:
    """Print one row."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = () if manifests else synthesize(Path(folder) / "faces", SUBJECTS, seed=0).clips
        clips = [*drawn, *(clip for manifest in manifests for clip in read_manifest(Path(manifest)).clips)]
        started = time.perf_counter()
        hashes = {seen.clip.id: seen.hash for seen in hash_batch(clips, LimitsConfig(), Path(folder) / "store")}
        each = 1e3 * (time.perf_counter() - started) / len(clips)
    subjects = {clip.id: clip.subject for clip in clips}
    found = near_duplicates({clip: one for clip, one in hashes.items() if one is not None}, subjects)
    same = sum(n * (n - 1) // 2 for n in Counter(subjects.values()).values())
    pairs = len(clips) * (len(clips) - 1) // 2 - same
    print("| clips | people | pairs of different people | taken for one recording | ms a clip |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| {len(clips)} | {len(set(subjects.values()))} | {pairs} | {len(found)} | {each:.1f} |")
    print("\n| clips | rooms | CPU-s |")
    print("| --- | --- | --- |")
    for n_clips, rooms in ((16_000, 50), (16_000, 3), (100_000, 50), (100_000, 3)):
        hashes = drawn_hashes(n_clips, rooms)
        subjects = {clip: f"s{i // EACH}" for i, clip in enumerate(hashes)}
        started = time.process_time()
        near_duplicates(hashes, subjects)
        print(f"| {n_clips} | {rooms} | {time.process_time() - started:.2f} |")


def drawn_hashes(n_clips: int, rooms: int) -> dict[str, np.ndarray]:
    """Return hashes of smooth random pictures: a room, a person before it, and what differs between their frames."""
    rng = np.random.default_rng(0)

    def pictures(*shape: int) -> np.ndarray:
        found = rng.normal(size=(*shape, SIDE, SIDE + 1)).astype(np.float32)
        for axis in (-1, -2):
            found = sum(w * np.roll(found, shift - 2, axis=axis) for shift, w in enumerate((1, 4, 6, 4, 1)))
        return found / 256

    room, person = pictures(rooms), 0.7 * pictures(n_clips // EACH + 1)
    hashes: dict[str, np.ndarray] = {}
    for start in range(0, n_clips, 2000):
        clips = np.arange(start, min(start + 2000, n_clips))
        frames = room[rng.integers(rooms, size=len(clips)), None] + person[clips // EACH, None]
        frames = frames + 0.15 * pictures(len(clips), POSITIONS)
        spread = frames.max(axis=(-1, -2), keepdims=True) - frames.min(axis=(-1, -2), keepdims=True)
        bits = (np.diff(frames, axis=-1) > RISE * spread).reshape(len(clips), POSITIONS, -1)
        hashes |= {f"c{clip}": np.packbits(one, axis=-1) for clip, one in zip(clips, bits, strict=True)}
    return hashes


if __name__ == "__main__":
    main(*sys.argv[1:])
