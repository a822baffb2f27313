"""Executors for what has nothing to do with processes."""

from __future__ import annotations

from concurrent.futures import Executor, Future


class InProcess(Executor):
    """Runs each call at once, here."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future
