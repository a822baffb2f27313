"""The smallest real videos and frames: a few grey rectangles, encoded once per container and copied."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

CONTAINERS = {
    ".mp4": ("mp4", "libx264"),
    ".avi": ("avi", "mpeg4"),
    ".flv": ("flv", "flv1"),
    ".mkv": ("matroska", "libx264"),
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@cache
def video_bytes(suffix: str, n_frames: int = 4) -> bytes:
    container, codec = CONTAINERS[suffix]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(n_frames):
            picture = np.full((32, 32), 40 * i % 256, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        out.mux(stream.encode())
    return file.getvalue()


@cache
def image_bytes(suffix: str, shade: int = 0) -> bytes:
    return cv2.imencode(suffix, np.full((8, 8), shade, np.uint8))[1].tobytes()


def put(path: Path, data: bytes | str = b"") -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_video(path: Path, n_frames: int = 4) -> Path:
    return put(path, video_bytes(path.suffix, n_frames))


def put_frames(folder: Path, names: Iterable[str]) -> Path:
    """A folder of real images, each a little brighter than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for shade, name in enumerate(names):
        (folder / name).write_bytes(image_bytes(Path(name).suffix, shade * 8 % 256))
    return folder
