from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fer_core.config import LimitsConfig
from fer_core.scoring.scorer import ClipScorer
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video
from tests.saved_models import small_bundle

LIMITS = LimitsConfig(workers=1, timeout_s=60)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def store_root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def scorer(bundle, store_root) -> ClipScorer:
    """Keeps faces and features between tests."""
    return ClipScorer(bundle, limits=LIMITS, store_root=store_root, name="face-emotion", version="3")


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """A folder as users have them: good clips, a frame folder, bad files, junk."""
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "good.mp4", face_frames(12))
    write_video(root / "half.mp4", plain_frames(8) + face_frames(3) + plain_frames(5))
    write_video(root / "one.mp4", face_frames(1))
    write_video(root / "plain.mp4", plain_frames(6))
    write_folder(root / "frames", face_frames(6))
    (root / "b").mkdir()
    shutil.copy(root / "good.mp4", root / "b" / "good.mp4")
    (root / "empty.mp4").touch()
    (root / "page.mp4").write_text("<html><body>no video</body></html>")
    (root / ".hidden.mp4").touch()
    (root / "notes.txt").touch()
    return root
