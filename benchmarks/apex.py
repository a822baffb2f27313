"""Apex estimate: error in frames on clips played forward, held at their apex, and back, whose apex is thereby known.

`python -m benchmarks.apex [MANIFEST]` takes clips that end at their apex: of a manifest, or drawn faces.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_core.clips.manifest import Manifest, read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import FaceConfig, LimitsConfig
from fer_core.preprocess.apex import estimate_apex
from fer_core.preprocess.decode import Frame
from fer_core.preprocess.frame_count import Report
from fer_core.preprocess.pipeline import open_media

SUBJECTS = 6
SEED = 0


class Played:
    """A list of pictures as a clip, see `decode.Media`."""

    digest, fps = "", 25.0

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.n_expected = len(pictures)
        self._pictures = pictures

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        for index, picture in enumerate(self._pictures):
            yield Frame(index, index / self.fps, picture if wanted(index) else None)

    def report(self) -> Report:
        height, width = self._pictures[0].shape
        return Report(len(self._pictures), 0, 1.0, len(self._pictures) / self.fps, width, height, frozenset())


def main(manifest: str | None = None) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = read_manifest(Path(manifest)) if manifest else synthesize(Path(folder) / "faces", SUBJECTS, SEED)
        print("Frames between the estimate and the held apex, and the shares of clips cut before and after it:\n")
        print("| played | clips | median | mean | 90 % within | early | late | CPU ms per frame |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for name, play in {"forward, held, back": symmetric, "and back faster, not to the end": uneven}.items():
            print(row(name, clips, play), flush=True)


def row(name: str, clips: Manifest, play: Callable[..., tuple[list[np.ndarray], int, int]]) -> str:
    rng, off, n_frames = np.random.default_rng(SEED), [], 0
    started = time.process_time()
    for clip in clips.clips:
        with open_media(clip.path, LimitsConfig()) as media:
            pictures = [f.picture for f in media.frames(lambda index: True) if f.picture is not None]
        pictures = pictures[: len(pictures) if clip.apex is None else clip.apex + 1]
        played, first, last = play(pictures, rng)
        found = estimate_apex(Played(played), FaceConfig())
        assert found is not None, clip.id
        off.append(min(found - first, 0) + max(found - last, 0))
        n_frames += len(played)
    cpu_ms = 1e3 * (time.process_time() - started) / n_frames
    errors, early, late = np.abs(off), np.mean(np.array(off) < 0), np.mean(np.array(off) > 0)
    numbers = f"{np.median(errors):.0f} | {errors.mean():.1f} | {np.percentile(errors, 90):.0f}"
    return f"| {name} | {len(off)} | {numbers} | {early:.0%} | {late:.0%} | {cpu_ms:.1f} |"


def symmetric(pictures: list[np.ndarray], rng: np.random.Generator) -> tuple[list[np.ndarray], int, int]:
    """Return the clip forward, held at its apex for up to 8 frames, and back; with first and last frame of the apex."""
    held = int(rng.integers(0, 9))
    apex = len(pictures) - 1
    return pictures + [pictures[-1]] * held + pictures[-2::-1], apex, apex + held


def uneven(pictures: list[np.ndarray], rng: np.random.Generator) -> tuple[list[np.ndarray], int, int]:
    """Return up to 9 neutral frames, the clip forward, held, and back at up to three times the speed.

    The way back may end half-way. Also returns the first and last frame of the apex.
    """
    neutral, held = int(rng.integers(0, 10)), int(rng.integers(0, 9))
    back = pictures[-2 :: -int(rng.integers(1, 4))]
    back = back[: round(len(back) * rng.uniform(0.5, 1.0))]
    apex = neutral + len(pictures) - 1
    return [pictures[0]] * neutral + pictures + [pictures[-1]] * held + back, apex, apex + held


if __name__ == "__main__":
    main(*sys.argv[1:2])
