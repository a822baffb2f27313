"""Open a video file so that only its own bytes are read, and only with formats and codecs of an allow-list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import BinaryIO

import av

from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.gray import check_pixels
from fer_core.preprocess.quantizer import DECODER_OPTIONS

FORMATS = "mov,mp4,matroska,webm,avi,flv,asf,mpeg,mpegts,mpegvideo,h264,hevc,m4v,ogg,dv,mjpeg,ivf,obu"
CODECS = (
    *("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "mpeg1video", "mpeg2video"),
    *("h263", "flv1", "vp6", "vp6f", "wmv1", "wmv2", "wmv3", "vc1", "theora", "mjpeg", "dvvideo", "rawvideo"),
    *("huffyuv", "ffvhuff", "ffv1", "prores", "dnxhd"),
)

# First bytes of accepted containers. A file that cannot be opened but has them near its start is a damaged video.
_SIGNATURES = (b"ftyp", b"moov", b"\x1aE\xdf\xa3", b"AVI LIST", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"OggS")
_HEAD = 1 << 16
TO_VIDEO = "convert it: ffmpeg -i IN -c:v libx264 -pix_fmt yuv420p OUT.mp4"
TO_FRAMES = "make it a folder of frames: magick IN -coalesce OUT/%05d.png"  # FFmpeg does not decode all of these
# Unsupported formats: pattern of the first bytes, name, remedy.
_KNOWN = (
    (re.compile(rb"GIF8"), "a GIF picture", TO_VIDEO),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "a WebP picture", TO_FRAMES),
    (re.compile(rb".{4}ftyp(?:hei|hev|mif1|msf1|avi[fs])", re.DOTALL), "a HEIF or AVIF picture", TO_FRAMES),
    (re.compile(rb"\x89PNG.{29,4096}acTL", re.DOTALL), "an animated PNG picture", TO_FRAMES),
    (re.compile(rb"\x06\x0e\x2b\x34"), "an MXF video", TO_VIDEO),
    (re.compile(rb"[.]RMF"), "a RealMedia video", TO_VIDEO),
    (re.compile(rb"YUV4MPEG2"), "a YUV4MPEG video", TO_VIDEO),
)


_PICTURES = (
    av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails | av.stream.Disposition.still_image
)


class _Refused(PermissionError):
    pass


class _Nameless:
    """An open file without its name, so that FFmpeg judges the content alone."""

    def __init__(self, file: BufferedReader) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _refuse(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    raise _Refused(url)


@contextmanager
def open_video(
    file: BufferedReader, limits: LimitsConfig
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open the container in a file, with its main video stream ready to decode.

    Of several video streams, those with more than one picture come first, then the default stream, then the one with
    the most pictures. Cover pictures do not count as video.

    Raises:
        ClipError: the file is unsupported, damaged or too_large.
    """
    with _open(file, limits) as container:
        streams = _video_streams(file, container)
        counts = {} if len(streams) == 1 else _packet_counts(file, limits)
        stream = max(streams, key=lambda s: (counts.get(s.index, 0) > 1, _is_default(s), counts.get(s.index, 0)))
        _check_codec(stream)
        context = stream.codec_context
        check_pixels(context.width, context.height, limits.max_pixels)
        context.options = {"max_pixels": str(limits.max_pixels), **DECODER_OPTIONS}
        context.thread_count = 1
        context.thread_type = "NONE"
        yield container, stream


def _open(file: BufferedReader, limits: LimitsConfig) -> av.container.InputContainer:
    file.seek(0)
    max_pixels = {"max_pixels": str(limits.max_pixels)}
    try:
        container = av.open(
            _Nameless(file),
            metadata_errors="replace",
            io_open=_refuse,
            options={"format_whitelist": FORMATS, "protocol_whitelist": "none", **max_pixels},
        )
    except MemoryError as exc:
        raise _too_much() from exc
    except (av.FFmpegError, ValueError, _Refused) as exc:
        raise _not_opened(file, exc) from exc
    assert isinstance(container, av.container.InputContainer)
    return container


