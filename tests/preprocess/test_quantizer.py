"""Strong compression is a flag of the clip, whether the file is compressed or `--stress` compresses it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from fer_core.config import LimitsConfig
from fer_core.preprocess.changes import Changed
from fer_core.preprocess.flags import FLAGS
from fer_core.preprocess.pipeline import open_media
from fer_core.preprocess.quantizer import FLAG, is_strong
from tests.preprocess.films import face_frames


def film(path: Path, codec: str, **options: str) -> Path:
    frames = face_frames(8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            grey = picture if picture.ndim == 2 else picture.mean(axis=2).astype(np.uint8)
            grey = np.ascontiguousarray(grey[: stream.height, : stream.width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray")))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "options", "strong"),
    [("libx264", {"crf": "23"}, False), ("libx264", {"crf": "38"}, True), ("mpeg4", {"qmin": "31"}, False)],
    ids=["x264's default", "crf 38", "another codec's scale"],
)
def test_a_strongly_compressed_file_is_flagged(tmp_path, codec, options, strong):
    with open_media(film(tmp_path / "film.mp4", codec, **options), LimitsConfig()) as media:
        assert sum(frame.picture is not None for frame in media.frames(lambda index: True)) == 8
        assert (FLAG in media.report().flags) == strong and FLAG in FLAGS


def test_a_copy_compressed_for_the_stress_test_is_flagged_and_no_other_copy(tmp_path):
    with open_media(film(tmp_path / "film.mp4", "libx264", crf="20"), LimitsConfig()) as media:
        for change in ("compressed", "half_size"):
            changed = Changed(media, change)
            list(changed.frames(lambda index: index == 3))
            assert (FLAG in changed.report().flags) == (change == "compressed")


def test_without_a_known_quantizer_nothing_is_strong():
    assert not is_strong([]) and is_strong([33, 35, 36]) and not is_strong([30, 33, 51])
