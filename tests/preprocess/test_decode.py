"""What comes out of a file: pictures, places, times, and the verdict on what is missing."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fer_core.clips.clip import clip_digest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.decode import Frame
from fer_core.preprocess.faces import FrameStatus
from fer_core.preprocess.frame_count import Census, Report
from fer_core.preprocess.gray import gray, upright
from fer_core.preprocess.pipeline import open_media
from tests.preprocess.conftest import LIMITS, faces_of
from tests.preprocess.films import face_frames, write_video
from tests.preprocess.hostile import (
    edit_list,
    encode,
    film,
    remux,
    size_changes,
    two_video_streams,
    variable_frame_rate,
)


def read(data: bytes, folder: Path, limits: LimitsConfig = LIMITS) -> tuple[list[Frame], Report]:
    """All frames of a clip, every place in its final order."""
    path = folder / "film"
    path.write_bytes(data)
    with open_media(path, limits) as media:
        for _ in media.frames(lambda index: False):
            pass
        return list(media.frames(lambda index: True)), media.report()


def pictures(data: bytes, folder: Path) -> list[np.ndarray]:
    return [f.picture for f in read(data, folder)[0] if f.picture is not None]


def far(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference in grey levels."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean())


def with_matrix(matrix: tuple[int, ...], frames: list[np.ndarray], path: Path) -> Path:
    """An mp4 with a display matrix of its own, patched into the track header."""
    data = bytearray(write_video(path, frames).read_bytes())
    at = bytes(data).index(b"tkhd") + 4 + 40
    data[at : at + 36] = np.array(matrix, ">i4").tobytes()
    path.write_bytes(data)
    return path


# --- pictures


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_item_13_a_rotated_clip_is_set_upright_as_opencv_does(quarters: int, tmp_path: Path) -> None:
    frames = face_frames(4)
    path = write_video(tmp_path / "v.mp4", [np.rot90(f, -quarters) for f in frames], rotation=90 * quarters)
    mine = pictures(path.read_bytes(), tmp_path)
    capture = cv2.VideoCapture(str(path))
    theirs = cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY)
    assert far(mine[0], theirs) < 2 and far(mine[0], frames[0]) < 3
    assert faces_of(path).width == 160


def test_item_13_a_rotated_clip_has_the_faces_of_the_unrotated(tmp_path: Path) -> None:
    frames = face_frames(10)
    plain = faces_of(write_video(tmp_path / "a.mp4", frames, pix_fmt="gray", options={"qp": "0"}))
    for quarters in (1, 2, 3):
        turned = [np.rot90(f, -quarters) for f in frames]
        path = tmp_path / f"{quarters}.mp4"
        write_video(path, turned, pix_fmt="gray", options={"qp": "0"}, rotation=90 * quarters)
        faces = faces_of(path)
        assert np.array_equal(faces.ledger.box, plain.ledger.box) and np.array_equal(faces.pixels, plain.pixels)


ONE = 65536


@pytest.mark.parametrize(
    "matrix, undo",
    [
        ((-ONE, 0, 0, ONE), lambda f: f[:, ::-1]),
        ((ONE, 0, 0, -ONE), lambda f: f[::-1]),
        ((0, ONE, ONE, 0), lambda f: f.T),
        ((0, -ONE, -ONE, 0), lambda f: f[::-1, ::-1].T),
    ],
    ids=["mirrored", "flipped", "transposed", "transverse"],
)
def test_item_14_a_mirrored_clip_is_unmirrored(
    matrix: tuple[int, int, int, int], undo: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    a, b, c, d = matrix
    frames = face_frames(3)
    path = with_matrix((a, b, 0, c, d, 0, 0, 0, 1 << 30), [undo(f) for f in frames], tmp_path / "v.mp4")
    assert far(pictures(path.read_bytes(), tmp_path)[0], frames[0]) < 3


def test_item_14_a_slanted_clip_is_left_as_it_is_and_flagged(tmp_path: Path) -> None:
    matrix = (46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    path = with_matrix(matrix, face_frames(4), tmp_path / "v.mp4")
    faces = faces_of(path)
    assert faces.n_used == 2 and faces.low_quality and "slanted" in faces.flags


def test_all_eight_orientations_are_undone() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    seen = set()
    for straight in (True, False):
        for one in (ONE, -ONE):
            for other in (ONE, -ONE):
                matrix = (one, 0, 0, other) if straight else (0, one, other, 0)
                seen.add(upright(picture, matrix).tobytes() + bytes([straight]))
    assert len(seen) == 8


@pytest.mark.parametrize("pix_fmt, color_range", [("yuv420p", 1), ("yuv420p", 2), ("yuvj420p", 2)])
def test_item_17_limited_and_full_range_give_the_same_grey(pix_fmt: str, color_range: int, tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    low, high = (0, 255) if color_range == 2 else (16, 235)
    luma = np.rint(low + ramp / 255 * (high - low)).astype(np.uint8)
    stored = np.vstack([luma, np.full((32, 256), 128, np.uint8)])  # yuv420p as one plane
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 256, "yuv420p"
        stream.codec_context.color_range = color_range
        frame = av.VideoFrame.from_ndarray(stored, format="yuv420p")
        frame.color_range = color_range
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    (picture,) = pictures(path.read_bytes(), tmp_path)
    assert np.abs(picture.astype(int) - ramp).max() <= 1


def test_grey_agrees_with_the_usual_weights_of_red_green_and_blue() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    colours = cv2.resize(colours, (256, 256), interpolation=cv2.INTER_LINEAR)
    expected = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)
    rgb = av.VideoFrame.from_ndarray(colours, format="rgb24")
    for pix_fmt in ("rgb24", "bgr24", "gbrp", "yuv444p", "yuv420p", "yuyv422", "nv12", "yuv420p10le", "yuv444p16le"):
        assert far(gray(rgb.reformat(format=pix_fmt)), expected) < 1.5, pix_fmt


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray16le"])
def test_item_18_grey_formats_keep_their_greys(pix_fmt: str, tmp_path: Path) -> None:
    (frame,) = face_frames(1)
    (picture,) = pictures(encode([frame], ".mkv", codec="ffv1", pix_fmt=pix_fmt), tmp_path)
    assert far(picture, frame) <= 1


@pytest.mark.parametrize("pix_fmt", ["yuva420p", "yuva444p10le", "bgra"])
def test_item_19_what_is_transparent_is_black(pix_fmt: str, tmp_path: Path) -> None:
    (frame,) = face_frames(1)
    rgba = np.dstack([frame] * 3 + [np.where(np.arange(160) < 80, 255, 0).astype(np.uint8)[None].repeat(120, axis=0)])
    (picture,) = pictures(encode([rgba], ".mkv", codec="ffv1", pix_fmt=pix_fmt, input_format="rgba"), tmp_path)
    assert far(picture[:, :80], frame[:, :80]) < 2 and picture[:, 82:].max() <= 1


def test_item_19_transparent_png_frames_lie_over_black(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    (frame,) = face_frames(1)
    for depth in (np.uint8, np.uint16):
        scale = np.iinfo(depth).max // 255
        bgra = (np.dstack([frame] * 3 + [np.full_like(frame, 255)]) * np.uint32(scale)).astype(depth)
        bgra[:, 80:, 3] = 0
        (folder / "0.png").write_bytes(cv2.imencode(".png", bgra)[1].tobytes())
        with open_media(folder, LIMITS) as media:
            (only,) = media.frames(lambda index: True)
        assert only.picture is not None
        assert far(only.picture[:, :80], frame[:, :80]) <= 1 and not only.picture[:, 80:].any()


def test_item_21_pixels_become_square(tmp_path: Path) -> None:
    frames = face_frames(3)
    narrow = [cv2.resize(f, (80, 120), interpolation=cv2.INTER_AREA) for f in frames]
    flat = [cv2.resize(f, (160, 60), interpolation=cv2.INTER_AREA) for f in frames]
    for squeezed, aspect in ((narrow, Fraction(2, 1)), (flat, Fraction(1, 2))):
        picture = pictures(encode(squeezed, aspect=aspect), tmp_path)[0]
        assert picture.shape == (120, 160) and far(picture, frames[0]) < 6


def test_item_28_every_frame_keeps_its_own_size(tmp_path: Path) -> None:
    seen = pictures(size_changes(), tmp_path)
    assert {p.shape for p in seen[:20]} == {(120, 160)} and {p.shape for p in seen[20:]} == {(240, 320)}
    path = tmp_path / "v.h264"
    path.write_bytes(size_changes())
    faces = faces_of(path, PreprocessConfig(selection="all"))
    sides = faces.ledger.box[:, 2]
    assert faces.n_used == 40 and 1.6 < np.median(sides[20:]) / np.median(sides[:20]) < 2.4


def test_item_33_of_two_films_alike_the_first_is_read(tmp_path: Path) -> None:
    assert far(pictures(two_video_streams(), tmp_path)[5], face_frames(6)[5]) < 6


def with_thumbnail(thumbnail_frames: int, folder: Path) -> bytes:
    """An mkv whose first video stream is a small grey picture or short film, and whose second shows a face."""
    path = folder / "thumbnail.mkv"
    with av.open(str(path), "w") as out:
        first = out.add_stream("mjpeg", rate=25)
        film = out.add_stream("libx264", rate=25)
        for stream, pix_fmt in ((first, "yuvj420p"), (film, "yuv420p")):
            stream.width, stream.height, stream.pix_fmt = 160, 120, pix_fmt
        first.disposition = av.stream.Disposition(0)
        for i, face in enumerate(face_frames(20)):
            if i < thumbnail_frames:
                out.mux(first.encode(av.VideoFrame.from_ndarray(np.full_like(face, 90), format="gray")))
            out.mux(film.encode(av.VideoFrame.from_ndarray(face, format="gray")))
        for stream in (first, film):
            out.mux(stream.encode(None))
    return path.read_bytes()


@pytest.mark.parametrize("thumbnail_frames", [1, 5])
def test_a_thumbnail_that_comes_first_is_not_the_film(thumbnail_frames: int, tmp_path: Path) -> None:
    seen = pictures(with_thumbnail(thumbnail_frames, tmp_path), tmp_path)
    assert len(seen) == 20 and far(seen[5], face_frames(6)[5]) < 6


# --- places and times


def test_item_12_faces_do_not_depend_on_time_stamps(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(film(".mkv"))
    (tmp_path / "b.mkv").write_bytes(variable_frame_rate())
    steady, varying = faces_of(tmp_path / "a.mkv"), faces_of(tmp_path / "b.mkv")
    assert np.array_equal(steady.pixels, varying.pixels)
    assert not np.array_equal(steady.ledger.time_s, varying.ledger.time_s)


def test_item_32_an_edit_list_shows_what_it_shows(tmp_path: Path) -> None:
    shown, all_frames = pictures(edit_list(), tmp_path), pictures(film(), tmp_path)
    assert len(shown) == 12 and len(all_frames) == 24
    assert all(np.array_equal(a, b) for a, b in zip(shown, all_frames[12:], strict=True))


def broken(data: bytes, bad: set[int], suffix: str = ".mkv") -> bytes:
    """The video with the content of some packets replaced by noise."""
    with av.open(io.BytesIO(data)) as source:
        stream = source.streams.video[0]
        found = [p for p in source.demux(stream) if p.size]
        out = io.BytesIO()
        with av.open(out, "w", format="matroska") as target:
            copy = target.add_stream_from_template(stream)
            for i, packet in enumerate(found):
                new = av.Packet(b"\x00" * 40 if i in bad else bytes(packet))
                new.pts, new.dts, new.time_base, new.is_keyframe = packet.pts, packet.dts, packet.time_base, True
                new.stream = copy
                target.mux(new)
    return out.getvalue()


@pytest.mark.parametrize("bad", [{0}, {7}, {3, 4, 31}, {39}], ids=str)
def test_frames_that_do_not_decode_keep_their_place(bad: set[int], tmp_path: Path) -> None:
    whole = encode(face_frames(40), ".mkv", codec="mjpeg", pix_fmt="yuvj420p")
    sound, _ = read(whole, tmp_path)
    frames, report = read(broken(whole, bad), tmp_path)
    assert [f.index for f in frames] == list(range(40))
    assert {f.index for f in frames if f.lost} == bad and report.n_lost == len(bad)
    for frame, original in zip(frames, sound, strict=True):
        assert frame.lost or (np.array_equal(frame.picture, original.picture) and frame.time_s == original.time_s)


def test_lost_frames_are_rows_of_the_ledger(tmp_path: Path) -> None:
    whole = encode(face_frames(40), ".mkv", codec="mjpeg", pix_fmt="yuvj420p")
    (tmp_path / "v.mkv").write_bytes(broken(whole, {5, 30, 31}))
    faces = faces_of(tmp_path / "v.mkv")
    lost = [f for f, s in zip(faces.ledger.frame, faces.ledger.status, strict=True) if s is FrameStatus.DECODE_ERROR]
    assert lost == [30, 31] and faces.ledger.frame.tolist() == list(range(20, 40))
    assert faces.n_used == 18 and faces.low_quality and "decode_errors" in faces.flags


def test_frames_dropped_without_a_word_are_lost_too(tmp_path: Path) -> None:
    """h264 says nothing when a packet holds no picture: only its time stamp is missing."""
    whole = encode(face_frames(40), ".mkv", options={"g": "3", "bf": "0"})
    frames, report = read(broken(whole, {8, 20}), tmp_path)
    assert {f.index for f in frames if f.lost} == {8, 20} and report.n_frames == 40


def test_item_26_under_nine_tenths_is_damaged_over_it_flagged(tmp_path: Path) -> None:
    whole = encode(face_frames(40), ".mkv", codec="mjpeg", pix_fmt="yuvj420p")
    assert "low_quality" in read(broken(whole, set(range(4))), tmp_path)[1].flags
    with pytest.raises(ClipError, match=r"35 frames decoded, 88% .* needs 90%") as caught:
        read(broken(whole, set(range(5))), tmp_path)
    assert caught.value.status is ClipStatus.DAMAGED


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("n_dropped, low", [(2, False), (11, True)])
def test_packets_that_were_dropped_are_flagged_by_the_time_stamps(
    n_dropped: int, low: bool, suffix: str, tmp_path: Path
) -> None:
    dropped = set(random.Random(0).sample(range(1, 60), n_dropped))
    whole = encode(face_frames(60))
    _, report = read(remux(whole, suffix, lambda i, packet: i not in dropped), tmp_path)
    assert "missing_frames" in report.flags and ("low_quality" in report.flags) == low


def test_a_single_frame_that_the_decoder_had_to_conceal_is_flagged(tmp_path: Path) -> None:
    data = bytearray(encode(face_frames(60)))
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) * 3 // 10
    data[middle : middle + 512] = b"\xff" * 512
    _, report = read(bytes(data), tmp_path)
    assert report.share == 1 and report.flags == {"corrupt_frames"}


@pytest.mark.parametrize(
    "gaps",
    [[33, 33, 34] * 20, [30, 41, 35, 28, 52, 33] * 10, [40] * 20 + [3000] + [40] * 20, [33, 67] * 20],
    ids=["rounded", "uneven", "a pause", "half the frames"],
)
def test_a_sound_film_of_any_rate_lacks_no_frames(gaps: list[int]) -> None:
    census = Census(0.001, shows_every_packet=True)
    census.stamps = [0, *np.cumsum(gaps).tolist()]
    report, _ = census.settle(len(census.stamps), 0.0, 0.0)
    assert not report.flags


@pytest.mark.parametrize(
    "suffix, codec", [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx-vp9")]
)
def test_item_3_a_sound_clip_is_whole_in_every_container(suffix: str, codec: str, tmp_path: Path) -> None:
    for n in (1, 2, 3, 24):
        frames, report = read(film(suffix, n=n, codec=codec, options=()), tmp_path)
        assert len(frames) == n == report.n_frames and report.share == 1 and not report.flags


def test_a_soundtrack_longer_than_the_picture_is_no_damage(tmp_path: Path) -> None:
    for suffix, codec in ((".mp4", "aac"), (".mkv", "aac")):
        path = tmp_path / f"v{suffix}"
        with av.open(str(path), "w") as out:
            video, audio = out.add_stream("libx264", rate=25), out.add_stream(codec, rate=48000)
            video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
            for picture in face_frames(25):
                out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
            out.mux(video.encode(None))
            silence = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
            silence.sample_rate = 48000
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            for i in range(150):
                silence.pts = i * 1024
                out.mux(audio.encode(silence))
            out.mux(audio.encode(None))
        _, report = read(path.read_bytes(), tmp_path)
        assert report.share == 1 and report.n_frames == 25


def test_item_24_a_clip_too_long_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    limits = LimitsConfig(max_frames=23)
    with pytest.raises(ClipError, match=r"more than 23 frames \(limits.max_frames\)") as caught:
        read(film(), tmp_path, limits)
    assert caught.value.status is ClipStatus.TOO_LARGE
    assert read(film(), tmp_path, LimitsConfig(max_frames=24))[1].n_frames == 24


def test_item_23_frames_too_large_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"160x120 = 19200 pixels; at most 19199") as caught:
        read(film(), tmp_path, LimitsConfig(max_pixels=19199))
    assert caught.value.status is ClipStatus.TOO_LARGE


def test_the_name_of_a_file_does_not_decide_what_it_is(tmp_path: Path) -> None:
    keys = set()
    for name in ("a.mp4", "a.txt", "a.jpg", "a.m3u8", "a"):
        (tmp_path / name).write_bytes(film())
        faces = faces_of(tmp_path / name)
        keys.add((faces.key, faces.pixels.tobytes()))
    assert len(keys) == 1


def test_frames_of_a_folder_follow_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "take"
    folder.mkdir()
    frames = face_frames(12)
    for i in np.random.default_rng(0).permutation(12):
        (folder / f"img_{i}.png").write_bytes(cv2.imencode(".png", frames[i])[1].tobytes())
    for junk in (".DS_Store", "._img_3.png", "notes.txt", "Thumbs.db"):
        (folder / junk).write_bytes(b"junk")
    with open_media(folder, LIMITS) as media:
        seen = [f.picture for f in media.frames(lambda index: True)]
    assert len(seen) == 12 and all(np.array_equal(a, b) for a, b in zip(seen, frames, strict=True) if a is not None)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_cut_short_is_lost_not_filled_up(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "take"
    folder.mkdir()
    for i, picture in enumerate(face_frames(20)):
        data = cv2.imencode(suffix, picture)[1].tobytes()
        (folder / f"{i}{suffix}").write_bytes(data[: len(data) * 3 // 4] if i == 15 else data)
    faces = faces_of(folder, PreprocessConfig(selection="all"))
    assert faces.ledger.status[15] is FrameStatus.DECODE_ERROR and faces.n_used == 19
    assert "decode_errors" in faces.flags and faces.low_quality


def test_remuxing_changes_the_file_but_not_the_pictures(tmp_path: Path) -> None:
    other = remux(film(), ".mkv", lambda i, packet: True)
    assert all(np.array_equal(a, b) for a, b in zip(pictures(film(), tmp_path), pictures(other, tmp_path), strict=True))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff"])
def test_a_still_is_a_clip_of_one_frame(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"face{suffix}"
    path.write_bytes(cv2.imencode(suffix, face_frames(1)[0])[1].tobytes())
    faces = faces_of(path, PreprocessConfig())
    assert (faces.n_frames, faces.n_used, faces.flags) == (1, 1, ("one_frame",))
    assert faces.clip_digest == clip_digest(path)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"GIF89a", r"it is a GIF picture, which is not read; convert it: ffmpeg -i IN .* OUT\.mp4"),
        (b"RIFF\0\0\0\0WEBPVP8X", r"a WebP picture, .* make it a folder of frames: magick IN -coalesce"),
        (b"\0\0\0\x18ftypheic", "a HEIF or AVIF picture"),
        (b"\x06\x0e\x2b\x34", "an MXF video"),
    ],
)
def test_a_kind_that_is_not_read_names_the_command_that_converts_it(head: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(head + bytes(500))
    with pytest.raises(ClipError, match=message):
        faces_of(tmp_path / "clip", PreprocessConfig())
