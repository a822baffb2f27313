"""Decoding: a video file -> grey frames in order, every place kept, whatever the file holds.

The file is opened by us and handed over as bytes: no path, name or address reaches FFmpeg, formats and codecs come
from an allow-list, and whatever a file refers to is refused. Frames are counted by decoding, never by the header. One
thread: clips run side by side, and an error must strike the same frame each time.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import pairwise
from typing import BinaryIO, Protocol

import av
import numpy as np

from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus
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

FORMATS = "mov,mp4,matroska,webm,avi,flv,asf,mpeg,mpegts,mpegvideo,h264,hevc,m4v,ogg,dv,mjpeg,ivf,obu"
CODECS = (
    *("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "msmpeg4", "msmpeg4v1", "msmpeg4v2", "mpeg1video", "mpeg2video"),
    *("h263", "flv", "vp6", "vp6f", "wmv1", "wmv2", "wmv3", "vc1", "theora", "mjpeg", "dvvideo", "rawvideo"),
    *("huffyuv", "ffvhuff", "ffv1", "prores", "dnxhd"),
)
MIN_SHARE = 0.9  # of the frames a file promises: under it a clip is damaged, over it flagged

# What our containers begin with. Found near the start of a file that cannot be opened: a damaged video, else none.
_SIGNATURES = (b"ftyp", b"moov", b"\x1aE\xdf\xa3", b"AVI LIST", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"OggS")


@dataclass(frozen=True)
class Frame:
    """One place in a clip.

    Args:
        index: 0-based place, counted by decoding.
        time_s: seconds from the first frame; NaN where the file does not say.
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
        """Every place in order; pictures only of those wanted. May be run again."""
        ...

    def report(self) -> Report:
        """What the finished run over `frames` found."""
        ...


@dataclass(frozen=True)
class Report:
    """What one whole run over a clip found.

    Args:
        n_frames: places, lost ones included.
        n_lost: places that did not decode.
        share: decoded part of what the container promises, 0 ... 1.
        duration_s: seconds; 0 where unknown.
        width, height: upright size of the first frame, pixels.
        flags: see `Faces.flags`.
    """

    n_frames: int
    n_lost: int
    share: float
    duration_s: float
    width: int
    height: int
    flags: frozenset[str]


