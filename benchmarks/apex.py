"""The estimated apex against the true one: clips that end at their apex, played forward, held, and back.

`python -m benchmarks.apex [MANIFEST]`: on the clips of a manifest, else on drawn ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import FaceConfig, LimitsConfig
from fer_core.preprocess.apex import estimate_apex
from fer_core.preprocess.decode import Frame, Report
from fer_core.preprocess.pipeline import open_media

SUBJECTS = 6
HELD = 8  # frames the apex stays


class Played:
    """A clip forward, its last frame held, and back; see `decode.Media`."""

    digest = ""

    def __init__(self, frames: list[Frame]) -> None:
        places = [*range(len(frames)), *[len(frames) - 1] * HELD, *reversed(range(len(frames) - 1))]
        self._frames = [replace(frames[place], index=i) for i, place in enumerate(places)]
        self.n_expected = len(self._frames)

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        yield from self._frames

    def report(self) -> Report:
        return Report(self.n_expected, 0, 1.0, 0.0, 0, 0, frozenset())


def miss(clip: Clip) -> tuple[int, float]:
    """Frames between the estimated apex and the nearest one that shows it, negative when early; ms a frame."""
    with open_media(clip.path, LimitsConfig()) as media:
        frames = list(media.frames(lambda _: True))
    played = Played(frames)
    started = time.process_time()
    found = estimate_apex(played, FaceConfig())
    ms = 1000 * (time.process_time() - started) / played.n_expected
    first, last = len(frames) - 1, len(frames) - 1 + HELD
    assert found is not None, f"clip '{clip.id}' shows no face"
    return min(found - first, 0) + max(found - last, 0), ms


def report(manifest: Manifest) -> None:
    clips = [c for c in manifest.clips if c.emotion]
    misses, costs = map(np.array, zip(*map(miss, clips), strict=True))
    print(f"{len(clips)} clips{' (synthetic)' if manifest.synthetic else ''}, apex held {HELD} frames.\n")
    print("| emotion | clips | median error, frames | mean error | within 2 frames | worst |")
    print("| --- | --- | --- | --- | --- | --- |")
    emotions = np.array([str(c.emotion) for c in clips])
    for name in [*dict.fromkeys(sorted(emotions)), "all"]:
        off = np.abs(misses[(emotions == name) | (name == "all")])
        print(
            f"| {name} | {len(off)} | {np.median(off):g} | {off.mean():.1f} | {(off <= 2).mean():.0%} | {off.max()} |"
        )
    print(f"\n{np.median(costs):.1f} CPU ms a frame; {(misses < 0).mean():.0%} estimates early.")


def main(argv: list[str] | None = None) -> None:
    if argv:
        report(read_manifest(Path(argv[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        report(synthesize(Path(folder), SUBJECTS, 0))


if __name__ == "__main__":
    main(sys.argv[1:])
