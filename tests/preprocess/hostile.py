"""Files that break decoders, made at test time: one builder a kind, named by its number in the fault catalogue.

Each says what a batch may answer. `ok` and `low_quality` are clips with faces; all else is an error of that status.
"""

from __future__ import annotations

import io
import os
import random
import socket
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

from tests.preprocess.films import HEIGHT, WIDTH, face_frames, plain_frames, write_video

FASTSTART = {"movflags": "faststart"}
SHORT_GOP = {"crf": "18", "g": "6", "bf": "0"}


@dataclass(frozen=True)
class Kind:
    """One kind of file: catalogue number, name, builder, and the answers that are right."""

    item: int
    name: str
    build: Callable[[Path], Path]
    answers: frozenset[str]

    @property
    def id(self) -> str:
        return f"item_{self.item}_{self.name}"


KINDS: list[Kind] = []


def kind(item: int, answers: str, suffix: str = ".mp4") -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Register a maker of a file's bytes."""

    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        def build(folder: Path) -> Path:
            path = folder / f"{make.__name__}{suffix}"
            path.write_bytes(make())
            return path

        KINDS.append(Kind(item, make.__name__, build, frozenset(answers.split())))
        return make

    return register


def special(item: int, answers: str) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Register a maker of something that is not just a file's bytes."""

    def register(build: Callable[[Path], Path]) -> Callable[[Path], Path]:
        KINDS.append(Kind(item, build.__name__, build, frozenset(answers.split())))
        return build

    return register


@cache
def film(suffix: str = ".mp4", n: int = 24, **details: object) -> bytes:
    """A sound clip of a face, as bytes."""
    import tempfile

    values = {k: dict(v) if isinstance(v, tuple) else v for k, v in details.items()}  # hashable for the cache
    values.setdefault("options", dict(SHORT_GOP))
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / f"film{suffix}", face_frames(n), **values).read_bytes()  # type: ignore[arg-type]


def good() -> bytes:
    return film(container_options=tuple(FASTSTART.items()))


def encode(frames: list[np.ndarray], suffix: str = ".mp4", **details: object) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / f"film{suffix}", frames, **details).read_bytes()  # type: ignore[arg-type]


# --- boxes of an mp4


def boxes(data: bytes, start: int = 0, end: int | None = None) -> list[tuple[bytes, int, int]]:
    """(type, start, size) of the boxes in data[start:end]."""
    found, end = [], len(data) if end is None else end
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        if size < 8:
            break
        found.append((name, start, size))
        start += size
    return found


def find(data: bytes, *path: bytes) -> tuple[int, int]:
    """(start, size) of a box by its path; what lies before the children of stsd, meta and dref is skipped."""
    start, end = 0, len(data)
    for name in path:
        found = [(s, n) for t, s, n in boxes(data, start, end) if t == name]
        at, size = found[0]
        start, end = at + 8 + {b"stsd": 8, b"avc1": 78, b"meta": 4}.get(name, 0), at + size
    return at, size


def insert(data: bytes, new: bytes, *path: bytes) -> bytes:
    """Put a box at the end of the box at `path`, and grow all around it."""
    out = bytearray(data)
    at, size = find(data, *path)
    out[at + size : at + size] = new
    for depth in range(1, len(path) + 1):
        start, old = find(data, *path[:depth])
        struct.pack_into(">I", out, start, old + len(new))
    return bytes(out)


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


# --- A. files: damage


@kind(1, "damaged")
def zero_bytes() -> bytes:
    return b""


@kind(2, "damaged")
def moov_missing() -> bytes:
    data = film()
    return data[: find(data, b"moov")[0]]


