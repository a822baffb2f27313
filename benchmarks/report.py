"""The page of a scored batch in Chromium: its size, and the time until it can be used, by number of clips."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.front_end import source
from benchmarks.warm import untrained
from fer_core.reports.scores import write_report
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.scorer import ClipScorer

SIZES = (100, 1000, 10_000)
ROUNDS = 5


def main() -> None:
    """Print a row for each number of clips."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        (folder / "bundle").mkdir()
        scorer = ClipScorer(untrained(folder / "bundle"), name="face-emotion", version="1")
        row = scorer.score(source(None, folder))
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        print(
            f"Medians of {ROUNDS} in Chromium {chromium.version}; from the address to the end of the page's script.\n"
        )
        print("| clips | MB | opens in s |")
        print("| ---: | ---: | ---: |")
        for n in SIZES:
            page = folder / f"{n}.html"
            write_report(varied(row, n), scorer, page)
            taken = []
            for _ in range(ROUNDS):
                tab = chromium.new_page()
                tab.goto(page.as_uri())
                taken.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
                tab.close()
            print(f"| {n} | {page.stat().st_size / 1e6:.1f} | {statistics.median(taken):.2f} |")
        chromium.close()


def varied(row: ClipScore, n: int) -> list[ClipScore]:
    """Return `n` rows with the row's face, and scores of their own."""
    rng = np.random.default_rng(0)
    assert row.frame_scores is not None
    made = []
    for i in range(n):
        frames = rng.dirichlet(np.full(len(row.classes), 0.6), len(row.frame_scores))
        scores = frames.mean(axis=0)
        emotion = str(row.classes[int(scores.argmax())])
        made.append(
            replace(
                row, clip=f"clip-{i:05d}", digest=f"{i:032x}", emotion=emotion, probabilities=scores,
                frame_scores=frames, subject=f"s{i % 50}",
                label=emotion if i % 3 else str(row.classes[i % len(row.classes)]),
            )
        )  # fmt: skip
    return made


if __name__ == "__main__":
    main()
