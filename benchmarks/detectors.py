"""Detectors: how often each finds the face, whether at the right place, and its cost; plain frames and harder ones.

`python -m benchmarks.detectors [MANIFEST …]` looks at four frames of every clip of some manifests, or of drawn ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from fer_core.clips.manifest import Manifest, read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import FaceConfig, LimitsConfig
from fer_core.preprocess import blazeface
from fer_core.preprocess.face import Box, FaceFinder, detect, overlap
from fer_core.preprocess.pipeline import open_media

FRAMES = 4  # frames of each clip, evenly spaced
SUBJECTS, SEED = 12, 0
SAME = 0.4  # minimum IoU with the true box for a box to count as the face
DETECTORS = {name: FaceConfig(detector=name) for name in ("viola_jones", "blazeface")}  # type: ignore[arg-type]
Change = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # picture -> changed picture, (2, 3) map of its points


def plain(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return picture, np.eye(2, 3)


def turned(degrees: float) -> Change:
    """Return a change that rotates a picture about its centre and repeats the border."""

    def change(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = picture.shape
        warp = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(picture, warp, (width, height), borderMode=cv2.BORDER_REPLICATE), warp

    return change


def dark(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture at a quarter of the brightness, in whole grey values, as a camera stores it."""
    return (picture * 0.25).astype(np.uint8), np.eye(2, 3)


def placed(width: int, height: int, share: float) -> Change:
    """Return a change that puts the picture on a grey canvas, above its middle.

    Args:
        width, height: size of the canvas, pixels.
        share: shorter side of the picture divided by that of the canvas.
    """

    def change(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale = share * min(width, height) / min(picture.shape)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:height, :width]
        canvas = np.full((height, width), 128, np.uint8)
        left, top = (width - small.shape[1]) // 2, (height - small.shape[0]) // 4
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
        return canvas, np.array([[scale, 0, left], [0, scale, top]])

    return change


CHANGES: dict[str, Change] = {
    "as it is": plain,
    "turned by 15°": turned(15),
    "turned by 30°": turned(30),
    "on its side": turned(90),
    "a quarter of the light": dark,
    "in a portrait of 480 x 854": placed(480, 854, 0.9),
    "0.55 as large in 640 x 480": placed(640, 480, 0.55),
    "0.3 as large in 640 x 480": placed(640, 480, 0.3),
}


@dataclass
class Tally:
    """Counts of what a detector found in the frames of one change."""

    n: int = 0
    found: int = 0
    overlaps: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def cells(self) -> list[str]:
        right = [o for o in self.overlaps if o >= SAME]
        return [
            f"{self.found / self.n:.1%}",
            f"{len(right) / max(len(self.overlaps), 1):.1%}",
            f"{np.mean(right):.2f}" if right else "–",
            f"{1e3 * self.cpu_s / self.n:.1f}",
        ]


def main(manifests: list[str]) -> None:
    """Print a table for each manifest."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if not manifests:
            print("Drawn faces; no number here is of people.\n")
            print_table("drawn", synthesize(Path(folder) / "faces", SUBJECTS, seed=SEED))
        for manifest in manifests:
            print_table(Path(manifest).parent.name, read_manifest(Path(manifest)))


def print_table(name: str, clips: Manifest) -> None:
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    n_frames = n_true = 0
    geometry = []
    for clip in clips.clips:
        pictures = list(frames_of(clip.path))
        truths = [true_box(picture) for picture in pictures]
        geometry += [shape for picture in pictures if (shape := framing(picture)) is not None]
        n_frames, n_true = n_frames + len(pictures), n_true + sum(t is not None for t in truths)
        for change, make in CHANGES.items():
            changed = [make(picture) for picture in pictures]
            for detector, cfg in DETECTORS.items():
                look(changed, truths, cfg, tallies[change, detector])
    print(f"**{name}**: {len(clips)} clips, {n_frames} frames. True, in {n_true} of them, is the mean of the boxes of")
    print(f"both detectors in the unchanged frame, where they overlap by IoU 0.5; at IoU {SAME} a box is right.\n")
    columns = [f"{d}: {c}" for d in DETECTORS for c in ("found", "right, of the true", "IoU of these", "CPU ms")]
    print(f"| frame | {' | '.join(columns)} |\n| --- |{' ---: |' * len(columns)}")
    for change in CHANGES:
        cells = [cell for detector in DETECTORS for cell in tallies[change, detector].cells()]
        print(f"| {change} | {' | '.join(cells)} |", flush=True)
    right, up, larger = np.mean(geometry, axis=0)
    print(
        f"\nA Viola-Jones box in sides of BlazeFace's own: {larger:.2f} as large, its centre {up:.2f} higher and "
        f"{right:+.2f} to the right.\n"
    )


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """Yield grey pictures of evenly spaced frames of a clip."""
    with open_media(path, LimitsConfig()) as media:
        everything = [frame.picture for frame in media.frames(lambda _: True) if frame.picture is not None]
    for place in np.linspace(0, len(everything) - 1, FRAMES).round().astype(int):
        yield everything[place]


def true_box(picture: np.ndarray) -> Box | None:
    """Return the mean box of both detectors; None where they disagree or one finds nothing."""
    found = [detect(picture, cfg) for cfg in DETECTORS.values()]
    if not all(found) or overlap(found[0][0].box, found[1][0].box) < 0.5:
        return None
    x, y, width, height = np.mean([f[0].box for f in found], axis=0).tolist()
    return round(x), round(y), round(width), round(height)


def framing(picture: np.ndarray) -> tuple[float, float, float] | None:
    """Return (shift right, shift up, side) of a Viola-Jones box, in sides of BlazeFace's box.

    None where a detector finds nothing or the boxes lie apart.
    """
    cascade, (boxes, _) = detect(picture, DETECTORS["viola_jones"]), blazeface.boxes(picture)
    if not cascade or not len(boxes):
        return None
    (x, y, side, _), (left, top, width, height) = cascade[0].box, boxes[0].tolist()
    right, up = x + side / 2 - left - width / 2, top + height / 2 - y - side / 2
    return (right / width, up / height, side / width) if abs(right) < width / 2 > abs(up) else None


def look(changed: list[tuple[np.ndarray, np.ndarray]], truths: list[Box | None], cfg: FaceConfig, tally: Tally) -> None:
    """Let a detector track the face through the frames of a clip, and count what it finds."""
    finder = FaceFinder(cfg)
    for (picture, warp), truth in zip(changed, truths, strict=True):
        started = time.process_time()
        found = finder.find(picture)
        tally.cpu_s += time.process_time() - started
        tally.n += 1
        sure = found is not None and found.weight >= cfg.min_weight
        tally.found += sure
        if truth is not None:
            tally.overlaps.append(overlap(found.box, moved(truth, warp)) if found is not None and sure else 0.0)


def moved(box: Box, warp: np.ndarray) -> Box:
    """Return an upright box of the same face after a change: the centre is moved, the side scaled."""
    x, y, width, height = box
    centre = warp @ np.array([x + width / 2, y + height / 2, 1.0])
    scale = float(np.sqrt(abs(np.linalg.det(warp[:, :2]))))
    left, top = centre - scale * np.array([width, height]) / 2
    return round(left), round(top), round(scale * width), round(scale * height)


if __name__ == "__main__":
    main(sys.argv[1:])
