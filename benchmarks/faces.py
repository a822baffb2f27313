"""Faces: how often either mode of the detector finds one, by class, how far the boxes agree, and what a frame costs.

`python -m benchmarks.faces [MANIFEST]` looks at every frame of the clips of a manifest, or of drawn ones.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from benchmarks.front_end import ALL, agreement
from fer_core.clips.manifest import Manifest, read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import FaceConfig, LimitsConfig
from fer_core.preprocess.pipeline import preprocess

SUBJECTS = 6
MODES = {mode: ALL.model_copy(update={"face": FaceConfig(mode=mode)}) for mode in ("per_frame", "tracked")}


def main(manifest: str | None = None) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = read_manifest(Path(manifest)) if manifest else synthesize(Path(folder) / "faces", SUBJECTS, seed=0)
        print_found(clips)


def print_found(clips: Manifest) -> None:
    frames: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    cpu_s: Counter[str] = Counter()
    agreed = []
    for clip in clips.clips:
        made = {}
        for mode, config in MODES.items():
            started = time.process_time()
            made[mode] = preprocess(clip, config, LimitsConfig())
            cpu_s[mode] += time.process_time() - started
            found[str(clip.emotion), mode] += made[mode].n_used
        frames[str(clip.emotion)] += made["tracked"].n_selected
        if all(faces.n_used for faces in made.values()):
            agreed.append(agreement(made))
    print(f"| {len(clips)} clips | frames | {' | '.join(MODES)} |\n| --- | --- | --- | --- |")
    for emotion in clips.class_counts():
        if n := frames[emotion]:
            print(f"| {emotion} | {n} | {' | '.join(f'{found[emotion, mode] / n:.1%}' for mode in MODES)} |")
    each = " | ".join(f"{1e3 * cpu_s[mode] / frames.total():.1f}" for mode in MODES)
    print(f"| CPU ms a frame | | {each} |\n\nBoxes of both modes agree at IoU {np.mean(agreed):.3f}.")


if __name__ == "__main__":
    main(*sys.argv[1:2])
