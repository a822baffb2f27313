"""Faces whose bytes are written down: who changes them must raise PREPROCESS_VERSION and write down the new ones."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import numpy as np
import pytest

from fer_core.config import FaceConfig, PreprocessConfig
from fer_core.preprocess.store import PREPROCESS_VERSION
from tests.preprocess.conftest import faces_of
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video

GOLDEN_VERSION = 4
GOLDEN = {
    "per_frame": "780c51deb3dac2ed",
    "tracked": "a9cd28acb64215ce",
    "limited_range": "dc93ed1be0a254ac",
    "lying": "780c51deb3dac2ed",
}


def film(case: str, folder: Path) -> Path:
    frames = face_frames(12, 240, 320)
    if case == "limited_range":
        return write_video(folder / "film.mkv", frames, codec="ffv1", pix_fmt="yuv420p")
    if case == "lying":
        frames = [np.rot90(frame) for frame in frames]
    return write_folder(folder / "film", [*plain_frames(4), *frames])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the last bits of OpenCV's arithmetic are another CPU's own")
@pytest.mark.parametrize("case", GOLDEN)
def test_faces_are_those_of_this_version(case: str, tmp_path: Path) -> None:
    mode = "tracked" if case == "tracked" else "per_frame"
    faces = faces_of(film(case, tmp_path), PreprocessConfig(face=FaceConfig(mode=mode)))
    seen = hashlib.blake2b(faces.pixels.tobytes() + faces.ledger.box.tobytes(), digest_size=8).hexdigest()
    assert faces.n_used > 0
    assert (PREPROCESS_VERSION, seen) == (GOLDEN_VERSION, GOLDEN[case]), "see the docstring of this module"
