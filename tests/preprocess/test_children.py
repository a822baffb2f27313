"""The child process: what it may do, how it ends, and that it never takes the batch along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, FerError
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.children import Child, Children, WarmChildren
from fer_core.preprocess.store import FacesStore
from tests.preprocess.conftest import CONFIG, LIMITS, faces_of
from tests.preprocess.films import face_frames, write_video
from tests.preprocess.hostile import huge

OTHERS: frozenset[int] = frozenset()
SLOW_FRAMES = 2000  # a clip that keeps a child busy for many seconds
linux = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = face_frames(40, 240, 320) * (SLOW_FRAMES // 40)
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", frames, options={"preset": "ultrafast"})


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children(LIMITS)
    yield made
    made.stop()


def pids(parent: int | None = None) -> list[int]:
    """The decoding processes of a parent, this process by default."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            of = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if (
            b"fer_core.preprocess.sandbox" in command
            and of == (parent or os.getpid())
            and int(entry.name) not in OTHERS
        ):
            found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def _only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that other tests keep warm are not counted."""
    monkeypatch.setattr(sys.modules[__name__], "OTHERS", frozenset(pids()))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def request(path: Path, store: FacesStore) -> dict[str, object]:
    config = CONFIG.model_dump(mode="json")
    return {"id": "x", "apex": None, "digest": "", "configs": [config], "change": None, "store": str(store.root)}


@linux
def test_a_child_has_no_torch_no_core_dump_little_memory_and_none_of_our_secrets(
    children: Children, store: FacesStore, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesame")
    with pytest.raises(ClipError):
        children.ask("faces", film, **request(film, store))
    (pid,) = pids()
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "libavcodec" in maps and "cv2" in maps and "torch" not in maps
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max core")).split()[4] == "0"
    assert "unlimited" not in next(line for line in limits if line.startswith("Max address space")).split()[3]
    assert b"sesame" not in Path(f"/proc/{pid}/environ").read_bytes()
    assert os.readlink(f"/proc/{pid}/fd/1") == os.devnull == os.readlink(f"/proc/{pid}/fd/2")


def test_item_40_content_replaced_during_the_run_is_rejected(children: Children, store: FacesStore, film: Path) -> None:
    with pytest.raises(ClipError, match="replaced while the batch ran") as caught:
        children.ask("faces", film, **request(film, store) | {"digest": "0" * 32})
    assert caught.value.status is ClipStatus.REJECTED
    assert list(store.entries.keys()) == []


@linux
def test_item_85_a_killed_child_costs_its_clip_only(store: FacesStore, film: Path, long_film: Path) -> None:
    clips = [Clip(id="long", path=long_film), Clip(id="short", path=film)]

    def kill() -> None:
        wait_for(lambda: pids() and store.entries.root.is_dir())
        time.sleep(0.5)
        os.kill(pids()[0], signal.SIGSEGV)

    killer = threading.Thread(target=kill)
    killer.start()
    one = LIMITS.model_copy(update={"workers": 1})
    long, short = preprocess_batch(clips, CONFIG, one, store)
    killer.join()
    assert long.error is not None and long.error.status is ClipStatus.CRASHED and "SIGSEGV" in long.error.reason
    assert short.error is None and short.faces is not None
    assert np.array_equal(short.faces.pixels, faces_of(film).pixels)


def test_a_clip_that_takes_too_long_is_stopped_and_the_next_one_goes_on(
    store: FacesStore, film: Path, long_film: Path
) -> None:
    limits = LimitsConfig(timeout_s=2.0, workers=1)
    long, short = preprocess_batch([Clip(id="l", path=long_film), Clip(id="s", path=film)], CONFIG, limits, store)
    assert long.error is not None and long.error.status is ClipStatus.TIMEOUT
    assert long.error.reason == "not done after 2 s (limits.timeout_s)"
    assert short.error is None


def test_a_long_clip_has_more_time_for_each_minute_decoded() -> None:
    answer = [b"ready", b".", b".", b'{"status": "ok"}']
    child = Child(LimitsConfig(timeout_s=1.0, timeout_per_minute_s=1.0))
    script = "import sys, time\nfor line in {}:\n    print(line, flush=True); time.sleep(0.8)\n"
    for lines, hangs in ((answer, False), (answer[:2], True)):
        code = script.format([line.decode() for line in lines]) + "time.sleep(9)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
            assert child._line(process, 20.0) == b"ready\n"
            if hangs:
                with pytest.raises(TimeoutError, match=r"not done after 2 s \(limits.timeout_s, 1 min of it decoded"):
                    child._timed_answer(process)
            else:
                assert child._timed_answer(process) == b'{"status": "ok"}\n'
            process.kill()


def test_a_clip_that_needs_too_much_memory_is_too_large(store: FacesStore, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(huge())
    limits = LimitsConfig(memory_mb=256, max_pixels=8192**2, workers=1)
    (result,) = preprocess_batch([Clip(id="v", path=path)], CONFIG, limits, store)
    assert result.error is not None and result.error.status is ClipStatus.TOO_LARGE
    assert "memory_mb" in result.error.reason


@pytest.mark.parametrize("said", [b"", b"no json\n", b"[1]\n", b'{"status": "king"}\n', b'{"a": 1}\n'])
def test_what_is_no_answer_is_a_crash(said: bytes, monkeypatch: pytest.MonkeyPatch, film: Path) -> None:
    child = Child(LIMITS)
    child._process = process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdin.readline(); sys.stdout.buffer.write({said!r})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with pytest.raises(ClipError) as caught:
        child.ask({})
    assert caught.value.status is ClipStatus.CRASHED and process.returncode is not None


@linux
def test_closing_a_batch_ends_its_children_at_once(store: FacesStore, long_film: Path, film: Path) -> None:
    before = threading.active_count()
    clips = [Clip(id="short", path=film), *(Clip(id=f"{i}", path=long_film, apex=1500 + i) for i in range(6))]
    batch = preprocess_batch(clips, CONFIG, LIMITS, store)
    assert next(batch).clip.id == "short"
    running = pids()
    assert running
    started = time.monotonic()
    batch.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5
    assert not any(alive(pid) for pid in running) and not pids()
    assert threading.active_count() == before


@pytest.fixture
def warm() -> Iterator[WarmChildren]:
    made = WarmChildren(LIMITS)
    yield made
    while (child := made.take()).reusable:
        child.end()


def faces_made(path: Path, store: FacesStore, warm: WarmChildren, apex: int | None = None) -> ClipError | None:
    """A batch of one clip, and what its child said."""
    (made,) = preprocess_batch([Clip(id="x", path=path, apex=apex)], CONFIG, LIMITS, store, warm=warm)
    return made.error


@linux
def test_a_warm_child_does_the_next_batch_too(store: FacesStore, film: Path, warm: WarmChildren) -> None:
    assert faces_made(film, store, warm, apex=10) is None
    (first,) = pids()
    assert faces_made(film, store, warm, apex=12) is None
    assert pids() == [first]


@linux
def test_a_child_that_took_a_bad_file_is_replaced(
    store: FacesStore, film: Path, warm: WarmChildren, tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_bytes(film.read_bytes()[:400])
    assert faces_made(film, store, warm, apex=10) is None
    (first,) = pids()
    assert faces_made(tmp_path / "bad.mp4", store, warm) is not None
    assert pids() == [] and not alive(first)
    assert faces_made(film, store, warm, apex=12) is None and first not in pids()


@linux
def test_a_warm_child_that_died_is_replaced_and_no_clip_pays_for_it(
    store: FacesStore, film: Path, warm: WarmChildren
) -> None:
    assert faces_made(film, store, warm, apex=10) is None
    (first,) = pids()
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)  # all its threads
    assert faces_made(film, store, warm, apex=12) is None and first not in pids()


@linux
def test_a_batch_closed_early_keeps_no_child_that_is_at_work(
    store: FacesStore, film: Path, long_film: Path, warm: WarmChildren
) -> None:
    clips = [Clip(id="short", path=film), Clip(id="long", path=long_film)]
    batch = preprocess_batch(clips, CONFIG, LIMITS, store, warm=warm)
    assert next(batch).clip.id == "short"
    batch.close()  # type: ignore[attr-defined]
    left = pids()
    assert len(left) <= 1
    assert faces_made(film, store, warm, apex=12) is None and pids() == (left or pids())


@linux
def test_a_pool_that_must_be_ready_starts_a_child_before_it_is_asked(store: FacesStore, film: Path) -> None:
    made = WarmChildren(LIMITS, ready=True)
    child = made.take()  # waits for the start, and starts no second one
    assert child.reusable
    made.keep(child)
    assert made.take() is child
    child.end()


@linux
def test_warm_children_end_with_what_keeps_them(store: FacesStore, film: Path) -> None:
    warm = WarmChildren(LIMITS)
    assert faces_made(film, store, warm) is None
    (first,) = pids()
    del warm
    wait_for(lambda: not alive(first))


def test_children_of_other_limits_are_not_taken(store: FacesStore, film: Path, warm: WarmChildren) -> None:
    other = LIMITS.model_copy(update={"memory_mb": 512})
    with pytest.raises(ValueError, match="other limits"):
        next(preprocess_batch([Clip(id="x", path=film)], CONFIG, other, store, warm=warm))


IMPORTS = """
import sys
from pathlib import Path
from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.store import FacesStore
"""
PARENT = f"""{IMPORTS}
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job would ignore
clips = [Clip(id=str(i), path=Path(sys.argv[1]), apex=1500 + i) for i in range(8)]
for made in preprocess_batch(clips, PreprocessConfig(), LimitsConfig(workers=2), FacesStore(Path(sys.argv[2]))):
    print(made.clip.id, made.error)
