"""Faces: how often either mode finds one, by class, whether it holds eyes and mouth, how far both agree, the cost.

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
from fer_core.clips.synthetic import draw_landmarks, synthesize
from fer_core.config import FaceConfig, LimitsConfig
from fer_core.preprocess.faces import FrameStatus, Ledger
from fer_core.preprocess.pipeline import preprocess

SUBJECTS, SEED = 6, 0
MODES = {mode: ALL.model_copy(update={"face": FaceConfig(mode=mode)}) for mode in ("per_frame", "tracked")}


def main(manifest: str | None = None) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clips = read_manifest(Path(manifest)) if manifest else synthesize(Path(folder) / "faces", SUBJECTS, seed=SEED)
        print_found(clips, drawn=not manifest)


def print_found(clips: Manifest, drawn: bool) -> None:
    frames: Counter[str] = Counter()
    found: Counter[tuple[str, str]] = Counter()
    cpu_s: Counter[str] = Counter()
    agreed = []
    around: dict[str, list[bool]] = {mode: [] for mode in MODES}
    for clip in clips.clips:
        made = {}
        for mode, config in MODES.items():
            started = time.process_time()
            made[mode] = preprocess(clip, config, LimitsConfig())
            cpu_s[mode] += time.process_time() - started
            found[str(clip.emotion), mode] += made[mode].n_used
            if drawn and clip.emotion:
                truth = draw_landmarks(SEED, int(clip.subject.rpartition("s")[2]), clip.emotion)
                around[mode] += holds(made[mode].ledger, truth)
        frames[str(clip.emotion)] += made["tracked"].n_selected
        if all(faces.n_used for faces in made.values()):
            agreed.append(agreement(made))
    print(f"| {len(clips)} clips | frames | {' | '.join(MODES)} |\n| --- | --- | --- | --- |")
    for emotion in clips.class_counts():
        if n := frames[emotion]:
            print(f"| {emotion} | {n} | {' | '.join(f'{found[emotion, mode] / n:.1%}' for mode in MODES)} |")
    each = " | ".join(f"{1e3 * cpu_s[mode] / frames.total():.1f}" for mode in MODES)
    if drawn:
        print(f"| eyes and mouth in the box | | {' | '.join(f'{np.mean(around[mode]):.1%}' for mode in MODES)} |")
    print(f"| CPU ms a frame | | {each} |\n\nBoxes of both modes agree at IoU {np.mean(agreed):.3f}.")


def holds(ledger: Ledger, truth: np.ndarray, status: FrameStatus = FrameStatus.USED) -> list[bool]:
    """Return for each box of frames with a status whether it contains all landmarks of its frame.

    Args:
        ledger: n frames.
        truth: (n, 3, 2) landmarks by frame.
    """
    chosen = np.array([found is status for found in ledger.status])
    box, points = ledger.box[chosen][:, None], truth[ledger.frame[chosen]]
    inside = (points >= box[..., :2]) & (points <= box[..., :2] + box[..., 2:])
    return list(inside.all(axis=(1, 2)))


if __name__ == "__main__":
    main(*sys.argv[1:2])
