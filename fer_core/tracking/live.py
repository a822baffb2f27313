"""Curves of a trial in MLflow while it trains."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fer_core.errors import TrackingError
from fer_core.tracking.run import Run

if TYPE_CHECKING:
    from fer_core.training.history import Epoch

log = logging.getLogger(__name__)

EVERY_S = 5.0  # short trials log nothing while they run


class Curves:
    """The epochs of a running fit, which a thread logs every few seconds; the fit itself never waits for MLflow.

    Every epoch keeps its own time, so that MLflow stores it once although the finished trial logs all of them again.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._lock, self._ended = run, threading.Lock(), threading.Event()
        self._new: dict[int, list[Epoch]] = {}

    def add(self, fold: int, epoch: Epoch) -> None:
        """Take an epoch of a fold."""
        with self._lock:
            self._new.setdefault(fold, []).append(epoch)

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


@contextmanager
def live_curves(run: Run | None, folder: Path) -> Iterator[Curves | None]:
    """Log the curves of the trial in `folder` to its run while it trains; None without a run."""
    if run is None:
        yield None
        return
    curves = Curves(run)
    thread = threading.Thread(target=curves.work, name=f"curves of {folder.name}", daemon=True)
    thread.start()
    try:
        yield curves
    finally:
        curves.end()
        thread.join()
