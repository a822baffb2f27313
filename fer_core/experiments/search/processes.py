"""Run trials in processes of their own, so that a crash ends no other trial and their memory is freed.

The processes are forked from a server that has imported torch and the other heavy modules once, which takes seconds.
The server computes nothing and has no other threads, so nothing of a fork is in use: OpenMP and CUDA start in the
trials. On a CPU a process runs many trials: what it has loaded once (the table, the splits, MLflow's database) takes
longer than a small fit.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, InvalidStateError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, get_context, resource_tracker
from threading import Event, Lock, Thread, Timer
from typing import Any, TypeVar

from pebble import CONSTS, ProcessPool

from fer_core.errors import TrainingError
from fer_core.runtime import child_environment, prepare_child, reset_torch

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_WATCH_S = 0.5
# `torch._dynamo` is imported by the first optimiser, and takes as long as torch itself.
PRELOAD = ("fer_core.experiments.search.trial", "torch._dynamo")
CALLS = 50  # of a process, which is then replaced: whatever a library does not free ends with it
STARTS = 3  # attempts to start a process that dies before it begins its work
# By default, Pebble stops one worker after the other and waits 3 s for each that is inside torch. Killing at once loses
# nothing: a trial's files are written atomically, and it resumes from its checkpoint.
CONSTS.term_timeout = 0


@contextmanager
def trial_processes(
    workers: int, threads: int = 1, preload: Sequence[str] = PRELOAD, calls: int = 1
) -> Iterator[Executor]:
    """Yield an executor that runs calls in other processes, with the environment set before torch is imported.

    If a process dies during its work, only its call fails and another process replaces it; if it dies before, it is
    started again. An exception inside the block ends all processes.

    Args:
        workers: number of processes at a time.
        threads: number of OpenMP threads at the start of every call, until the work sets its own.
        preload: names of the modules that all processes share. The first call in this process decides.
        calls: number of calls that a process runs before a new one replaces it.
    """
    executor = _Processes(workers, child_environment(threads), preload, calls)
    try:
        yield executor
        executor.shutdown()
    finally:
        executor.shutdown(cancel_futures=True)


def called_in(processes: Executor, fn: Callable[..., Result]) -> Callable[..., Result]:
    """Return a function that calls `fn` in one of the processes, and waits for its result."""

    def call(*args: Any) -> Result:
        return processes.submit(fn, *args).result()

    return call


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started inside this block ignore Ctrl-C; their parent process ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ready(environment: dict[str, str], preload: Sequence[str]) -> None:
    """Start the server from which processes are forked, unless it runs.

    OpenMP and OpenBLAS read their variables when they are loaded, so the server has those of the processes.
    """
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        forkserver.set_forkserver_preload(list(preload))
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait_until_imported() -> None:
    """Wait until the server has imported its modules, by forking a process that does nothing.

    A pool that is stopped before does not wait for the processes that the server starts then; these find nothing of the
    pool any more, and each would print a traceback.
    """
    process = get_context("forkserver").Process(target=os.getpid)
    with suppress(OSError, EOFError):  # the pool meets the same error, and reports it
        process.start()
        process.join()


def _called(threads: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `fn` with torch as it is in a new process, whatever an earlier call has set."""
    reset_torch(threads)
    return fn(*args, **kwargs)


class _Processes(Executor):
    """Pebble's pool with the interface of `concurrent.futures`; a broken pool is replaced."""

    def __init__(self, workers: int, environment: dict[str, str], preload: Sequence[str], calls: int) -> None:
        self._workers, self._environment, self._preload, self._calls = workers, environment, preload, calls
        self._lock = Lock()
        self._pools: list[ProcessPool] = []
        self._futures = set[Future[Any]]()
        self._scheduled: dict[Future[Any], ProcessPool] = {}
        self._ended = Event()
        self._warm = False
        Thread(target=self._watch, name="trial processes", daemon=True).start()

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        future: Future[Any] = Future()
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        call = (int(self._environment["OMP_NUM_THREADS"]), fn, args, kwargs)
        self._start(lambda pool: pool.schedule(_called, args=call), future, 1)
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
            max_workers=self._workers, max_tasks=self._calls, initializer=prepare_child, initargs=(self._environment,),
            context=get_context("forkserver"),
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
        resource_tracker.ensure_running()  # which would let interrupts through again
        with self._lock, _without_interrupts():
            if self._ended.is_set():
                future.cancel()
                return
            _ready(self._environment, self._preload)
            if not self._warm:
                self._warm = True
                _wait_until_imported()
            if not self._pools or not self._pools[-1].active:
                self._pools.append(self._new())
            try:
                inner = schedule(self._pools[-1])
            except RuntimeError as exc:  # the pool broke in the meantime, or cannot start its first process
                self._pools.pop()
                inner = Future()
                inner.set_exception(BrokenProcessPool(f"{exc} {exc.__cause__ or ''}".strip() or type(exc).__name__))
            else:
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
                again = Timer(_WATCH_S, self._start, (schedule, future, attempt + 1))
                again.daemon = True
                again.start()
            else:
                future.set_exception(TrainingError(f"no process for a trial stays up; {STARTS} were started ({error})"))

        inner.add_done_callback(settle)
