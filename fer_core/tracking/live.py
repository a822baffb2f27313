"""Curves of a trial in MLflow while it trains."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fer_core.errors import TrackingError
from fer_core.tracking.run import Run

if TYPE_CHECKING:
    from fer_core.training.history import Epoch

log = logging.getLogger(__name__)

EVERY_S = 5.0  # short trials log nothing while they run
_TIMES = "epoch-times.txt"  # in the trial's folder: fold, epoch, time and an end mark in each line


class Curves:
    """The epochs of a running fit, which a thread logs every few seconds; the fit itself never waits for MLflow.

    Every epoch keeps the time at which it first ended, so that MLflow stores it once although the finished trial logs
    all of them again, and although a killed trial repeats the epochs after its last checkpoint.

    Args:
        run: the trial's run.
        folder: folder of the trial, which keeps the times.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._lock, self._ended = run, threading.Lock(), threading.Event()
        self._new: dict[int, list[Epoch]] = {}
        self._file, self._times = folder / _TIMES, first_times(folder)

    def add(self, fold: int, epoch: Epoch) -> None:
        """Take an epoch of a fold."""
        with self._lock:
            if (fold, epoch.number) not in self._times:
                self._times[fold, epoch.number] = epoch.ended_at
                with self._file.open("a") as file:
                    file.write(f"\n{fold} {epoch.number} {epoch.ended_at} .")
            self._new.setdefault(fold, []).extend(timed([epoch], fold, self._times))

    def send(self) -> None:
        """Log what was added since the last call."""
        with self._lock:
            new, self._new = self._new, {}
        for fold, epochs in new.items():
            self._run.log_epochs(epochs, prefix=f"fold{fold}/")

    def work(self) -> None:
        """Send until `end` is called; an error of MLflow ends it, and the finished trial logs everything."""
        while not self._ended.wait(EVERY_S):
            try:
                self.send()
            except TrackingError as exc:
                log.warning("the curves are logged when the trial has ended: %s", exc)
                return

    def end(self) -> None:
        self._ended.set()


def first_times(folder: Path) -> dict[tuple[int, int], int]:
    """Return (fold, epoch) -> time in ms at which that epoch of the trial in `folder` first ended."""
    path = folder / _TIMES
    lines = path.read_text().splitlines() if path.is_file() else []
    found: dict[tuple[int, int], int] = {}
    for words in (line.split() for line in lines):
        if len(words) == 4 and words[3] == ".":  # else a kill left half a line
            fold, epoch, at = map(int, words[:3])
            found.setdefault((fold, epoch), at)
    return found


def timed(epochs: Sequence[Epoch], fold: int, times: Mapping[tuple[int, int], int]) -> list[Epoch]:
    """Return epochs of a fold with the times at which they first ended."""
    return [replace(epoch, ended_at=times.get((fold, epoch.number), epoch.ended_at)) for epoch in epochs]


@contextmanager
def live_curves(run: Run | None, folder: Path) -> Iterator[Curves | None]:
    """Log the curves of the trial in `folder` to its run while it trains; None without a run."""
    if run is None:
        yield None
        return
    curves = Curves(run, folder)
    thread = threading.Thread(target=curves.work, name=f"curves of {folder.name}", daemon=True)
    thread.start()
    try:
        yield curves
    finally:
        curves.end()
        thread.join()
