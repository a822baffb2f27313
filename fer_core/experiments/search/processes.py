"""Run each trial in a new process, so that its memory (also on a GPU) is freed and a crash ends no other trial."""

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
STARTS = 3  # attempts to start a process that dies before it begins its work
# By default, Pebble stops one worker after the other and waits 3 s for each that is inside torch. Killing at once loses
# nothing: a trial's files are written atomically, and it resumes from its checkpoint.
CONSTS.term_timeout = 0


@contextmanager
def trial_processes(workers: int, threads: int = 1) -> Iterator[Executor]:
    """Yield an executor that runs every call in a new process, with the environment set before torch is imported.

    If a process dies during its work, only its call fails; if it dies before, it is started again. An exception inside
    the block ends all processes.

    Args:
        workers: number of processes at a time.
        threads: number of OpenMP threads, until the work sets its own.
    """
    executor = _Processes(workers, child_environment(threads))
    try:
        yield executor
        executor.shutdown()
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started inside this block ignore Ctrl-C; their parent process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Processes(Executor):
    """Pebble's pool with the interface of `concurrent.futures`; a broken pool is replaced."""

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
        """End the processes: after all submitted work, or immediately with `cancel_futures`."""
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
        """Fail the futures of broken pools: Pebble loses work that is submitted while a pool breaks."""
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
            except RuntimeError:  # the pool broke in the meantime
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
