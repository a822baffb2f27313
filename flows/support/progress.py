"""Progress of running flows for the terminal that started them; the UI has its own bars (`artifacts.py`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Watcher = Callable[[str, int, int], None]
_watchers: list[Watcher] = []  # not a context variable, which threads do not inherit


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Call `watcher(what, done, total)` at every report of progress until the end of the block."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def report(what: str, done: int, total: int) -> None:
    """Report to all watchers that `done` of `total` pieces of `what` are done."""
    for watcher in _watchers:
        watcher(what, done, total)
