"""Changes of a clip that leave its expression as it is; `ferflow evaluate --stress` tests a model on them.

They are made in memory, frame by frame, from the decoded clip; nothing is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Literal

import av
import cv2
import numpy as np

from fer_core.preprocess.decode import Frame, Media
from fer_core.preprocess.frame_count import Report
from fer_core.preprocess.quantizer import DECODER_OPTIONS, FLAG, is_strong, quantizer

Change = Literal[
    "mirror", "half_size", "double_size", "moved", "every_other_frame", "turned", "darker", "lighter", "compressed"
]
DESCRIPTIONS: dict[Change, str] = {
    "mirror": "seen in a mirror",
    "half_size": "half the size",
    "double_size": "double the size",
    "moved": "moved in a larger frame",
    "every_other_frame": "every other frame",
    "turned": "turned by 8°",
    "darker": "darker, gamma 1.6",
    "lighter": "lighter, gamma 0.6",
    "compressed": "compressed, x264 at crf 38",
}
VERSION = 1  # of the changes; raise it when a change gives other frames
ANGLE, GAMMA, CRF = 8.0, {"darker": 1.6, "lighter": 0.6}, "38"
SHIFT = (0.07, 0.13)  # of height and width: rows added above, columns added on the left


def changed_digest(digest: str, change: Change) -> str:
    """Return the digest of a changed clip, 32 hex digits, from the content digest and the change."""
    return hashlib.blake2b(f"{digest} {change} {VERSION}".encode(), digest_size=16).hexdigest()


def changed_apex(apex: int, change: Change) -> int:
    """Return the apex of a changed clip, as a frame of the changed clip; -1 (unknown) stays -1."""
    return apex // 2 if change == "every_other_frame" and apex > 0 else apex


class Changed:
    """A clip to which a change is applied while it is read; see `decode.Media`."""

    def __init__(self, media: Media, change: Change) -> None:
        self._media, self._change = media, change
        self._every = 2 if change == "every_other_frame" else 1
        self.digest = changed_digest(media.digest, change)
        self.n_expected = -(-media.n_expected // self._every)
        self.fps = media.fps / self._every
        self._compressed: bytes | None = None
        self._quantizers: list[int] = []  # of the compressed copy
        self._size = (0, 0)

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        if self._change == "compressed":
            yield from self._decompressed(wanted)
            return
        for frame in self._media.frames(lambda index: index % self._every == 0 and wanted(index // self._every)):
            if frame.index % self._every:
                continue
            picture = None if frame.picture is None else np.ascontiguousarray(_picture(frame.picture, self._change))
            if picture is not None:
                self._size = picture.shape[1], picture.shape[0]
            yield replace(frame, index=frame.index // self._every, picture=picture)

    def report(self) -> Report:
        report = self._media.report()
        width, height = self._size if any(self._size) else (report.width, report.height)
        n_frames, n_lost = -(-report.n_frames // self._every), report.n_lost // self._every
        flags = report.flags | ({FLAG} if is_strong(self._quantizers) else set())
        return replace(report, n_frames=n_frames, n_lost=n_lost, width=width, height=height, flags=flags)

    def _decompressed(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """Yield the frames after compression and decoding; lost frames stay lost."""
        if self._compressed is None:
            self._compressed = _compress(self._media)
        self._quantizers = []
        pictures = _decompress(self._compressed, self._quantizers)
        for frame in self._media.frames(lambda index: False):
            picture = None if frame.lost else next(pictures, None)
            yield replace(frame, picture=picture if wanted(frame.index) else None)


def _picture(picture: np.ndarray, change: Change) -> np.ndarray:
    """Return one changed picture; `picture` is (height, width) uint8 grey."""
    height, width = picture.shape
    if change == "mirror":
        return picture[:, ::-1]
    if change == "half_size":
        return cv2.resize(picture, (max(width // 2, 1), max(height // 2, 1)), interpolation=cv2.INTER_AREA)
    if change == "double_size":
        return cv2.resize(picture, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    if change == "moved":
        down, right = round(SHIFT[0] * height), round(SHIFT[1] * width)
        return cv2.copyMakeBorder(picture, down, 0, right, 0, cv2.BORDER_REPLICATE)
    if change == "turned":
        warp = cv2.getRotationMatrix2D((width / 2, height / 2), ANGLE, 1)
        return cv2.warpAffine(picture, warp, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if change in GAMMA:
        return cv2.LUT(picture, np.round(255 * (np.arange(256) / 255) ** GAMMA[change]).astype(np.uint8))
    return picture


def _compress(media: Media) -> bytes:
    """Return the decodable frames as an mp4 file in memory."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": CRF, "threads": "1"})
        stream.pix_fmt = "yuv420p"
        size: tuple[int, int] | None = None
        for frame in media.frames(lambda index: True):
            if frame.picture is None:
                continue
            if size is None:  # yuv420p needs even sides
                size = max(frame.picture.shape[1] // 2 * 2, 2), max(frame.picture.shape[0] // 2 * 2, 2)
                stream.width, stream.height = size
            picture = frame.picture[: size[1], : size[0]]
            if picture.shape != size[::-1]:  # the frame size changed within the clip
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray")))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def _decompress(content: bytes, quantizers: list[int]) -> Iterator[np.ndarray]:
    with av.open(BytesIO(content), mode="r") as container:
        context = container.streams.video[0].codec_context
        context.options = DECODER_OPTIONS
        for frame in container.decode(video=0):
            if (found := quantizer(frame, context.name)) is not None:
                quantizers.append(found)
            yield frame.to_ndarray(format="gray")
