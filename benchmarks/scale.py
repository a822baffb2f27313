"""A million clips: CPU hours, bytes and rows from constants measured here, and the time on many workers, simulated.

`python -m benchmarks.scale [VIDEO]` takes a drawn face, or a video, scaled to 640x480. The simulation of the queue has
to foretell a measured run on two Dask workers first; if it does not, the table for more workers is not printed.
"""

from __future__ import annotations

import heapq
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.front_end import canvas, source, write
from benchmarks.report import varied
from benchmarks.warm import cpu_s, untrained
from fer_core.clips.clip import Clip
from fer_core.config import BackboneConfig, LimitsConfig, PreprocessConfig, RunnerConfig
from fer_core.features.load_backbone import load_backbone
from fer_core.features.store import FeatureStore
from fer_core.preprocess.clip_rows import store_faces
from fer_core.preprocess.store import FacesStore
from fer_core.scoring.inputs import Item
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.tables import write_tables

MILLION = 1_000_000
N_FRAMES = 90  # of a clip: 3.6 s at 25 frames a second
USED = PreprocessConfig(max_frames=8)
ONE = LimitsConfig(workers=1)
CLIPS = 24  # scored and stored for the constants
ROWS = 2000  # written for the bytes of a row
BATCHES, CLIPS_A_BATCH = 16, 3
EMPTY = 100  # batches without work, for the coordinator's time
ROUNDS = 2
BELIEVED = 0.15  # largest relative error of the foretold time on two workers
WORKERS = (2, 20, 200, 2000)
BATCH_OF_FLOW = 64  # clips; flows/support/prepare.py


def makespan(batches: Iterable[float], workers: int, hand_out_s: float = 0.0) -> float:
    """Return the seconds until all batches are done: each free worker takes the next, and one coordinator hands out.

    Args:
        batches: seconds of each batch on one worker, in the order in which they are handed out.
        workers: number of workers; at least 1.
        hand_out_s: seconds that the coordinator spends on each batch; it serves one batch at a time.
    """
    free = [0.0] * workers  # when each worker is free, as a heap
    coordinator = end = 0.0
    for seconds in batches:
        coordinator = max(coordinator, free[0]) + hand_out_s
        heapq.heapreplace(free, coordinator + seconds)
        end = max(end, coordinator + seconds)
    return end


def main(video: str | None = None) -> None:
    """Print the constants, a million clips by them, and the simulated time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = canvas(source(video, folder))
        clips = films(folder / "clips", frames, [N_FRAMES] * CLIPS)
        faces_s = constants(clips, folder)
        print()
        queue(
            films(folder / "queue", frames, [30 + 90 * (i % 7) for i in range(BATCHES * CLIPS_A_BATCH)]),
            folder,
            faces_s,
        )


def films(folder: Path, frames: list[Any], lengths: Sequence[int]) -> list[Clip]:
    """Write a film of each length, every one with its own content."""
    folder.mkdir()
    made = []
    for i, n in enumerate(lengths):
        turned = frames[i % len(frames) :] + frames[: i % len(frames)]
        turned[0] = turned[0].copy()
        turned[0][:2, : 8 + i] = 255  # so that no film is another's copy
        made.append(Clip(id=f"film-{i}", path=write(folder / f"{i}.mp4", turned, n), subject=f"s{i}"))
    return made


def constants(clips: list[Clip], folder: Path) -> float:
    """Print the table of one clip and of a million; return the CPU seconds of a clip's faces."""
    started = cpu_s()
    rows = store_faces(clips, USED, ONE, folder / "store")
    faces_s = (cpu_s() - started) / len(clips)
    backbone, features = load_backbone(BackboneConfig()), FeatureStore(folder / "store")
    found = [FacesStore(folder / "store").get(row.key) for row in rows]
    features.extract(found[0], backbone)  # type: ignore[arg-type]  # the first call of a network is slow
    started = cpu_s()
    for faces in found[1:]:
        features.extract(faces, backbone)  # type: ignore[arg-type]
    features_s = (cpu_s() - started) / (len(clips) - 1)
    (folder / "bundle").mkdir()
    scorer = ClipScorer(untrained(folder / "bundle"), name="face-emotion", version="1", limits=ONE)
    started = cpu_s()
    scored = list(scorer.score_many([Item(clip) for clip in clips]))
    score_s = (cpu_s() - started) / len(clips)
    (folder / "out").mkdir()
    write_tables(varied(scored[0], ROWS), scorer, folder / "out")
    sizes = {
        "file of a clip": sum(clip.path.stat().st_size for clip in clips) / len(clips),
        "store: faces": bytes_below(folder / "store" / "faces") / len(clips),
        "store: features": bytes_below(folder / "store" / "features") / len(clips),
        **{
            f"`{name}`": (folder / "out" / name).stat().st_size / ROWS
            for name in ("verdicts.parquet", "verdicts.csv", "frames.parquet")
        },
    }
    frames = statistics.mean(row.n_selected for row in rows)
    print(
        f"Films of {N_FRAMES} frames at 640x480, {frames:.0f} used of each, network {BackboneConfig().label}; one "
        "thread.\n"
    )
    print("| | one clip | a million clips |\n| --- | ---: | ---: |")
    for what, seconds in (
        ("CPU: faces (`preprocess`)", faces_s), ("CPU: features (once a network)", features_s),
        ("CPU: verdict of a new clip, all steps (`score`)", score_s),
    ):  # fmt: skip
        print(f"| {what} | {seconds:.3f} s | {seconds * MILLION / 3600:.0f} h |")
    print("| GPU: features, fine-tuning | not measured | not measured |")
    for what, size in sizes.items():
        print(f"| bytes: {what} | {size / 1e3:.1f} kB | {size * MILLION / 1e9:.1f} GB |")
    print("| rows: `verdicts` | 1 | 1 000 000 |")
    print(f"| rows: `frames` | {frames:.0f} | {frames * MILLION:.0f} |".replace("000000", " 000 000"))
    return faces_s


def bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def queue(clips: list[Clip], folder: Path, faces_s: float) -> None:
    """Print how well the simulation foretells two Dask workers, and the time on more, if it foretells them."""
    found = measure(clips, folder)
    error = statistics.median(f / m - 1 for f, m in zip(found.foretold, found.measured, strict=True))
    print(
        f"{BATCHES} batches of {CLIPS_A_BATCH} clips of 30 to 570 frames, {ROUNDS} times: one worker "
        f"{statistics.median(map(sum, found.alone)):.1f} s, two Dask workers {statistics.median(found.measured):.1f} "
        f"s, simulated {statistics.median(found.foretold):.1f} s: median error {error:+.0%}.\nThe coordinator hands "
        f"out a batch in {1e3 * found.hand_out_s:.0f} ms, {1e3 * found.hand_out_cpu_s:.0f} ms of it CPU time; the load "
        f"of the machine was {os.getloadavg()[2]:.1f}.\n"
    )
    if abs(error) > BELIEVED:
        print(f"That is off by more than {BELIEVED:.0%}: the simulation is not believed. Repeat it on a quiet machine.")
        return
    alone = list(itertools.chain(*found.alone))
    spread = [BATCH_OF_FLOW * faces_s * seconds / statistics.mean(alone) for seconds in alone]
    batches = list(itertools.islice(itertools.cycle(spread), MILLION // BATCH_OF_FLOW))
    print(
        f"Faces of a million clips in {len(batches)} batches of {BATCH_OF_FLOW}, simulated, a worker is one core. The "
        "coordinator as slow as measured, and on an idle machine (its CPU time alone):\n"
    )
    print("| workers | hours | workers busy | hours, idle coordinator | workers busy |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for workers in WORKERS:
        cells = []
        for hand_out_s in (found.hand_out_s, found.hand_out_cpu_s):
            seconds = makespan(batches, workers, hand_out_s)
            cells += [f"{seconds / 3600:.2f}", f"{sum(batches) / workers / seconds:.0%}"]
        print(f"| {workers} | {' | '.join(cells)} |")


@dataclass(frozen=True)
class Measured:
    """Runs on one worker and on two.

    Args:
        alone: seconds of each batch on one worker, by round.
        foretold, measured: seconds of all batches on two workers, by round.
        hand_out_s, hand_out_cpu_s: seconds, and CPU seconds, of the coordinator for each batch.
    """

    alone: list[list[float]]
    foretold: list[float]
    measured: list[float]
    hand_out_s: float
    hand_out_cpu_s: float


def measure(clips: list[Clip], folder: Path) -> Measured:
    """Store the faces of batches on one worker and on two, in turn."""
    os.environ.update({"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"})
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    from flows.support.runner import run_batches
    from flows.support.temporary import temporary_server

    @task(cache_policy=NO_CACHE, persist_result=False)
    def batch(clips: Sequence[Clip], store: Path) -> tuple[float, float]:
        """Store the faces, and return when that began and ended."""
        started = time.time()
        if clips:
            store_faces(clips, USED, ONE, store)
        return started, time.time()

    @flow(persist_result=False)
    def run(kind: str, batches: Sequence[Sequence[Clip]], store: Path) -> list[tuple[float, float]]:
        return list(run_batches(batch, [(some, store) for some in batches], RunnerConfig(kind=kind)))  # type: ignore[arg-type]

    parts = [clips[i : i + CLIPS_A_BATCH] for i in range(0, len(clips), CLIPS_A_BATCH)]
    alone, foretold, measured = [], [], []
    with temporary_server():
        run("threads", [()], folder)  # imports
        before = time.process_time()
        empty = run("dask", [()] * EMPTY, folder)
        hand_out_cpu = (time.process_time() - before) / EMPTY
        hand_out = (max(end for _, end in empty) - min(start for start, _ in empty)) / EMPTY
        for i in range(ROUNDS):
            alone.append([end - start for start, end in run("threads", parts, folder / f"one-{i}")])
            both = run("dask", parts, folder / f"two-{i}")
            foretold.append(makespan(alone[-1], 2, hand_out))
            measured.append(max(end for _, end in both) - min(start for start, _ in both))
    return Measured(alone, foretold, measured, hand_out, hand_out_cpu)


if __name__ == "__main__":
    main(*sys.argv[1:2])