def _refuse(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise PermissionError(f"the file refers to {url[:200]!r}, which is never opened")


class VideoFile:
    """A video in an open file.

    Args:
        file: binary, seekable; stays open for as long as this object is used.
        digest: content identity of the file.
        limits: largest frame and longest clip.

    Raises:
        ClipError: unsupported, damaged or too_large; found while opening or while running over `frames`.
    """

    def __init__(self, file: BufferedReader, digest: str, limits: LimitsConfig) -> None:
        self.digest = digest
        self._file = file
        self._limits = limits
        self._lost: list[int] = []
        self._report: Report | None = None
        with self._open() as (container, stream):
            self.n_expected = sum(packet.size > 0 for packet in _packets(container, stream))
            self._promised_s = _promised_duration(container, stream)
        self._check_length(self.n_expected)

    def frames(
        self, wanted: Callable[[int], bool], convert: Callable[[av.VideoFrame], np.ndarray] = gray
    ) -> Iterator[Frame]:
        """Every place in order, see `Media`; a place found lost in an earlier run is in its order of time.

        Args:
            convert: what makes a picture of a decoded frame.
        """
        places = iter(self._lost)
        next_lost = next(places, None)
        index = 0
        lost: list[tuple[int | None, int]] = []  # time stamp, decoded frames before it
        stamps: list[int | None] = []
        flags: set[str] = set()
        size = (0, 0)
        with self._open() as (container, stream):
            aspect = self._aspect(stream, flags)
            for frame in self._decode(container, stream, lost, stamps):
                while next_lost is not None and next_lost <= index:
                    yield Frame(index, math.nan, None, lost=True)
                    index, next_lost = index + 1, next(places, None)
                check_pixels(frame.width, frame.height, self._limits.max_pixels)
                self._check_length(index + 1)
                matrix = display_matrix(frame)
                if len(stamps) == 1:
                    size = _upright_size(frame, aspect, matrix)
                flags |= _frame_flags(frame, matrix)
                picture = None
                if wanted(index):
                    picture = convert(frame)
                    if aspect != 1:
                        picture = square_pixels(picture, aspect, self._limits.max_pixels)
                    picture = upright(picture, matrix)
                yield Frame(index, _seconds(stamps[-1], stamps[0], stream), picture)
                index += 1
            for _ in [] if next_lost is None else [next_lost, *places]:
                yield Frame(index, math.nan, None, lost=True)
                index += 1
            self._finish(stream, lost, stamps, flags, size)

    def report(self) -> Report:
        if self._report is None:
            raise RuntimeError("report() needs a finished run over frames()")
        return self._report

    @contextmanager
    def _open(self) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
        self._file.seek(0)
        try:
            container = av.open(
                _Nameless(self._file),
                metadata_errors="replace",
                io_open=_refuse,
                options={
                    "format_whitelist": FORMATS,
                    "protocol_whitelist": "none",
                    "max_pixels": str(self._limits.max_pixels),
                },
            )
        except (av.FFmpegError, ValueError, UnicodeError) as exc:
            raise self._not_opened(exc) from exc
        assert isinstance(container, av.container.InputContainer)
        with container:
            yield container, self._video_stream(container)

    def _not_opened(self, exc: Exception) -> ClipError:
        if isinstance(exc, MemoryError):
            return ClipError(ClipStatus.TOO_LARGE, "its header asks for more memory than a clip may use")
        self._file.seek(0)
        head = self._file.read(1 << 16)
        if isinstance(exc, av.error.ArgumentError) or not any(sign in head for sign in _SIGNATURES):
            return ClipError(
                ClipStatus.UNSUPPORTED,
                f"its content is no video of a known kind (it begins with {head[:8]!r}); known are {FORMATS}",
            )
        return ClipError(ClipStatus.DAMAGED, f"its container cannot be read ({_reason(exc)}); copy or export it again")

    def _video_stream(self, container: av.container.InputContainer) -> av.VideoStream:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise ClipError(ClipStatus.UNSUPPORTED, f"there is no video in it, only {kinds}")
        stream = streams[0]  # of several, the first in the file
        context = stream.codec_context
        if context is None or context.codec.canonical_name not in CODECS:
            name = "an unknown codec" if context is None else f"codec '{context.codec.canonical_name}'"
            raise ClipError(ClipStatus.UNSUPPORTED, f"{name} is not among the accepted: {', '.join(CODECS)}")
        if context.codec_tag.lower() in ("encv", "drmi"):
            raise ClipError(ClipStatus.UNSUPPORTED, "it is encrypted; export it without protection")
        check_pixels(context.width, context.height, self._limits.max_pixels)
        context.options = {"max_pixels": str(self._limits.max_pixels)}
        context.thread_count = 1
        context.thread_type = "NONE"
        return stream

    def _aspect(self, stream: av.VideoStream, flags: set[str]) -> float:
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        if not 1 / MAX_STRETCH <= aspect <= MAX_STRETCH:
            flags.add("odd_aspect")
            return 1.0
        return aspect

    def _decode(
        self,
        container: av.container.InputContainer,
        stream: av.VideoStream,
        lost: list[tuple[int | None, int]],
        stamps: list[int | None],
    ) -> Iterator[av.VideoFrame]:
        """Decoded frames; a packet that fails is noted and left out, the next one is tried."""
        for packet in _packets(container, stream):
            try:
                decoded = stream.codec_context.decode(packet)
            except MemoryError as exc:
                raise ClipError(ClipStatus.TOO_LARGE, "decoding it needs more memory than a clip may use") from exc
            except av.error.EOFError:
                continue
            except av.FFmpegError:
                lost.append((packet.pts, len(stamps)))
                continue
            for frame in decoded:
                stamps.append(frame.pts)
                yield frame

    def _finish(
        self,
        stream: av.VideoStream,
        lost: list[tuple[int | None, int]],
        stamps: list[int | None],
        flags: set[str],
        size: tuple[int, int],
    ) -> None:
        known = [stamp for stamp in stamps if stamp is not None]
        ordered = len(known) == len(stamps) and all(a < b for a, b in pairwise(known))
        places = sorted(before if stamp is None or not ordered else bisect_left(known, stamp) for stamp, before in lost)
        self._lost = [place + earlier for earlier, place in enumerate(places)]
        n = len(stamps) + len(lost)
        if not stamps:
            raise ClipError(ClipStatus.DAMAGED, f"0 of {max(self.n_expected, n)} frames decoded; needs at least 1")
        share = len(stamps) / n
        span = 0.0
        if known and not ordered:
            flags.add("odd_timestamps")
        elif len(known) > 1:
            frame_s = float((known[-1] - known[0]) * (stream.time_base or 0)) / (len(known) - 1)
            span = frame_s * len(known)
            if self._promised_s - span > 2 * frame_s:  # durations are rounded, and some count a frame too many
                share = min(share, span / self._promised_s)
        if share < MIN_SHARE:
            raise ClipError(
                ClipStatus.DAMAGED,
                f"{len(stamps)} frames decoded, {share:.0%} of what its container promises; needs {MIN_SHARE:.0%}. "
                "Copy or export it again",
            )
        if share < 1:
            flags |= {"truncated" if not lost else "decode_errors", "low_quality"}
        self._report = Report(n, len(lost), min(share, 1.0), span, *size, frozenset(flags))

    def _check_length(self, n: int) -> None:
        if n > self._limits.max_frames:
            raise ClipError(
                ClipStatus.TOO_LARGE,
                f"more than {self._limits.max_frames} frames (limits.max_frames); cut it into clips first",
            )


class _Nameless:
    """An open file without its name, which must not decide how its content is read."""

    def __init__(self, file: BufferedReader) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """Packets of a stream, the empty one that flushes the decoder last; a container broken midway ends there."""
    try:
        yield from container.demux(stream)
    except MemoryError as exc:
        raise ClipError(ClipStatus.TOO_LARGE, "reading it needs more memory than a clip may use") from exc
    except av.FFmpegError:
        yield av.Packet()


def _promised_duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Seconds of video the container promises; 0 where it says nothing of this stream."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "").split(":")  # Matroska
    if len(tag) == 3:
        try:
            return int(tag[0]) * 3600 + int(tag[1]) * 60 + float(tag[2])
        except ValueError:
            return 0.0
    if container.duration and len(container.streams) == 1:
        return container.duration / 1e6
    return 0.0


def _seconds(stamp: int | None, first: int | None, stream: av.VideoStream) -> float:
    if stamp is None or first is None or stream.time_base is None:
        return math.nan
    return float((stamp - first) * stream.time_base)


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


def _reason(exc: Exception) -> str:
    return (getattr(exc, "strerror", None) or str(exc)).rstrip(".")