"""


@linux
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT], ids=["item_80_killed", "item_81_interrupted"])
def test_children_do_not_outlive_their_parent(blow: signal.Signals, store: FacesStore, long_film: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(long_film), str(store.root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_for(lambda: len(pids(parent.pid)) == 2 and store.entries.root.is_dir())
        time.sleep(0.5)
        children = pids(parent.pid)
        parent.send_signal(blow)
        parent.wait(timeout=30)  # 10 s on an idle machine
        wait_for(lambda: not any(alive(pid) for pid in children), seconds=30)
    finally:
        parent.kill()
        parent.communicate()
    assert parent.returncode in (-blow, 130)
    assert all(store.get(key) is not None for key in store.entries.keys())  # noqa: SIM118


FORKING = f"""{IMPORTS}
import os, time
from fer_core.preprocess.children import WarmChildren
limits = LimitsConfig(workers=1)
warm = WarmChildren(limits)
clip = Clip(id="x", path=Path(sys.argv[1]))
(made,) = preprocess_batch([clip], PreprocessConfig(), limits, FacesStore(Path(sys.argv[2])), warm=warm)
if os.fork() == 0:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print("forked", flush=True)
sys.stdin.read()
"""


@linux
@pytest.mark.parametrize("blow", [signal.SIGKILL, None], ids=["killed", "ended"])
def test_a_warm_child_ends_with_its_parent_though_a_fork_of_it_lives(
    blow: signal.Signals | None, store: FacesStore, film: Path
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", FORKING, str(film), str(store.root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert parent.stdin is not None and parent.stdout is not None
    try:
        assert parent.stdout.readline() == b"forked\n"
        (child,) = pids(parent.pid)
        if blow is None:
            parent.stdin.close()
        else:
            parent.send_signal(blow)
        parent.wait(timeout=30)
        wait_for(lambda: not alive(child), seconds=30)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()


SEAMS = {
    "before_the_entry_is_written": ("fer_core.store", "secrets.token_hex"),
    "before_the_entry_is_synced": ("fer_core.store", "os.fsync"),
    "before_the_entry_is_renamed": ("fer_core.store", "os.replace"),
    "while_the_faces_are_made": ("fer_core.preprocess.frame_rows", "equalize_by"),
}
KILLED = """
import importlib, os, signal, sys
from pathlib import Path
from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.preprocess.pipeline import preprocess_into
from fer_core.preprocess.store import FacesStore
module, name = sys.argv[3:5]
owner = importlib.import_module(module)
*outer, last = name.split(".")
for part in outer:
    owner = getattr(owner, part)
