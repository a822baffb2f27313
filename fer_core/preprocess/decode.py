"""Decoding: a video file -> grey frames in order. A frame that cannot be decoded keeps its place.

We open the file and pass its bytes on: FFmpeg gets no path, name or address (see `container`). Frames are counted by
decoding, never by the header (see `frame_count`). Each clip is decoded with one thread: clips run in parallel, and an
error must affect the same frame in every run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Protocol

import av
import numpy as np

from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.beat import MINUTE, no_beat
from fer_core.preprocess.container import decode, open_video, packets, promised_duration, shows_every_packet
from fer_core.preprocess.frame_count import Census, Report
from fer_core.preprocess.gray import (
    HLG,
    MAX_STRETCH,
    PQ,
    check_pixels,
    display_matrix,
    gray,
    right_angled,
    square_pixels,
    upright,
)


@dataclass(frozen=True)
class Frame:
    """One place in the sequence of a clip's frames.

    Args:
        index: place, counted from 0 by decoding.
        time_s: seconds from the start; NaN where the file has no time.
        picture: (height, width) uint8 grey, upright, square pixels; None where it was not requested or not decoded.
        lost: True if the data of this place could not be decoded.
    """

    index: int
    time_s: float
    picture: np.ndarray | None
    lost: bool = False


class Media(Protocol):
    """A clip that can be read: a video file or a folder of frames."""

    n_expected: int  # number of frames that the container states; the decoded number counts
    fps: float  # frames per second by the numbers of the container; 0 if it states no duration
    digest: str

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """Yield every place in order; may be called again.

        Args:
            wanted: True for the places whose pictures are needed.
        """
        ...

    def report(self) -> Report:
        """Return the report of the last complete pass over `frames`."""
        ...


class VideoFile:
    """A video in an open file.

    Args:
        file: binary, seekable; must stay open as long as this object is used.
        digest: content digest of the file.
        limits: largest frame and longest clip.
        beat: called after every `MINUTE` decoded frames.

    Raises:
        ClipError: the file is unsupported, damaged or too_large; raised here or while iterating over `frames`.
    """

    def __init__(
        self, file: BufferedReader, digest: str, limits: LimitsConfig, beat: Callable[[], None] = no_beat
    ) -> None:
        self.digest = digest
        self.n_expected = 0
        self._file = file
        self._limits = limits
        self._beat = beat
        self._lost: list[int] = []
        self._report: Report | None = None
        with open_video(file, limits) as (container, stream):
            self._promised_s = promised_duration(container, stream)
            self._shows_every_packet = shows_every_packet(container, stream)
            for packet in packets(container, stream):
                self.n_expected += packet.size > 0 and not packet.is_discard
                self._check_length(self.n_expected)
        self.fps = self.n_expected / self._promised_s if self._promised_s > 0 else 0.0

    def frames(
        self, wanted: Callable[[int], bool], convert: Callable[[av.VideoFrame], np.ndarray] = gray
    ) -> Iterator[Frame]:
        """Yield every place in order, see `Media`; lost places that an earlier pass found are inserted by time.

        Args:
            wanted: True for the places whose pictures are needed.
            convert: makes the picture from a decoded frame.
        Raises:
            ClipError: damaged or too_large.
        """
        lost = iter(self._lost)
        next_lost = next(lost, None)
        index = 0
        with open_video(self._file, self._limits) as (container, stream):
            census = Census(float(stream.time_base or 0), self._shows_every_packet)
            aspect = self._aspect(stream, census)
            matrix, rotation = None, None
            for frame in self._decoded(container, stream, census):
                while next_lost is not None and next_lost <= index:
                    yield Frame(index, math.nan, None, lost=True)
                    index, next_lost = index + 1, next(lost, None)
                if frame.rotation != rotation:  # compared first, since reading the matrix delays freeing the frame
                    matrix, rotation = display_matrix(frame), frame.rotation
                if census.size == (0, 0):
                    census.size = _upright_size(frame, aspect, matrix)
                census.flags |= _frame_flags(frame, matrix)
                picture = None
                if wanted(index):
                    picture = convert(frame)
                    if aspect != 1:
                        picture = square_pixels(picture, aspect, self._limits.max_pixels)
                    picture = upright(picture, matrix)
                yield Frame(index, _seconds(census.stamps, stream), picture)
                index += 1
            while next_lost is not None:
                yield Frame(index, math.nan, None, lost=True)
                index, next_lost = index + 1, next(lost, None)
            rate = float(stream.average_rate or 0)
        self._report, self._lost = census.settle(self.n_expected, self._promised_s, rate)

    def report(self) -> Report:
        if self._report is None:
            raise RuntimeError("report() needs a finished run over frames()")
        return self._report

    def _decoded(
        self, container: av.container.InputContainer, stream: av.VideoStream, census: Census
    ) -> Iterator[av.VideoFrame]:
        """Yield the decoded frames and count them; a packet that cannot be decoded is counted and skipped."""
        for packet in packets(container, stream):
            frames = decode(stream, packet)
            census.packet(packet, decoded=frames is not None)
            for frame in frames or ():
                check_pixels(frame.width, frame.height, self._limits.max_pixels)
                census.frame(frame, stream.codec_context.name)
                self._check_length(len(census.stamps))
                if len(census.stamps) % MINUTE == 0:
                    self._beat()
                yield frame

    def _aspect(self, stream: av.VideoStream, census: Census) -> float:
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        if not 1 / MAX_STRETCH <= aspect <= MAX_STRETCH:
            census.flags.add("odd_aspect")
            return 1.0
        return aspect

    def _check_length(self, n: int) -> None:
        if n > self._limits.max_frames:
            raise ClipError(
                ClipStatus.TOO_LARGE,
                f"more than {self._limits.max_frames} frames (limits.max_frames); cut it into clips first",
            )


def _seconds(stamps: list[int | None], stream: av.VideoStream) -> float:
    first, now = stamps[0], stamps[-1]
    if first is None or now is None or stream.time_base is None:
        return math.nan
    start = first if stream.start_time is None else min(first, stream.start_time)
    return float((now - start) * stream.time_base)


def _upright_size(frame: av.VideoFrame, aspect: float, matrix: tuple[int, int, int, int] | None) -> tuple[int, int]:
    width = round(frame.width * max(aspect, 1.0))
    height = round(frame.height / min(aspect, 1.0))
    turned = matrix is not None and right_angled(matrix) and abs(matrix[0]) < abs(matrix[1])
    return (height, width) if turned else (width, height)


def _frame_flags(frame: av.VideoFrame, matrix: tuple[int, int, int, int] | None) -> set[str]:
    flags = set()
    if frame.color_trc in (PQ, HLG):
        flags |= {"hdr", "low_quality"}
    if matrix is not None and not right_angled(matrix):
        flags |= {"slanted", "low_quality"}
    return flags
