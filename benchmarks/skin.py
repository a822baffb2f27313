"""Skin and light: how often a drawn face is found, and a clip is taken to lie on its side, by skin tone and by light.

`python -m benchmarks.skin [SUBJECTS]` draws the same people in six skin tones and three lights; nothing else differs.
Each clip is read by Viola-Jones without and with the landmark network, which rejects boxes without a face, and by
BlazeFace.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from benchmarks.apex import Played
from benchmarks.faces import holds
from benchmarks.front_end import ALL
from fer_core.clips.synthetic import draw_clip, draw_landmarks
from fer_core.config import FaceConfig
from fer_core.emotions import SIX
from fer_core.preprocess.faces import FrameStatus
from fer_core.preprocess.pipeline import faces_of

SUBJECTS, SEED = 6, 1
READ = {
    name: ALL.model_copy(update={"face": face})
    for name, face in (
        ("viola_jones", FaceConfig(landmarks="no")),
        ("with landmarks", FaceConfig(landmarks="yes")),
        ("blazeface", FaceConfig(detector="blazeface", landmarks="no")),
    )
}
TONES = ((238, 200, 182), (226, 180, 152), (205, 156, 124), (172, 120, 88), (132, 88, 64), (98, 65, 48))
LIGHTS = {"full light": 1.0, "a quarter": 0.25, "an eighth": 0.125}


def main(subjects: int = SUBJECTS) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print(
        "Drawn faces, in which skin and light differ and nothing else; no number here is of people. Frames with a face"
    )
    print(f"whose box holds both eyes and the mouth: {', '.join(READ)}; in brackets, the number of boxes that hold")
    print("them and have a presence below the threshold, and of clips taken to lie on their side:\n")
    print(f"| skin, sRGB | {' | '.join(LIGHTS)} |\n| --- |{' --- |' * len(LIGHTS)}")
    for skin in TONES:
        cells = [cell(subjects, skin, light) for light in LIGHTS.values()]
        print(f"| {skin} | {' | '.join(cells)} |", flush=True)


def cell(subjects: int, skin: tuple[int, int, int], light: float) -> str:
    """Return the shares of frames in which the face is found, and the numbers of rejected faces and turned clips."""
    n_found, n_frames, n_rejected, n_turned = dict.fromkeys(READ, 0), 0, 0, 0
    for subject in range(subjects):
        emotion = SIX[subject % len(SIX)]
        drawn = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in draw_clip(SEED, subject, emotion, skin, light)]
        truth = draw_landmarks(SEED, subject, emotion)
        for name, cfg in READ.items():
            faces, _ = faces_of(Played(drawn), -1, cfg)
            n_turned += "turned" in faces.flags
            if "turned" not in faces.flags:
                n_found[name] += int(np.sum(holds(faces.ledger, truth)))
                n_rejected += int(np.sum(holds(faces.ledger, truth, FrameStatus.NOT_A_FACE)))
        n_frames += faces.n_selected
    shares = ", ".join(f"{n / n_frames:.1%}" for n in n_found.values())
    return f"{shares} ({n_rejected}; {n_turned})"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
