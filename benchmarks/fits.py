"""Whole fits of Table 4.1, to their end: the slowest epoch against the median, denormal numbers kept or as zero."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from fer_core.clips.clip import Clip
from fer_core.config import TrainConfig
from fer_core.dataset.table import FeatureTable, build_table
from fer_core.emotions import SIX
from fer_core.features.store import FeatureStore
from fer_core.models.fc_head import fit_head
from fer_core.runtime import child_environment

SUBJECTS, FRAMES, FEATURES = 37, 8, 1280  # as many frames as 222 clips have
SCALE = 0.1
TRAIN = TrainConfig(lr=0.005, batch_size=20, widths=(1024, 256), epochs=40, stopping="never")
ROUNDS = 3


def drawn_table(folder: Path) -> FeatureTable:
    """Return a table of small random features, 0 where a unit is off, like those of a backbone.

    They can be learnt, so units of a head die during the fit.
    """
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(SIX), FEATURES))
    clips, features = [], []
    for subject in range(SUBJECTS):
        shift = rng.normal(scale=0.5, size=FEATURES)
        for column, emotion in enumerate(SIX):
            name = f"s{subject}/{emotion}"
            clips.append(Clip(id=name, path=folder / name, subject=f"drawn:s{subject}", emotion=emotion))
            noise = rng.normal(scale=1.6, size=(FRAMES, FEATURES))
            features.append((SCALE * np.maximum(centres[column] + shift + noise, 0)).astype(np.float16))
    keys = [f"{i:032x}" for i in range(len(clips))]
    return build_table(clips, features, keys, FeatureStore(folder / "store"), {"fingerprint": "0" * 32})


def whole_fit() -> None:
    """Print median and maximum seconds of an epoch, seconds of the whole fit, and its last loss.

    The command-line argument is `kept` or `zero`, for denormal numbers.
    """
    if sys.argv[1] == "kept":  # `fit_head` sets the flag, so the setter is disabled
        torch.set_flush_denormal = lambda mode: False  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        table = drawn_table(Path(folder))
        found = fit_head(table, np.arange(table.n_clips), np.arange(0), TRAIN)
    seconds = [epoch.seconds for epoch in found.history.epochs]
    print(statistics.median(seconds), max(seconds), found.seconds, found.history.epochs[-1].loss)


def measured(kind: str) -> list[float]:
    """Return the numbers that `whole_fit` prints, in a process with the environment of a trial."""
    command = [sys.executable, "-c", "from benchmarks.fits import whole_fit; whole_fit()", kind]
    run = subprocess.run(command, env=child_environment(1), capture_output=True, text=True, check=True)
    return [float(number) for number in run.stdout.split()]


def main() -> None:
    """Print both, fitted in turn."""
    found: dict[str, list[list[float]]] = {"kept": [], "zero": []}
    for _ in range(ROUNDS):
        for kind, rows in found.items():
            rows.append(measured(kind))
    shown = "-".join(map(str, TRAIN.widths))
    print(
        f"{SUBJECTS * len(SIX) * FRAMES} frames of {FEATURES} drawn features, head {shown}-6, Adam at {TRAIN.lr}, "
        f"batch {TRAIN.batch_size}, {TRAIN.epochs} epochs, one thread; medians of {ROUNDS} fits each\n"
    )
    print("| denormal numbers | median epoch s | slowest epoch s | slowest / median | whole fit s | last loss |")
    print("| --- | --- | --- | --- | --- | --- |")
    for kind, rows in found.items():
        median, slowest, whole, loss = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {kind} | {median:.2f} | {slowest:.2f} | {slowest / median:.1f} | {whole:.1f} | {loss:.6g} |")


if __name__ == "__main__":
    main()
