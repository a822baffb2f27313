"""Run each trial in a fresh process: its memory (a GPU's too) is freed, and its crash ends no other trial."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from threading import Event, Lock, Thread
from typing import Any

from pebble import CONSTS, ProcessPool

from fer_core.errors import TrainingError
from fer_core.runtime import child_environment, prepare_child

log = logging.getLogger(__name__)

_WATCH_S = 0.5
STARTS = 3  # of a process that dies before it has taken its work
# Pebble ends one worker after the other and gives each 3 s, which one takes that is inside torch. A trial that is
# killed loses nothing: its files are written whole, and it goes on from its checkpoint.
CONSTS.term_timeout = 0


@contextmanager
def trial_processes(workers: int, threads: int = 1) -> Iterator[Executor]:
    """An executor that gives every call a fresh process, whose environment is set before it imports torch.

    A process that dies at its work fails that call alone; one that dies before it has taken any is started again. An
    exception inside the block ends them all.

    Args:
        workers: processes at a time. threads: of OpenMP, until the work sets its own.
    """
    executor = _Processes(workers, child_environment(threads))
    try:
        yield executor
        executor.shutdown()
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started inside, and by threads started inside, never see a Ctrl-C: their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Processes(Executor):
    """Pebble's pool in the shape of `concurrent.futures`, made anew when it breaks."""

    def __init__(self, workers: int, environment: dict[str, str]) -> None:
        self._workers, self._environment = workers, environment
        self._lock = Lock()
        self._pools: list[ProcessPool] = []
        self._futures = set[Future[Any]]()
        self._scheduled: dict[Future[Any], ProcessPool] = {}
        self._ended = Event()
        Thread(target=self._watch, name="trial processes", daemon=True).start()

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        future: Future[Any] = Future()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        self._start(lambda pool: pool.schedule(fn, args=args, kwargs=kwargs), future, 1)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: when they have done what was submitted, or at once, whatever they are doing."""
        with self._lock:
            self._ended.set()
            pools, self._pools = self._pools, []
        for pool in pools:
            pool.stop() if cancel_futures else pool.close()
            pool.join()
        for future in list(self._futures):
            future.cancel()

    def _new(self) -> ProcessPool:
        return ProcessPool(
            max_workers=self._workers, max_tasks=1, initializer=prepare_child, initargs=(self._environment,),
            context=get_context("spawn"),
        )  # fmt: skip

    def _watch(self) -> None:
        """A pool that breaks while work is handed to it forgets that work; such a pool is marked as broken here."""
        while not self._ended.wait(_WATCH_S):
            with self._lock:
                lost = [inner for inner, pool in list(self._scheduled.items()) if not pool.active]
            for inner in lost:
                with suppress(InvalidStateError):
                    inner.set_exception(BrokenProcessPool("all workers expired"))

    def _start(self, schedule: Callable[[ProcessPool], Any], future: Future[Any], attempt: int) -> None:
        with self._lock, _without_interrupts():
            if self._ended.is_set():
                future.cancel()
                return
            if not self._pools or not self._pools[-1].active:
                self._pools.append(self._new())
            try:
                inner = schedule(self._pools[-1])
            except RuntimeError:  # it broke this moment
                self._pools.append(self._new())
                inner = schedule(self._pools[-1])
            self._scheduled[inner] = self._pools[-1]

        def settle(inner: Future[Any]) -> None:
            self._scheduled.pop(inner, None)
            if inner.cancelled() or future.cancelled():
                future.cancel()
            elif (error := inner.exception()) is None:
                future.set_result(inner.result())
            elif not isinstance(error, BrokenProcessPool):
                future.set_exception(error)
            elif self._ended.is_set():
                future.cancel()
            elif attempt < STARTS:
                log.warning("a process ended before it had taken its work (%s); it is started again", error)
                self._start(schedule, future, attempt + 1)
            else:
                future.set_exception(TrainingError(f"no process for a trial stays up; {STARTS} were started ({error})"))

        inner.add_done_callback(settle)
