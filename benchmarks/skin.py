"""Skin and light: how often a drawn face is found, and a clip is taken to lie on its side, by skin tone and by light.

`python -m benchmarks.skin [SUBJECTS]` draws the same people in six skin tones and three lights; nothing else differs.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from benchmarks.apex import Played
from benchmarks.faces import holds
from benchmarks.front_end import ALL
from fer_core.clips.synthetic import draw_clip, draw_landmarks
from fer_core.emotions import SIX
from fer_core.preprocess.pipeline import faces_of

SUBJECTS, SEED = 6, 1
TONES = ((238, 200, 182), (226, 180, 152), (205, 156, 124), (172, 120, 88), (132, 88, 64), (98, 65, 48))
LIGHTS = {"full light": 1.0, "a quarter": 0.25, "an eighth": 0.125}


def main(subjects: int = SUBJECTS) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print(
        "Drawn faces, in which skin and light differ and nothing else; no number here is of people. Frames with a face"
    )
    print("whose box holds both eyes and the mouth; in brackets, the share of all clips taken to lie on their side:\n")
    print(f"| skin, sRGB | {' | '.join(LIGHTS)} |\n| --- |{' --- |' * len(LIGHTS)}")
    for skin in TONES:
        cells = [found(subjects, skin, light) for light in LIGHTS.values()]
        print(f"| {skin} | {' | '.join(f'{share:.1%} ({turned:.0%})' for share, turned in cells)} |", flush=True)


def found(subjects: int, skin: tuple[int, int, int], light: float) -> tuple[float, float]:
    """Return the share of frames in which the face is found, and the share of clips that were turned."""
    n_found = n_frames = n_turned = 0
    for subject in range(subjects):
        emotion = SIX[subject % len(SIX)]
        drawn = draw_clip(SEED, subject, emotion, skin, light)
        faces, _ = faces_of(Played([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in drawn]), -1, ALL)
        n_frames += faces.n_selected
        if "turned" in faces.flags:
            n_turned += 1
        else:
            n_found += int(np.sum(holds(faces.ledger, draw_landmarks(SEED, subject, emotion))))
    return n_found / n_frames, n_turned / subjects


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
