"""Skin and light: how often a drawn face is found, and a clip is taken to lie on its side, by skin tone and by light.

`python -m benchmarks.skin [SUBJECTS]` draws the same people in six skin tones and three lights; nothing else differs.
Each clip is read without and with the landmark network, which rejects boxes without a face.
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
READ = {found: ALL.model_copy(update={"face": FaceConfig(landmarks=found)}) for found in ("no", "yes")}  # type: ignore[arg-type]
TONES = ((238, 200, 182), (226, 180, 152), (205, 156, 124), (172, 120, 88), (132, 88, 64), (98, 65, 48))
LIGHTS = {"full light": 1.0, "a quarter": 0.25, "an eighth": 0.125}


def main(subjects: int = SUBJECTS) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print(
        "Drawn faces, in which skin and light differ and nothing else; no number here is of people. Frames with a face"
    )
    print("whose box holds both eyes and the mouth, without -> with the landmark network; in brackets, the number of")
    print("boxes that hold them and have a presence below the threshold, and of clips taken to lie on their side:\n")
    print(f"| skin, sRGB | {' | '.join(LIGHTS)} |\n| --- |{' --- |' * len(LIGHTS)}")
    for skin in TONES:
        cells = [cell(subjects, skin, light) for light in LIGHTS.values()]
        print(f"| {skin} | {' | '.join(cells)} |", flush=True)


def cell(subjects: int, skin: tuple[int, int, int], light: float) -> str:
    """Return the shares of frames in which the face is found, and the numbers of rejected faces and turned clips."""
    n_found, n_frames, n_rejected, n_turned = {"no": 0, "yes": 0}, 0, 0, {"no": 0, "yes": 0}
    for subject in range(subjects):
        emotion = SIX[subject % len(SIX)]
        drawn = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in draw_clip(SEED, subject, emotion, skin, light)]
        truth = draw_landmarks(SEED, subject, emotion)
        for landmarks, cfg in READ.items():
            faces, _ = faces_of(Played(drawn), -1, cfg)
            n_turned[landmarks] += "turned" in faces.flags
            if "turned" not in faces.flags:
                n_found[landmarks] += int(np.sum(holds(faces.ledger, truth)))
                n_rejected += int(np.sum(holds(faces.ledger, truth, FrameStatus.NOT_A_FACE)))
        n_frames += faces.n_selected
    shares = " -> ".join(f"{n_found[landmarks] / n_frames:.1%}" for landmarks in READ)
    return f"{shares} ({n_rejected}; {n_turned['no']} -> {n_turned['yes']})"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