def packets(container: av.container.InputContainer, *streams: av.VideoStream) -> Iterator[av.Packet]:
    """Yield the packets of the streams, then the empty ones that flush the decoders.

    Where the container is broken, the packets end early, with an empty packet.

    Raises:
        ClipError: the file needs too much memory (too_large) or is encrypted (unsupported).
    """
    try:
        for i, packet in enumerate(container.demux(*streams)):
            if i == 0 and packet.has_sidedata("encryption_info"):
                raise ClipError(ClipStatus.UNSUPPORTED, "it is encrypted; export it without protection")
            yield packet
    except MemoryError as exc:
        raise _too_much() from exc
    except (av.FFmpegError, _Refused):
        yield av.Packet()


def decode(stream: av.VideoStream, packet: av.Packet) -> list[av.VideoFrame] | None:
    """Return the frames that a packet completes; None if it cannot be decoded.

    Raises:
        ClipError: decoding needs too much memory (too_large).
    """
    try:
        return stream.codec_context.decode(packet)
    except MemoryError as exc:
        raise _too_much() from exc
    except av.error.EOFError:
        return []
    except av.FFmpegError:
        return None


def shows_every_packet(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Return True if each packet with a time stamp must produce one frame with that time stamp.

    This does not hold where packets contain hidden frames (VP8), repeat other frames (MPEG-4 in AVI), or contain half
    frames. There, a packet without a frame is no error.
    """
    own_times = container.format.name.split(",")[0] in ("mov", "matroska")
    return own_times and stream.codec_context.codec.canonical_name in ("h264", "hevc", "av1", "mjpeg", "ffv1", "prores")


def promised_duration(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Return the duration of the video in seconds, as the container states it; 0 if it states none."""
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


def _too_much() -> ClipError:
    return ClipError(ClipStatus.TOO_LARGE, "decoding it needs more memory than a clip may use (limits.memory_mb)")


def _not_opened(file: BufferedReader, exc: Exception) -> ClipError:
    file.seek(0)
    head = file.read(_HEAD)
    for signature, what, remedy in _KNOWN:
        if signature.match(head):
            return ClipError(ClipStatus.UNSUPPORTED, f"it is {what}, which is not read; {remedy}")
    if isinstance(exc, av.error.ArgumentError | _Refused) or not any(sign in head for sign in _SIGNATURES):
        return ClipError(
            ClipStatus.UNSUPPORTED,
            f"its content is no video of a known kind; known are {FORMATS}. If a player shows it, {TO_VIDEO}",
        )
    reason = (getattr(exc, "strerror", None) or str(exc)).rstrip(".")
    return ClipError(ClipStatus.DAMAGED, f"its container cannot be read ({reason}); copy or export it again")


def _video_streams(file: BufferedReader, container: av.container.InputContainer) -> list[av.VideoStream]:
    if not container.streams:
        raise _not_opened(file, ValueError("it holds no streams"))
    streams = [s for s in container.streams.video if not s.disposition & _PICTURES]
    if not streams:
        others = ", ".join(sorted({s.type for s in container.streams} - {"video"})) or "a picture"
        raise ClipError(ClipStatus.UNSUPPORTED, f"there is no video in it, only {others}")
    return streams


def _packet_counts(file: BufferedReader, limits: LimitsConfig) -> Counter[int]:
    """Return the number of pictures by stream index, counted in the file: not every header states it."""
    counts: Counter[int] = Counter()
    with _open(file, limits) as container:
        found = packets(container, *container.streams.video)
        counts.update(packet.stream_index for packet in found if packet.size)
    return counts


def _is_default(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def _check_codec(stream: av.VideoStream) -> None:
    context = stream.codec_context
    name = None if context is None else context.codec.canonical_name
    if name not in CODECS:
        codec = "an unknown codec" if name is None else f"codec '{name}'"
        raise ClipError(ClipStatus.UNSUPPORTED, f"{codec} is not among the accepted; {TO_VIDEO}")
