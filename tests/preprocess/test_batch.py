from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.errors import ClipStatus, StoreError
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.store import FacesStore
from tests.preprocess.conftest import CONFIG, LIMITS, faces_of
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video


def test_a_batch_gives_what_one_process_gives_in_order_and_the_second_run_does_no_work(
    store: FacesStore, tmp_path: Path
) -> None:
    paths = [write_video(tmp_path / f"{i}.mp4", face_frames(4 + i)) for i in range(5)]
    paths += [write_folder(tmp_path / "frames", face_frames(6)), tmp_path / "none.mp4"]
    (tmp_path / "text.mp4").write_text("hello " * 100)
    paths += [tmp_path / "text.mp4", write_video(tmp_path / "plain.mp4", plain_frames(4))]
    clips = [Clip(id=p.name, path=p) for p in paths]
    seen: list[tuple[int, int]] = []
    results = list(preprocess_batch(clips, CONFIG, LIMITS, store, tmp_path, lambda *done: seen.append(done)))
    assert [r.clip for r in results] == clips
    assert seen == [(i + 1, len(clips)) for i in range(len(clips))]
    for result in results[:6]:
        assert result.error is None and result.faces is not None and not result.cached
        alone = faces_of(result.clip.path)
        assert result.key == alone.key and result.digest == alone.clip_digest
        assert np.array_equal(result.faces.pixels, alone.pixels)
    assert [r.error.status for r in results[6:] if r.error] == [
        ClipStatus.MISSING,
        ClipStatus.UNSUPPORTED,
        ClipStatus.NO_FACE,
    ]
    again = list(preprocess_batch(clips, CONFIG, LIMITS, store, tmp_path))
    assert [r.cached for r in again] == [True] * 6 + [False, False, True]
    assert all(
        np.array_equal(a.faces.pixels, b.faces.pixels)
        for a, b in zip(results, again, strict=True)
        if a.faces and b.faces
    )


def test_item_54_the_same_content_is_decoded_once_and_every_row_is_answered(
    store: FacesStore, film: Path, tmp_path: Path
) -> None:
    copies = [Path(shutil.copy(film, tmp_path / f"{i}.mp4")) for i in range(6)]
    results = list(preprocess_batch([Clip(id=p.name, path=p) for p in copies], CONFIG, LIMITS, store))
    assert sum(not r.cached for r in results) == 1
    assert all(r.faces is not None and r.faces.n_used == 10 for r in results)


def test_an_empty_batch_is_empty(store: FacesStore) -> None:
    assert list(preprocess_batch([], CONFIG, LIMITS, store)) == []


def test_the_number_of_workers_does_not_show_in_the_bytes(tmp_path: Path) -> None:
    clips = [Clip(id=str(i), path=write_video(tmp_path / f"{i}.mp4", face_frames(4 + i))) for i in range(6)]
    stores = {n: FacesStore(tmp_path / f"store{n}") for n in (1, 3)}
    keys = {}
    for n, store in stores.items():
        limits = LIMITS.model_copy(update={"workers": n})
        keys[n] = [made.key for made in preprocess_batch(clips, CONFIG, limits, store)]
    assert keys[1] == keys[3]
    for key in keys[1]:
        assert stores[1].entries.path(key).read_bytes() == stores[3].entries.path(key).read_bytes()


def test_a_corrupt_entry_is_made_again(store: FacesStore, film: Path) -> None:
    clips = [Clip(id="x", path=film)]
    (first,) = preprocess_batch(clips, CONFIG, LIMITS, store)
    entry = store.entries.path(first.key)
    whole = entry.read_bytes()
    for broken in (b"", whole[:100], whole[:-1], b"\xff" * len(whole)):
        entry.write_bytes(broken)
        (again,) = preprocess_batch(clips, CONFIG, LIMITS, store)
        assert again.error is None and again.faces is not None and entry.read_bytes() == whole


def test_an_apex_makes_other_faces_of_the_same_content(store: FacesStore, film: Path) -> None:
    clips = [Clip(id="a", path=film), Clip(id="b", path=film, apex=9), Clip(id="c", path=film, apex=19)]
    a, b, c = preprocess_batch(clips, CONFIG, LIMITS, store)
    assert a.digest == b.digest == c.digest and len({a.key, b.key, c.key}) == 3
    assert a.faces is not None and b.faces is not None and c.faces is not None
    assert b.faces.apex == 9 and np.array_equal(a.faces.pixels, c.faces.pixels)


def test_a_clip_whose_apex_it_does_not_have_is_an_answer(store: FacesStore, film: Path) -> None:
    (made,) = preprocess_batch([Clip(id="x", path=film, apex=99)], CONFIG, LIMITS, store)
    assert made.error is not None and made.error.status is ClipStatus.DAMAGED and "frame 99" in made.error.reason


def test_item_83_a_full_disk_is_told_and_leaves_nothing(store: FacesStore, film: Path) -> None:
    whole = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, whole[1]))  # a child inherits it
    try:
        with pytest.raises(StoreError, match=r"cannot write.*free some space or choose another workspace"):
            list(preprocess_batch([Clip(id="x", path=film)], CONFIG, LIMITS, store))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, whole)
    assert [p for p in store.root.rglob("*") if p.is_file()] == []
    (made,) = preprocess_batch([Clip(id="x", path=film)], CONFIG, LIMITS, store)
    assert made.error is None


RUN = """
import sys
from pathlib import Path
from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.store import FacesStore
clips = [Clip(id=path.stem, path=path) for path in sorted(Path(sys.argv[1]).glob("*.mp4"))]
for made in preprocess_batch(clips, PreprocessConfig(), LimitsConfig(workers=2), FacesStore(Path(sys.argv[2]))):
    assert made.faces.n_used
"""


def entries(store: FacesStore) -> dict[str, bytes]:
    return {key: store.entries.path(key).read_bytes() for key in store.entries.keys()}  # noqa: SIM118


def start(films: Path, store: FacesStore) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, str(films), str(store.root)])


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for i in range(8):
        write_video(folder / f"{i}.mp4", face_frames(20 + i, 240, 320), options={"preset": "ultrafast"})
    return folder


def test_item_95_two_runs_on_one_store_do_no_harm(films: Path, store: FacesStore, tmp_path: Path) -> None:
    runs = [start(films, store) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    alone = FacesStore(tmp_path / "alone")
    assert start(films, alone).wait() == 0
    assert entries(store) == entries(alone) and len(entries(store)) == 8


@pytest.mark.slow
def test_item_77_killed_at_random_moments_a_rerun_gives_the_same_bytes(films: Path, tmp_path: Path) -> None:
    """$FERFLOW_KILLS times, 5 by default."""
    alone = FacesStore(tmp_path / "alone")
    started = time.monotonic()
    assert start(films, alone).wait() == 0
    seconds = time.monotonic() - started
    rng = random.Random(0)
    for i in range(int(os.environ.get("FERFLOW_KILLS", "5"))):
        store = FacesStore(tmp_path / f"store{i}")
        run = start(films, store)
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        run.kill()
        run.wait()
        for key, data in entries(store).items():
            assert data == entries(alone)[key]
        assert start(films, store).wait() == 0
        assert entries(store) == entries(alone)
