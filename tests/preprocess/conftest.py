from __future__ import annotations

from pathlib import Path

import pytest

from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.preprocess.faces import Faces
from fer_core.preprocess.pipeline import preprocess
from fer_core.preprocess.store import FacesStore
from tests.preprocess.films import face_frames, write_video

CONFIG = PreprocessConfig()
LIMITS = LimitsConfig(timeout_s=60, workers=2)


def faces_of(
    path: Path, cfg: PreprocessConfig = CONFIG, limits: LimitsConfig = LIMITS, apex: int | None = None
) -> Faces:
    """The faces of a file, made in this process."""
    return preprocess(Clip(id=path.stem, path=path, apex=apex), cfg, limits)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound h264 mp4 of 20 frames with a face in each."""
    return write_video(tmp_path_factory.mktemp("film") / "face.mp4", face_frames(20))


@pytest.fixture
def store(tmp_path: Path) -> FacesStore:
    return FacesStore(tmp_path / "store")