setattr(owner, last, lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL))
path = Path(sys.argv[1])
clip, store = Clip(id="x", path=path), FacesStore(Path(sys.argv[2]))
preprocess_into(store, clip, [PreprocessConfig()], LimitsConfig(), clip_digest(path))
"""


@pytest.mark.parametrize("seam", SEAMS)
def test_item_77_a_kill_leaves_no_half_entry_and_a_rerun_gives_the_same_bytes(
    seam: str, store: FacesStore, film: Path, tmp_path: Path
) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, str(film), str(store.root), *SEAMS[seam]], check=False)
    assert run.returncode == -signal.SIGKILL
    assert list(store.entries.keys()) == []
    other = FacesStore(tmp_path / "other")
    for target in (store, other):
        (made,) = preprocess_batch([Clip(id="x", path=film)], CONFIG, LIMITS, target)
        assert made.error is None and not made.cached
    assert store.entries.path(made.key).read_bytes() == other.entries.path(made.key).read_bytes()


def test_a_batch_runs_in_a_daemonic_worker_and_without_a_main_guard(store: FacesStore, film: Path) -> None:
    """As in a Dask worker; a multiprocessing pool is refused there."""
    script = f"""{IMPORTS}
import multiprocessing
def work():
    clips, store = [Clip(id="x", path=Path(sys.argv[1]))], FacesStore(Path(sys.argv[2]))
    print("faces", sum(m.faces.n_used for m in preprocess_batch(clips, PreprocessConfig(), LimitsConfig(), store)))
process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
process.start(); process.join(); sys.exit(process.exitcode)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, str(film), str(store.root)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and "faces 10" in run.stdout, run.stderr


PEAK = """
import sys
from pathlib import Path
from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.preprocess.pipeline import preprocess_into
from fer_core.preprocess.store import FacesStore
path, store = Path(sys.argv[1]), FacesStore(Path(sys.argv[2]))
preprocess_into(store, Clip(id="x", path=path), [PreprocessConfig()], LimitsConfig(), clip_digest(path))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@linux
@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_clip(store: FacesStore, tmp_path: Path) -> None:
    peaks = {}
    for n in (120, 1920):
        film = write_video(
            tmp_path / f"{n}.mp4", face_frames(40, 240, 320) * (n // 40), options={"preset": "ultrafast"}
        )
        command = [sys.executable, "-c", PEAK, str(film), str(store.root)]
        peaks[n] = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert peaks[1920] <= 1.05 * peaks[120], peaks


def test_a_child_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, store: FacesStore, film: Path) -> None:
    broken = store.root / "broken"
    (broken / "av").mkdir(parents=True)
    (broken / "av" / "__init__.py").write_text("raise ImportError('av is not whole')")
    monkeypatch.setattr(sys, "path", [str(broken), *sys.path])
    with pytest.raises(FerError, match="no decoding process starts: ImportError: av is not whole"):
        list(preprocess_batch([Clip(id="x", path=film)], CONFIG, LIMITS, store))
