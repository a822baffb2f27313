"""Near-duplicates: pairs of clips of different people that are taken for one recording, which none of these are.

`python -m benchmarks.duplicates [MANIFEST …]` compares the clips of manifests, or drawn ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fer_core.clips.duplicates import near_duplicates
from fer_core.clips.manifest import read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import LimitsConfig
from fer_core.preprocess.perceptual_hash import hash_batch

SUBJECTS = 6


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


if __name__ == "__main__":
    main(*sys.argv[1:])