@kind(3, "damaged")
def faststart_cut_at_60_percent() -> bytes:
    return good()[: len(good()) * 60 // 100]


@kind(3, "low_quality")
def faststart_cut_in_its_last_frames() -> bytes:
    return good()[: len(good()) * 99 // 100]


@kind(4, "damaged")
def cut_in_the_first_frame() -> bytes:
    return good()[: find(good(), b"mdat")[0] + 200]


@kind(4, "damaged")
def cut_in_the_header() -> bytes:
    return good()[:60]


@kind(9, "damaged")
def no_frames() -> bytes:
    """An mkv with a track and no cluster."""
    data = film(".mkv")
    return data[: data.index(b"\x1f\x43\xb6\x75")]


@kind(9, "damaged", ".webm")
def webm_cut_in_half() -> bytes:
    data = film(".webm", codec="libvpx-vp9", options=())
    return data[: len(data) // 2]


@kind(3, "damaged", ".avi")
def avi_cut_in_half() -> bytes:
    data = film(".avi", codec="mpeg4", options=())
    return data[: len(data) // 2]


@kind(3, "damaged", ".mkv")
def mkv_cut_in_half() -> bytes:
    data = film(".mkv")
    return data[: len(data) // 2]


@kind(3, "damaged", ".flv")
def flv_cut_in_half() -> bytes:
    data = film(".flv", codec="flv", options=())
    return data[: len(data) // 2]


@kind(3, "damaged low_quality ok", ".ts")  # a stream promises no length
def transport_stream_cut_in_half() -> bytes:
    data = film(".ts")
    return data[: len(data) // 2]


@kind(26, "low_quality damaged")
def middle_overwritten() -> bytes:
    data = bytearray(good())
    start, size = find(good(), b"mdat")
    middle = start + size // 2
    data[middle : middle + 4096] = b"\xaa" * 4096
    return bytes(data)


@kind(26, "low_quality damaged")
def middle_zeroed() -> bytes:
    data = bytearray(good())
    start, size = find(good(), b"mdat")
    data[start + size // 2 : start + size // 2 + 4096] = bytes(4096)
    return bytes(data)


@kind(26, "low_quality damaged")
def bit_noise() -> bytes:
    data = bytearray(good())
    start, size = find(good(), b"mdat")
    rng = random.Random(0)
    for _ in range(size // 400):
        data[start + 64 + rng.randrange(size - 64)] ^= 1 << rng.randrange(8)
    return bytes(data)


@kind(26, "low_quality damaged", ".avi")
def jpegs_overwritten() -> bytes:
    data = bytearray(film(".avi", codec="mjpeg", pix_fmt="yuvj420p", options=()))
    middle = len(data) // 2
    data[middle : middle + 8000] = b"\xff" * 8000
    return bytes(data)


@kind(27, "damaged")
def first_key_frame_missing() -> bytes:
    return remux(encode(face_frames(30), options={"g": "300", "bf": "0"}), ".ts", lambda i, p: i > 0)


@kind(34, "ok")
def fragmented() -> bytes:
    return film(container_options=(("movflags", "frag_keyframe+empty_moov"),))


@kind(34, "damaged")
def fragmented_and_cut() -> bytes:
    return fragmented()[: len(fragmented()) * 60 // 100]


@kind(35, "damaged")
def junk_before() -> bytes:
    return random.Random(1).randbytes(5000) + good()


@kind(35, "ok")
def junk_after() -> bytes:
    return good() + random.Random(2).randbytes(5000)


def remux(data: bytes, suffix: str, keep: Callable[[int, av.Packet], bool]) -> bytes:
    """The packets of a video that `keep` (number, packet) keeps, or alters, in another container."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"out{suffix}"
        with av.open(io.BytesIO(data)) as source, av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for i, packet in enumerate(source.demux(video=0)):
                if packet.size and keep(i, packet):
                    packet.stream = stream
                    target.mux(packet)
        return path.read_bytes()


# --- A. files: not what their name says

NOT_VIDEO = {
    "text": b"To be, or not to be. " * 400,
    "html": b"<!doctype html><html><body><script>alert(1)</script></body></html>" * 20,
    "gif": b"GIF89a" + bytes(500),
    "pdf": b"%PDF-1.7\n" + b"1 0 obj << /Type /Catalog >> endobj\n" * 50,
    "elf": b"\x7fELF\x02\x01\x01" + bytes(2000),
    "gzip": b"\x1f\x8b\x08\x00" + random.Random(3).randbytes(2000),
    "pickle": b"\x80\x04\x95" + random.Random(4).randbytes(2000),
    "random": random.Random(5).randbytes(20_000),
    "zeros": bytes(20_000),
    "ff": b"\xff" * 20_000,
    "lfs_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456\n",
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "hls_file": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "dash": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>',
    "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\nfile 'http://127.0.0.1:9/x.mp4'\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "subtitles": b"1\n00:00:00,000 --> 00:00:02,000\nhello\n\n" * 40,
    "wav": b"RIFF\x24\x10\x00\x00WAVE"
    + struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 44100, 88200, 2, 16)
    + bytes(4096),
    "safetensors": struct.pack("<Q", 2) + b"{}",
    "sqlite": b"SQLite format 3\x00" + bytes(4000),
    "image_sequence": b"%07d.jpg\n" * 200,
}
for _name, _data in NOT_VIDEO.items():

    def _make(data: bytes = _data) -> bytes:
        return data

    _make.__name__ = f"{_name}_named_mp4"
    kind(105 if _name in ("hls", "hls_file", "dash", "concat", "sdp") else 5, "unsupported")(_make)


@kind(5, "low_quality")
def png_named_mp4() -> bytes:
    return cv2.imencode(".png", face_frames(1)[0])[1].tobytes()


@kind(5, "low_quality")
def jpeg_named_mp4() -> bytes:
    return cv2.imencode(".jpg", face_frames(1)[0])[1].tobytes()


@kind(5, "unsupported")
def zip_of_a_video_named_mp4() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("film.mp4", good())
    return out.getvalue()


@kind(6, "ok", ".txt")
def video_named_txt() -> bytes:
    return good()


@kind(6, "ok", "")
def video_without_suffix() -> bytes:
    return good()


def sound(suffix: str, codec: str, cover: bool = False) -> bytes:
    """Two seconds of silence, with or without a cover picture."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound{suffix}"
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=48000)
            picture = out.add_stream("mjpeg", rate=1) if cover else None
            if picture is not None:
                picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
                picture.disposition = av.stream.Disposition.attached_pic
                frame = av.VideoFrame.from_ndarray(face_frames(1)[0], format="gray").reformat(format="yuvj420p")
                out.mux(picture.encode(frame))
                out.mux(picture.encode(None))
            silence = av.AudioFrame(format=stream.codec_context.format.name, layout="stereo", samples=1024)
            silence.sample_rate = 48000
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            for i in range(94):
                silence.pts = i * 1024
                out.mux(stream.encode(silence))
            out.mux(stream.encode(None))
        return path.read_bytes()


@kind(7, "unsupported")
def audio_only() -> bytes:
    return sound(".mp4", "aac")


@kind(7, "unsupported", ".webm")
def audio_only_webm() -> bytes:
    return sound(".webm", "libopus")


@kind(7, "unsupported", ".mp4")
def mp3_named_mp4() -> bytes:
    return sound(".mp3", "libmp3lame")


@kind(8, "unsupported")
def audio_with_cover_art() -> bytes:
    return sound(".mp4", "aac", cover=True)


# --- A. files: unusual, but sound


@kind(10, "low_quality")
def one_frame() -> bytes:
    return film(n=1)


@kind(11, "ok")
def two_frames() -> bytes:
    return film(n=2)


@kind(11, "ok")
def three_frames() -> bytes:
    return film(n=3)


@kind(12, "ok", ".mkv")
def variable_frame_rate() -> bytes:
    def stretch(i: int, packet: av.Packet) -> bool:
        assert packet.pts is not None
        packet.pts = packet.dts = packet.pts + (i // 7) * 3000
        return True

    return remux(film(".mkv"), ".mkv", stretch)


@kind(15, "ok")
def ten_bit() -> bytes:
    return film(pix_fmt="yuv420p10le")


@kind(15, "ok")
def ten_bit_hevc() -> bytes:
    return film(codec="libx265", pix_fmt="yuv420p10le", options=(("x265-params", "log-level=none"),))


@kind(16, "low_quality")
def hdr_pq() -> bytes:
    return film(pix_fmt="yuv420p10le", tags=(("color_trc", 16), ("color_primaries", 9), ("colorspace", 9)))


@kind(16, "low_quality")
def hdr_hlg() -> bytes:
    return film(pix_fmt="yuv420p10le", tags=(("color_trc", 18), ("color_primaries", 9), ("colorspace", 9)))


@kind(18, "ok", ".mkv")
def grey_8() -> bytes:
    return film(".mkv", codec="ffv1", pix_fmt="gray", options=())


@kind(18, "ok", ".mkv")
def grey_10() -> bytes:
    return film(".mkv", codec="ffv1", pix_fmt="gray10le", options=())


@kind(18, "ok")
def grey_h264() -> bytes:
    return film(pix_fmt="gray")


@kind(19, "ok", ".mkv")
def alpha() -> bytes:
    return film(".mkv", codec="ffv1", pix_fmt="yuva420p", options=())


@kind(20, "ok")
def odd_size() -> bytes:
    frames = [cv2.resize(f, (321, 241)) for f in face_frames(10)]
    return encode(frames, ".mp4", pix_fmt="yuv444p")


@kind(20, "no_face damaged", ".mkv")
def two_by_two() -> bytes:
    return encode([np.full((2, 2), i, np.uint8) for i in range(10)], ".mkv", codec="ffv1", pix_fmt="gray")


@kind(20, "no_face")
def very_wide() -> bytes:
    return encode([np.full((16, 4096), i, np.uint8) for i in range(4)])


@kind(20, "no_face")
def very_high() -> bytes:
    return encode([np.full((4096, 16), i, np.uint8) for i in range(4)])


@kind(21, "ok")
def wide_pixels() -> bytes:
    frames = [cv2.resize(f, (WIDTH // 2, HEIGHT)) for f in face_frames(10)]
    return encode(frames, aspect=Fraction(2, 1))


@kind(21, "ok low_quality")
def absurd_pixels() -> bytes:
    return encode(face_frames(10), aspect=Fraction(1, 200))


@kind(22, "no_face too_large")
def eight_k() -> bytes:
    return encode([np.full((4320, 7680), i, np.uint8) for i in range(1)], codec="mjpeg", pix_fmt="yuvj420p")


@cache
def huge() -> bytes:
    return encode([np.zeros((8192, 8192), np.uint8)], options={"preset": "ultrafast", "tune": "zerolatency"})


@kind(23, "too_large")
def decode_bomb() -> bytes:
    return huge()


@kind(23, "too_large damaged")
def decode_bomb_that_says_it_is_small() -> bytes:
    data = bytearray(huge())
    start, _ = find(bytes(data), b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
    struct.pack_into(">HH", data, start + 32, 64, 64)
    return bytes(data)


@kind(23, "too_large damaged low_quality", ".h264")
def decode_bomb_in_the_middle() -> bytes:
    small = encode(face_frames(10), ".h264", options={"preset": "ultrafast", "bf": "0"})
    return small + remux(huge(), ".h264", lambda i, packet: True)


@kind(28, "ok", ".h264")
def size_changes() -> bytes:
    large = [cv2.resize(f, (2 * WIDTH, 2 * HEIGHT)) for f in face_frames(20)]
    return film(".h264", n=20) + encode(large, ".h264", options=SHORT_GOP)


@kind(29, "unsupported", ".avi")
def codec_not_allowed() -> bytes:
    return film(".avi", codec="magicyuv", pix_fmt="gray", options=())


@kind(29, "unsupported", ".mkv")
def codec_unknown() -> bytes:
    return film(".mkv").replace(b"V_MPEG4/ISO/AVC", b"V_MPEG9/ISO/XYZ")


@kind(30, "ok", ".h264")
def raw_h264() -> bytes:
    return film(".h264")


@kind(31, "ok", ".mkv")
def time_jumps() -> bytes:
    def jump(i: int, packet: av.Packet) -> bool:
        assert packet.pts is not None
        if i >= 12:
            packet.pts = packet.dts = packet.pts + 100_000_000
        return True

    return remux(film(".mkv"), ".mkv", jump)


@kind(31, "ok", ".ts")
def time_starts_negative() -> bytes:
    def early(i: int, packet: av.Packet) -> bool:
        assert packet.pts is not None
        packet.pts = packet.dts = packet.pts - 90_000
        return True

    return remux(film(".ts"), ".ts", early)


@kind(32, "ok")
def edit_list() -> bytes:
    """The second half of the file only."""
    data = bytearray(film())
    movie = find(bytes(data), b"moov", b"mvhd")[0]
    media = find(bytes(data), b"moov", b"trak", b"mdia", b"mdhd")[0]
    entry = find(bytes(data), b"moov", b"trak", b"edts", b"elst")[0]
    (movie_scale,) = struct.unpack_from(">I", data, movie + 20)
    (media_scale,) = struct.unpack_from(">I", data, media + 20)
    struct.pack_into(">Ii", data, entry + 16, movie_scale * 12 // 25, media_scale * 12 // 25)
    return bytes(data)


@kind(33, "ok", ".mkv")
def two_video_streams() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "two.mkv"
        with av.open(str(path), "w") as out:
            streams = [out.add_stream("libx264", rate=25) for _ in range(2)]
            for stream in streams:
                stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for face, plain in zip(face_frames(20), plain_frames(20), strict=True):
                for stream, picture in zip(streams, (face, plain), strict=True):
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
            for stream in streams:
                out.mux(stream.encode(None))
        return path.read_bytes()


@kind(36, "unsupported")
def encrypted() -> bytes:
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "0" * 32, "encryption_kid": "1" * 32}
    return film(container_options=tuple(scheme.items()))


@kind(37, "ok")
def interlaced() -> bytes:
    return film(options=(("x264-params", "tff=1:bframes=0"), ("crf", "18")))


@kind(37, "ok", ".mpg")
def interlaced_mpeg2() -> bytes:
    return film(".mpg", codec="mpeg2video", options=(("flags", "+ilme+ildct"), ("b", "2000000")))


FAST = {
    "libx265": (("x265-params", "log-level=none"),),
    "libvpx": (("deadline", "realtime"), ("cpu-used", "8"), ("b", "2000000")),
    "libvpx-vp9": (("deadline", "realtime"), ("cpu-used", "8"), ("b", "2000000")),
    "libsvtav1": (("preset", "12"), ("svtav1-params", "lp=1")),
}
OTHERS = {
    "hevc": (".mp4", "libx265", "yuv420p"),
    "vp8": (".webm", "libvpx", "yuv420p"),
    "vp9": (".webm", "libvpx-vp9", "yuv420p"),
    "av1": (".mp4", "libsvtav1", "yuv420p"),
    "xvid": (".avi", "mpeg4", "yuv420p"),
    "mjpeg": (".avi", "mjpeg", "yuvj422p"),
    "flv1": (".flv", "flv", "yuv420p"),
    "wmv": (".wmv", "wmv2", "yuv420p"),
    "divx3": (".avi", "msmpeg4", "yuv420p"),
    "mpeg1": (".mpg", "mpeg1video", "yuv420p"),
    "prores": (".mov", "prores", "yuv422p10le"),
    "huffyuv": (".avi", "huffyuv", "yuv422p"),
    "uncompressed": (".avi", "rawvideo", "yuv420p"),
    "uncompressed_rgb": (".avi", "rawvideo", "bgr24"),
}
for _name, (_suffix, _codec, _pix_fmt) in OTHERS.items():

    def _film(suffix: str = _suffix, codec: str = _codec, pix_fmt: str = _pix_fmt) -> bytes:
        return film(suffix, codec=codec, pix_fmt=pix_fmt, options=FAST.get(codec, (("b", "2000000"),)))

    _film.__name__ = f"codec_{_name}"
    kind(6, "ok", _suffix)(_film)


@kind(35, "damaged unsupported")
def box_larger_than_the_file() -> bytes:
    return struct.pack(">I4s", 0xFFFFFFF0, b"moov") + good()[8:]


@kind(35, "damaged unsupported")
def boxes_in_boxes() -> bytes:
    data = b""
    for _ in range(3000):
        data = box(b"moov", data)
    return box(b"ftyp", b"isom", bytes(4)) + data


@kind(35, "damaged unsupported ok low_quality")
def frames_without_end_in_the_index() -> bytes:
    data = bytearray(good())
    start, _ = find(good(), b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsz")
    struct.pack_into(">I", data, start + 16, 0x7FFFFFFF)
    return bytes(data)


@kind(35, "damaged unsupported ok low_quality too_large", ".avi")
def avi_that_promises_millions() -> bytes:
    data = bytearray(film(".avi", codec="mpeg4", options=()))
    struct.pack_into("<I", data, 48, 0x7FFFFFFF)
    return bytes(data)


# --- B. names and file system


@special(50, "missing")
def dangling_link(folder: Path) -> Path:
    path = folder / "dangling.mp4"
    path.symlink_to(folder / "nowhere.mp4")
    return path


@special(50, "missing")
def link_loop(folder: Path) -> Path:
    path = folder / "loop.mp4"
    path.symlink_to(path)
    return path


@special(49, "rejected")
def link_out_of_the_tree(folder: Path) -> Path:
    path = folder / "link.mp4"
    path.symlink_to("/etc/passwd")
    return path


@special(51, "rejected")
def pipe(folder: Path) -> Path:
    path = folder / "pipe.mp4"
    os.mkfifo(path)
    return path


@special(51, "rejected")
def unix_socket(folder: Path) -> Path:
    path = folder / "s.mp4"
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(folder)  # a socket's path may be 107 bytes at most
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)
    return path


@special(51, "rejected")
def device(folder: Path) -> Path:
    return Path("/dev/zero")


@special(51, "rejected")
def folder_without_frames(folder: Path) -> Path:
    path = folder / "folder.mp4"
    path.mkdir()
    return path


@special(39, "missing")
def gone(folder: Path) -> Path:
    return folder / "gone.mp4"


@special(45, "rejected")
def path_too_long(folder: Path) -> Path:
    return folder.joinpath(*["x" * 200] * 25) / "a.mp4"


@special(104, "rejected")
def nul_in_the_name(folder: Path) -> Path:
    return folder / "a\0b.mp4"


@special(103, "rejected")
def web_address(folder: Path) -> Path:
    return Path("http://127.0.0.1:9/a.mp4")


@special(103, "rejected")
def protocol_address(folder: Path) -> Path:
    return Path("concat:/etc/passwd|/etc/group")


@special(1, "damaged")
def frames_of_zero_bytes(folder: Path) -> Path:
    path = folder / "empty_frames"
    path.mkdir()
    for i in range(4):
        (path / f"{i}.jpg").write_bytes(b"")
    return path


@special(26, "damaged")
def frames_cut_short(folder: Path) -> Path:
    path = folder / "cut_frames"
    path.mkdir()
    for i, picture in enumerate(face_frames(10)):
        data = cv2.imencode(".jpg", picture)[1].tobytes()
        (path / f"{i}.jpg").write_bytes(data[: len(data) // 2] if i > 6 else data)
    return path


@special(51, "rejected")
def frames_that_are_links(folder: Path) -> Path:
    path = folder / "linked_frames"
    path.mkdir()
    for i in range(4):
        (path / f"{i}.png").symlink_to("/etc/passwd")
    return path


@special(5, "damaged")
def frames_that_are_text(folder: Path) -> Path:
    path = folder / "text_frames"
    path.mkdir()
    for i in range(4):
        (path / f"{i}.png").write_text("no picture")
    return path


@special(23, "too_large damaged")
def frame_bomb(folder: Path) -> Path:
    """A PNG of 60 000 x 60 000 pixels in a few bytes."""
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    path = folder / "bomb_frames"
    path.mkdir()
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    for i in range(2):
        (path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path
