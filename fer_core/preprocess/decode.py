"""Decoding: a video file -> grey frames in order, every place kept, whatever the file holds.

The file is opened by us and handed over as bytes: no path, name or address reaches FFmpeg (see `container`). Frames are
counted by decoding, never by the header (see `census`). One thread: clips run side by side, and an error must strike
the same frame each time.
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
    """One place in a clip.

    Args:
        index: 0-based place, counted by decoding.
        time_s: seconds from the start; NaN where the file does not say.
        picture: (height, width) uint8 grey, upright, square pixels; None where nothing was asked for or decoded.
        lost: whether this place holds data that did not decode.
    """

    index: int
    time_s: float
    picture: np.ndarray | None
    lost: bool = False


class Media(Protocol):
    """A clip being read: a video file, or a folder of frames."""

    n_expected: int  # places the container promises; the decoded count decides
    digest: str

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """Every place in order; pictures only of the selected ones. May be run again."""
        ...

    def report(self) -> Report:
        """Report of the finished run over `frames`."""
        ...


class VideoFile:
    """A video in an open file.

    Args:
        file: binary, seekable; stays open for as long as this object is used.
        digest: content identity of the file.
        limits: largest frame and longest clip.
        beat: called after each `MINUTE` of decoded frames.

    Raises:
        ClipError: unsupported, damaged or too_large; found while opening or while running over `frames`.
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

    def frames(
        self, wanted: Callable[[int], bool], convert: Callable[[av.VideoFrame], np.ndarray] = gray
    ) -> Iterator[Frame]:
        """Every place in order, see `Media`; a place found lost in an earlier run is in its order of time.

        Args:
            convert: what makes a picture of a decoded frame.
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
                if frame.rotation != rotation:  # asked first: a frame whose matrix was read is freed late
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
        """Decoded frames, counted; a packet that fails is left out, the next one is tried."""
        for packet in packets(container, stream):
            frames = decode(stream, packet)
            census.packet(packet, decoded=frames is not None)
            for frame in frames or ():
                check_pixels(frame.width, frame.height, self._limits.max_pixels)
                census.frame(frame)
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
