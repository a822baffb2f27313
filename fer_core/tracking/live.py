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
from fer_core.experiments.search.trial import epochs_of
from fer_core.tracking.run import Run

if TYPE_CHECKING:
    from fer_core.training.history import Epoch

log = logging.getLogger(__name__)

EVERY_S = 5.0  # short trials log nothing while they run


class Curves:
    """The epochs of a running trial, which a thread reads from the trial's folder and logs every few seconds.

    The trial may run in another process, also on another machine: it only writes its folder, and never waits for
    MLflow. Every epoch keeps the time at which it first ended, so that MLflow stores it once although the finished
    trial logs all of them again, and although a killed trial repeats the epochs after its last checkpoint.

    Args:
        run: the trial's run.
        folder: folder of the trial.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self._run, self._folder, self._ended = run, folder, threading.Event()
        self._sent = set[tuple[int, int]]()

    def send(self) -> None:
        """Log the epochs that have ended since the last call."""
        new: dict[int, list[Epoch]] = {}
        for key, epoch in epochs_of(self._folder).items():
            if key not in self._sent:
                new.setdefault(key[0], []).append(epoch)
        for fold, epochs in new.items():
            self._run.log_epochs(epochs, prefix=f"fold{fold}/")
            self._sent.update((fold, epoch.number) for epoch in epochs)

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
    return {key: epoch.ended_at for key, epoch in epochs_of(folder).items()}


def timed(epochs: Sequence[Epoch], fold: int, times: Mapping[tuple[int, int], int]) -> list[Epoch]:
    """Return epochs of a fold with the times at which they first ended."""
    return [replace(epoch, ended_at=times.get((fold, epoch.number), epoch.ended_at)) for epoch in epochs]


@contextmanager
def live_curves(run: Run | None, folder: Path) -> Iterator[None]:
    """Log the curves of the trial in `folder` to its run while it trains; without a run, nothing is logged."""
    if run is None:
        yield
        return
    curves = Curves(run, folder)
    thread = threading.Thread(target=curves.work, name=f"curves of {folder.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        curves.end()
        thread.join()
