"""Whole frames hashed in child processes: the same as here, once in a clip's life, and nothing stops the others."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.duplicates import NEAR, clip_hash, hash_positions, near_duplicates
from fer_core.errors import ClipStatus
from fer_core.preprocess.perceptual_hash import hash_batch
from tests.preprocess.conftest import LIMITS
from tests.preprocess.films import face_frames, write_folder, write_video


def clips_of(*paths: Path) -> list[Clip]:
    return [Clip(id=path.name, path=path) for path in paths]


def test_hashes_are_those_of_the_frames_and_are_made_once(tmp_path: Path) -> None:
    frames = face_frames(21)
    folder = write_folder(tmp_path / "frames", frames)
    video = write_video(tmp_path / "a.mkv", frames, "ffv1", pix_fmt="gray")  # lossless
    first, second = list(hash_batch(clips_of(folder, video), LIMITS, tmp_path / "store"))
    assert first.hash is not None and second.hash is not None
    assert np.array_equal(first.hash, clip_hash([frames[i] for i in hash_positions(21)]))
    assert np.array_equal(first.hash, second.hash)
    assert not first.cached and not second.cached
    renamed = video.rename(tmp_path / "b.mkv")
    (again,) = hash_batch(clips_of(renamed), LIMITS, tmp_path / "store")
    assert again.cached and again.hash is not None and np.array_equal(again.hash, second.hash)


def test_a_copy_under_another_codec_is_found(tmp_path: Path) -> None:
    def shifted(n: int) -> list[np.ndarray]:
        return [np.roll(frame, 40, axis=1) for frame in face_frames(n)]

    copies = [
        write_video(tmp_path / "a.mp4", face_frames(20)),
        write_video(tmp_path / "b.avi", face_frames(20, 80, 106), "mpeg4"),
        write_video(tmp_path / "c.mp4", shifted(20)),
    ]
    looks = list(hash_batch(clips_of(*copies), LIMITS, tmp_path / "store"))
    hashes = {seen.clip.id: seen.hash for seen in looks if seen.hash is not None}
    pairs = near_duplicates(hashes, dict(zip(hashes, "xyz", strict=True)))
    assert [(p.first, p.second) for p in pairs] == [("a.mp4", "b.avi")]


def test_a_bad_file_is_an_answer_among_the_others(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("hello " * 100)
    sound = write_video(tmp_path / "sound.mp4", face_frames(6))
    seen: list[tuple[int, int]] = []
    looks = list(
        hash_batch(
            clips_of(text, sound, tmp_path / "none.mp4"), LIMITS, tmp_path / "store", lambda *done: seen.append(done)
        )
    )
    assert [look.error.status if look.error else None for look in looks] == [
        ClipStatus.UNSUPPORTED,
        None,
        ClipStatus.MISSING,
    ]
    assert looks[1].hash is not None and looks[1].hash.shape == (5, 32)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_video_shorter_than_it_says_is_hashed_over_what_decodes(tmp_path: Path) -> None:
    frames = [np.roll(face_frames(1)[0], 9 * i, axis=1) for i in range(40)]
    whole = write_video(tmp_path / "whole.mkv", frames, options={"crf": "12", "g": "4", "bf": "0"})
    (seen,) = hash_batch(clips_of(without_first_packet(whole, tmp_path / "cut.ts")), LIMITS, tmp_path / "store")
    expected = clip_hash([frames[4:][i] for i in hash_positions(36)])  # all up to the next key frame is lost
    assert seen.hash is not None and (np.bitwise_count(seen.hash ^ expected).sum(axis=1) <= NEAR).all()


def without_first_packet(video: Path, out: Path) -> Path:
    with av.open(str(video)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in list(source.demux(video=0))[1:]:
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return out
