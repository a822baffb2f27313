"""A batch of up to 100 000 clips: memory, time and bytes of everything around the scoring itself.

All clips are one content under many names, which is scored once, so the time is that of hashing, storing, reading and
writing. `python -m benchmarks.large_batch [CLIPS …]` measures other numbers of clips.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.front_end import canvas, source, write
from benchmarks.warm import untrained
from fer_core.config import LimitsConfig
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from flows.support.champion import score_into, summarize

SIZES = (1000, 10_000, 100_000)
LINKS = 50_000  # most names of a file; file systems allow about 65 000
N_FRAMES = 32  # of which the second half is read
TABLES = ("verdicts.csv", "verdicts.parquet", "verdicts.json", "frames.csv", "frames.parquet")


def main(*sizes: str) -> None:
    """Print a row for each number of clips; each runs in a process of its own."""
    print(f"Films of {N_FRAMES} frames. Peak: of the process that scores, with the network loaded.\n")
    print("| clips | peak before the batch, MB | peak, MB | CPU s | tables, MB | report, MB | pages |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for n in sizes or SIZES:
        command = [sys.executable, "-m", "benchmarks.large_batch", "--one", str(n)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def measure(n: int) -> str:
    """Score `n` clips and return a row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "film.mp4", canvas(source(None, folder)), N_FRAMES)
        (folder / "bundle").mkdir()
        (folder / "out").mkdir()
        (folder / "clips").mkdir()
        for i in range(n):
            if i % LINKS == 0:
                film = shutil.copy(folder / "film.mp4", folder / "clips" / f"clip-{i:06d}.mp4")
            else:
                os.link(film, folder / "clips" / f"clip-{i:06d}.mp4")
        limits = LimitsConfig(workers=1)
        scorer = ClipScorer(untrained(folder / "bundle"), limits=limits, store_root=folder / "store", version="1")
        scorer.score(folder / "film.mp4")
        before, started = peak_mb(), time.process_time()
        items = collect([folder / "clips"])
        batch = score_into(scorer, items, folder / "out", folder / "store")
        assert summarize(scorer, batch)["clips"] == n
        spent = time.process_time() - started
        pages = list((folder / "out").glob("report*.html"))
        tables = [folder / "out" / table for table in TABLES]
        mb = [sum(path.stat().st_size for path in paths) / 1e6 for paths in (tables, pages)]
        return f"| {n} | {before} | {peak_mb()} | {spent:.0f} | {mb[0]:.0f} | {mb[1]:.0f} | {len(pages)} |"


def peak_mb() -> int:
    """Return the largest memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(measure(int(sys.argv[2])))
    else:
        main(*sys.argv[1:])
