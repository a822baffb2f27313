"""Every kind of file of the catalogue in one batch: an answer each, and the sound ones as if they were alone."""

from __future__ import annotations

import os
import random
import shutil
import socket
import threading
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, StoreError
from fer_core.preprocess.admit import admit, open_regular
from fer_core.preprocess.batch import ClipFaces, preprocess_batch
from fer_core.preprocess.pipeline import open_media
from fer_core.preprocess.store import FacesStore
from tests.preprocess.conftest import CONFIG, LIMITS, faces_of
from tests.preprocess.films import face_frames, write_folder, write_video
from tests.preprocess.hostile import KINDS, film, good

CHILD_KIB = 1024**2  # of the largest child


class ChildMemory(threading.Thread):
    """Watches the peak memory of this process's children while a block runs.

    Not by RUSAGE_CHILDREN: its maximum counts what a child inherited before it became another program, so beside a
    large test run it is the size of the test run.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_kib = self.batch_kib = 0
        self._done = threading.Event()

    def __enter__(self) -> ChildMemory:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        before = self._kib("self", "VmRSS")
        while not self._done.wait(0.02):
            pids = [pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
            peaks = [self._peak_of(pid) for pid in pids]
            self.peak_kib = max([self.peak_kib, *peaks])
            self.batch_kib = max(self.batch_kib, sum(peaks) + self._kib("self", "VmRSS") - before)

    def _peak_of(self, pid: str) -> int:
        try:
            if b"fer_core.preprocess.sandbox" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return 0  # not yet the program it is going to be
            return self._kib(pid, "VmHWM")
        except OSError:
            return 0

    @staticmethod
    def _kib(pid: str, field: str) -> int:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


LIMITED = LimitsConfig(timeout_s=60, workers=2, max_frames=5000)


def status(made: ClipFaces) -> str:
    if made.error is not None:
        return made.error.status.value
    assert made.faces is not None and made.faces.n_used > 0
    return "low_quality" if made.faces.low_quality else "ok"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ClipFaces]:
    """What one batch says of one file of every kind, a sound clip after every tenth."""
    root = tmp_path_factory.mktemp("hostile")
    clips = []
    for i, kind in enumerate(KINDS):
        folder = root / f"{i}"
        folder.mkdir()
        clips.append(Clip(id=kind.id, path=kind.build(folder)))
        if i % 10 == 0:
            sound = write_video(folder / "sound.mp4", face_frames(8 + i % 7))
            clips.append(Clip(id=f"sound_{i}", path=sound))
    with ChildMemory() as memory:
        made = list(preprocess_batch(clips, CONFIG, LIMITED, FacesStore(root / "store")))
    assert [m.clip for m in made] == clips
    assert 0 < memory.peak_kib < CHILD_KIB
    return {m.clip.id: m for m in made}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.id)
def test_hostile(kind: object, answers: dict[str, ClipFaces]) -> None:
    made = answers[kind.id]  # type: ignore[attr-defined]
    reason = made.error.reason if made.error else ""
    assert status(made) in kind.answers, reason  # type: ignore[attr-defined]
    assert made.error is None or (reason and "\n" not in reason and "Traceback" not in reason)


def test_sound_clips_among_hostile_ones_are_as_if_alone(answers: dict[str, ClipFaces]) -> None:
    sound = [made for name, made in answers.items() if name.startswith("sound")]
    assert len(sound) >= 10
    for made in sound:
        assert made.faces is not None
        assert np.array_equal(made.faces.pixels, faces_of(made.clip.path).pixels)


def test_every_kind_is_answered_in_bounded_time(answers: dict[str, ClipFaces]) -> None:
    assert len(KINDS) >= 60
    for kind in KINDS:  # bombs, and what would block for ever
        assert answers[kind.id].seconds < {23: 2.0, 51: 1.0}.get(kind.item, 60), kind.id


# --- no socket is opened because of data


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """A server on loopback that counts who calls."""
    calls: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    calls.append(server.accept()[1])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], calls
        done.set()
        thread.join()


@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".mpd", ".avi", ".mkv", ".sdp", ""])
def test_item_105_playlists_call_nobody(
    suffix: str, listener: tuple[int, list[object]], store: FacesStore, tmp_path: Path
) -> None:
    port, calls = listener
    where = f"http://127.0.0.1:{port}/a.ts"
    lists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{where}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{where}'\n",
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{where}</BaseURL></MPD>',
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
        f"[playlist]\nFile1={where}\n",
    ]
    clips = []
    for i, text in enumerate(lists):
        (tmp_path / f"{i}{suffix}").write_text(text)
        clips.append(Clip(id=f"{i}", path=tmp_path / f"{i}{suffix}"))
    clips += [Clip(id="url", path=Path(where)), Clip(id="url2", path=Path(f"file:{tmp_path}/0{suffix}"))]
    results = list(preprocess_batch(clips, CONFIG, LIMITS, store))
    assert {m.error.status for m in results[:5] if m.error} == {ClipStatus.UNSUPPORTED}
    assert [m.error.status for m in results[5:] if m.error] == [ClipStatus.REJECTED] * 2
    assert calls == []


# --- names and file system

NAMES = {
    "item_41_nfc": unicodedata.normalize("NFC", "Zoë 顔 😀.mp4"),
    "item_41_nfd": unicodedata.normalize("NFD", "Zoë 顔 😀.mp4"),
    "item_42_space": " a  b .mp4",
    "item_42_newline": "a\nb\r.mp4",
    "item_42_tab_quotes": "a\t'b\"`;$(x)&|.mp4",
    "item_43_dash": "-i.mp4",
    "item_43_option": "--help",
    "item_44_percent": "%07d.mp4",
    "item_45_255_bytes": "x" * 251 + ".mp4",
    "item_46_not_utf8": os.fsdecode(b"caf\xe9\xff.mp4"),
    "item_46_controls": "\x1b[31mred\x07.mp4",
    "item_48_lower": "same.mp4",
    "item_48_upper": "SAME.mp4",
    "item_47_dots": "a.b.c..mp4",
    "item_106_formula": "=cmd|' -C'!A0.mp4",
    "item_107_html": "<script>alert(1)<script>.mp4",
    "item_103_protocol": "http:__x.mp4",
}


def test_items_41_to_48_any_name_a_file_can_have_is_read(store: FacesStore, film: Path, tmp_path: Path) -> None:
    clips = []
    for folder_name in ("plain", "%07d", os.fsdecode(b"d\xe9pot")):
        folder = tmp_path / folder_name
        folder.mkdir()
        for name in NAMES.values():
            shutil.copy(film, folder / name)
            clips.append(Clip(id=f"{folder_name}/{name}", path=folder / name))
        write_folder(folder / "take %d;\n", face_frames(4))
        clips.append(Clip(id=f"{folder_name}/take", path=folder / "take %d;\n"))
    results = list(preprocess_batch(clips, CONFIG, LIMITS, store, tmp_path))
    assert [m.error for m in results] == [None] * len(clips)
    assert len({m.key for m in results}) == 2  # of the film and of the folder
    assert len({m.clip.id for m in results}) == len(clips)


def test_items_46_a_name_no_screen_shows_is_logged_on_one_line(
    store: FacesStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a\x1b[31m\nb"
    path.write_bytes(b"text" * 100)
    with caplog.at_level("INFO", logger="fer_core"):
        list(preprocess_batch([Clip(id=str(path), path=path)], CONFIG, LIMITS, store))
    assert caplog.messages and not any(set(message) & {"\n", "\x1b"} for message in caplog.messages)


def rejected(path: Path, limits: LimitsConfig = LIMITS, root: Path | None = None) -> ClipStatus:
    with pytest.raises(ClipError) as caught:
        admit(path, limits, root)
    return caught.value.status


def test_item_49_links_inside_a_tree_need_to_be_followed_on_purpose(film: Path, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    shutil.copy(film, outside / "a.mp4")
    shutil.copy(film, root / "b.mp4")
    (root / "out.mp4").symlink_to(outside / "a.mp4")
    (root / "in.mp4").symlink_to(root / "b.mp4")
    (root / "folder").symlink_to(outside)
    follow = LimitsConfig(follow_links=True)
    for link in (root / "out.mp4", root / "in.mp4", root / "folder" / "a.mp4"):
        assert rejected(link, root=root) is ClipStatus.REJECTED
        assert admit(link, follow, root) == (link,)
    assert admit(root / "b.mp4", LIMITS, root) == (root / "b.mp4",)


def test_item_49_the_users_own_root_may_be_a_link(film: Path, tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to(film.parent)
    path = tmp_path / "root" / film.name
    assert admit(path, LIMITS, tmp_path / "root") == (path,)


@pytest.mark.parametrize("way", ["../outside.mp4", "a/../../outside.mp4", "/etc/passwd", "../root2/x.mp4"])
def test_item_103_nothing_outside_the_root_is_opened(way: str, tmp_path: Path) -> None:
    for folder in ("root", "root2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.mp4").write_bytes(b"x")
    (tmp_path / "outside.mp4").write_bytes(b"x")
    assert rejected(tmp_path / "root" / way, root=tmp_path / "root") is ClipStatus.REJECTED


def test_item_51_a_pipe_put_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ClipError, match="a pipe, not a regular file"):
        open_regular(tmp_path / "pipe", LIMITS)


def test_item_52_an_unreadable_file_is_missing_and_says_why(film: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = Path(shutil.copy(film, tmp_path / "a.mp4"))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(ClipError) as caught, open_regular(path, LIMITS):
            pass
    finally:
        os.seteuid(user)
    assert caught.value.status is ClipStatus.MISSING
    assert "ermission denied" in caught.value.reason


def test_item_53_a_store_that_cannot_be_written_stops_the_batch(film: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write"):
        list(preprocess_batch([Clip(id="x", path=film)], CONFIG, LIMITS, FacesStore(tmp_path / "file" / "store")))


# --- files that change


def test_item_38_a_file_that_grows_while_it_is_read_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(good())
    with pytest.raises(ClipError, match="written to while it was read") as caught, open_media(path, LIMITS):
        path.write_bytes(good() + b"more")
    assert caught.value.status is ClipStatus.MISSING and caught.value.status.transient


def test_item_38_a_frame_that_changes_while_the_folder_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "take", face_frames(3))
    with pytest.raises(ClipError, match="written to while it was read"), open_media(folder, LIMITS):
        (folder / "img_1.png").write_bytes(b"other")


def test_item_39_a_file_deleted_after_listing_is_missing(store: FacesStore, film: Path, tmp_path: Path) -> None:
    paths = [Path(shutil.copy(film, tmp_path / f"{i}.mp4")) for i in range(2)]
    clips = [Clip(id=p.name, path=p) for p in paths]
    paths[0].unlink()
    gone, there = preprocess_batch(clips, CONFIG, LIMITS, store)
    assert gone.error is not None and gone.error.status is ClipStatus.MISSING and gone.digest == ""
    assert there.error is None


def test_item_39_reading_goes_on_when_the_name_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(good())
    with open_media(path, LIMITS) as media:
        path.unlink()
        assert sum(1 for _ in media.frames(lambda index: False)) == 24


# --- size


def test_item_24_a_clip_of_hours_is_refused_in_seconds(store: FacesStore, tmp_path: Path) -> None:
    path = tmp_path / "hours.mkv"
    (picture,) = face_frames(1, 24, 32)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuvj420p"
        (packet,) = stream.encode(av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuvj420p"))
        data = bytes(packet)
        for i in range(20_000):
            copy = av.Packet(data)
            copy.stream, copy.pts, copy.dts, copy.time_base = stream, i, i, Fraction(1, 25)
            out.mux(copy)
    (made,) = preprocess_batch([Clip(id="h", path=path)], CONFIG, LimitsConfig(max_frames=19_999), store)
    assert made.error is not None and made.error.status is ClipStatus.TOO_LARGE and made.seconds < 20


def test_item_24_a_file_too_large_is_not_opened(film: Path) -> None:
    limits = LimitsConfig(max_bytes=1000)
    assert rejected(film, limits) is ClipStatus.TOO_LARGE


def test_item_25_one_group_of_a_thousand_frames_is_read_in_one_go(tmp_path: Path) -> None:
    frames = face_frames(100, 60, 80) * 10
    path = write_video(tmp_path / "v.mp4", frames, options={"g": "9999", "sc_threshold": "0", "preset": "ultrafast"})
    faces = faces_of(path, CONFIG.model_copy(update={"max_frames": 4}))
    assert faces.n_frames == 1000 and faces.ledger.frame.tolist() == [624, 749, 874, 999]


# --- noise


@pytest.mark.slow
@pytest.mark.parametrize(
    "suffix, codec", [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx")]
)
def test_noise_in_any_file_gives_an_answer(suffix: str, codec: str, store: FacesStore, tmp_path: Path) -> None:
    whole = film(suffix, codec=codec, options=())
    rng = random.Random(0)
    clips = []
    for i in range(60):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 5, 50, 500])):
            data[rng.randrange(len(data) if i % 2 else 400)] = rng.randrange(256)
        if i % 5 == 0:
            del data[rng.randrange(len(data)) :]
        (tmp_path / f"{i}{suffix}").write_bytes(data)
        clips.append(Clip(id=str(i), path=tmp_path / f"{i}{suffix}"))
    results = list(preprocess_batch(clips, CONFIG, LIMITED, store))
    assert len(results) == 60
    assert {status(m) for m in results} <= {s.value for s in ClipStatus} - {"timeout", "crashed", "rejected"}


@pytest.mark.slow
def test_500_files_150_of_them_hostile(tmp_path: Path) -> None:
    sound = [write_video(tmp_path / f"sound{i}.mp4", face_frames(4 + i % 20)) for i in range(35)]
    paths: list[Path] = []
    for i in range(350):
        target = tmp_path / f"good{i}.mp4"
        target.write_bytes(sound[i % 35].read_bytes() + bytes([i % 256, i // 256]))  # no two alike
        paths.append(target)
    hostile = [k for k in KINDS if k.item not in (10, 11, 12, 15, 18, 19) and "ok" not in k.answers]
    assert len(hostile) >= 60
    bad: dict[Path, frozenset[str]] = {}
    for i in range(150):
        kind = hostile[i % len(hostile)]
        folder = tmp_path / f"bad{i}"
        folder.mkdir()
        bad[kind.build(folder)] = kind.answers
    everything = paths + list(bad)
    random.Random(0).shuffle(everything)
    store, alone = FacesStore(tmp_path / "a"), FacesStore(tmp_path / "b")
    clips = [Clip(id=str(p).replace("\0", "0"), path=p) for p in everything]
    with ChildMemory() as memory:
        results = list(preprocess_batch(clips, CONFIG, LIMITED, store))
    assert 0 < memory.peak_kib < CHILD_KIB
    assert memory.batch_kib < 2 * 2**20  # the children at their largest, and what this process has grown by
    assert len(results) == len(everything)
    for made in results:
        if made.clip.path in bad:
            assert status(made) in bad[made.clip.path]
    for made in preprocess_batch([Clip(id=str(p), path=p) for p in paths], CONFIG, LIMITED, alone):
        assert made.error is None
        assert store.entries.path(made.key).read_bytes() == alone.entries.path(made.key).read_bytes()
