"""Videos for tests: a real face (NASA portrait, public domain, inside scikit-image) that moves, in any container."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import skimage

HEIGHT, WIDTH = 120, 160


@cache
def portrait() -> np.ndarray:
    """(160, 214) uint8 grey: a face of about 50 pixels in the middle of a room."""
    picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / "astronaut.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return cv2.resize(picture[0:240, 100:420], (214, 160), interpolation=cv2.INTER_AREA)


def face_frames(n: int, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    """n frames (height, width) of the face wandering slowly; no two alike."""
    frames = []
    for i in range(n):
        left, top = 20 + round(8 * np.sin(i / 5)), 8 + i % 5
        view = portrait()[top : top + HEIGHT, left : left + WIDTH].copy()
        view[:4, : 4 + i % 100] = 255
        frames.append(cv2.resize(view, (width, height), interpolation=cv2.INTER_LINEAR))
    return frames


def plain_frames(n: int, value: int = 90) -> list[np.ndarray]:
    """n frames without a face."""
    return [np.full((HEIGHT, WIDTH), value, np.uint8) for _ in range(n)]


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    codec: str = "libx264",
    container: str | None = None,
    pix_fmt: str = "yuv420p",
    rate: int = 25,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: float | None = None,
    aspect: Fraction | None = None,
    tags: dict[str, int] | None = None,
    input_format: str = "gray",
) -> Path:
    """Encode frames, grey (h, w) or in `input_format`, into a video file; `tags` are colour attributes of the codec."""
    tags = tags or {}
    with av.open(str(path), "w", format=container, options=container_options or {}) as out:
        stream: Any = out.add_stream(
            codec, rate=rate, options=options or {"crf": "12"} if codec == "libx264" else options or {}
        )
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=input_format)
            for name, value in tags.items():
                setattr(frame, name, value)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    if codec == "libsvtav1" and hasattr(os, "sched_setscheduler"):
        # run by root, it makes its caller a real-time thread, and with it every process that is started from there
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return path


def write_folder(folder: Path, frames: Sequence[np.ndarray], suffix: str = ".png") -> Path:
    """Write frames as numbered pictures, not padded: order must come from the number."""
    folder.mkdir(parents=True)
    for i, picture in enumerate(frames):
        encoded, data = cv2.imencode(suffix, picture)
        assert encoded
        (folder / f"img_{i}{suffix}").write_bytes(data.tobytes())
    return folder
