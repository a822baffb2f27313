"""Print verdicts on a webcam until Ctrl-C: python examples/stream_a_webcam.py [CAMERA-NUMBER or FILM]"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import cv2
import numpy as np

from ferflow import Scorer


def frames_of(camera: int | str) -> Iterator[np.ndarray]:
    """Yield the frames of a camera, (height, width, 3) RGB."""
    capture = cv2.VideoCapture(camera)
    try:
        while True:
            there, frame = capture.read()
            if not there:
                return
            yield frame[..., ::-1]  # OpenCV gives blue first
    finally:
        capture.release()


def main(camera: int | str = 0) -> None:
    """Print a line for every five frames, over the last 25."""
    scorer = Scorer.champion()
    for verdict in scorer.stream(frames_of(camera), window=25, step=5):
        print(f"{verdict.clip}: {verdict.emotion or verdict.status}, {verdict.confidence:.0%}", flush=True)


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 else "0"
    main(int(given) if given.isdigit() else given)
