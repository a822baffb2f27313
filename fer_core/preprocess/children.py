"""The decoding child processes, from the parent's side: start, request, time limit, kill, replacement.

They are plain child processes with a pipe in each direction, not a multiprocessing pool, for three reasons. A child has
parsed a file that may be hostile, so its answer is JSON, never a pickle. A daemonic worker (Dask's are) can start it.
It imports neither the caller's `__main__` nor torch. One line requests one clip, and one line answers; faces and frames
are written to disk. `sandbox.py` is the code that runs in the child.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, FerError, StoreError
from fer_core.preprocess.beat import BEAT, MINUTE
from fer_core.preprocess.weights_file import FOLDER, weights_folder

log = logging.getLogger(__name__)

START_S = 120.0  # time limit for the imports of one child, on a busy machine
STARTS = 2  # attempts
EXIT_S = 1.0  # time for a child that has closed its pipe to exit
RUNS = 4  # most passes over a clip: one more after a wrong frame count, two more for faces turned left and right
WARM = 4  # processes kept between batches; each holds some 100 MB
MAX_ANSWER = 1 << 20  # bytes; a longer line is not a valid answer
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


class Child:
    """One decoding process, from the parent's side. It starts on first use, and again after it was killed."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._clean = False

    @property
    def reusable(self) -> bool:
        """Return True if the process is idle and answered `ok` for every file.

        A file that broke the decoder may have left it in a state that breaks the next file.
        """
        return self._clean and self._process is not None and self._process.poll() is None

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send one request and return the child's answer.

        Raises:
            ClipError: the child took longer than `limits` allow (timeout) or died (crashed); the process has ended.
            FerError: no child can be started.
        """
        process = self._process if self._process and self._process.poll() is None else self._start()
        assert process.stdin is not None
        clean, self._clean = self._clean, False
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = _answer_in(self._timed_answer(process))
        except BrokenPipeError:
            answer = None
        except TimeoutError as exc:
            self._discard()
            raise ClipError(ClipStatus.TIMEOUT, str(exc)) from exc
        if answer is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=EXIT_S)  # record its own cause of death, before we kill it
            self._discard()
            raise ClipError(ClipStatus.CRASHED, f"the decoding process died ({_cause(process.returncode)})")
        self._clean = clean and answer["status"] == ClipStatus.OK
        return answer

    def _timed_answer(self, process: subprocess.Popen[bytes]) -> bytes:
        """Return the line with the answer; each decoded minute of video extends the time limit.

        Raises:
            TimeoutError: the time limit has passed.
        """
        limits, started, minutes = self._limits, time.monotonic(), 0
        while True:
            counted = min(minutes, RUNS * limits.max_frames // MINUTE)
            allowed_s = limits.timeout_s + counted * limits.timeout_per_minute_s
            try:
                found = self._line(process, started + allowed_s - time.monotonic())
            except TimeoutError:
                decoded = f", {minutes} min of it decoded; limits.timeout_per_minute_s" if minutes else ""
                raise TimeoutError(f"not done after {allowed_s:g} s (limits.timeout_s{decoded})") from None
            line = found
            while line.startswith(BEAT):
                line, minutes = line[len(BEAT) :], minutes + 1
            if line or not found:
                return line

    def start(self) -> None:
        """Start the process unless it runs. Raises FerError if it does not start."""
        if self._process is None or self._process.poll() is not None:
            self._start()

    def end(self) -> None:
        """Kill the process even if it is busy; it is not started again.

        A thread that waits for its answer gets a ClipError (crashed).
        """
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        for attempt in range(STARTS):
            self._discard()
            with tempfile.TemporaryFile() as complaints:
                process = self._spawn(complaints)
                with contextlib.suppress(TimeoutError):
                    if self._line(process, START_S) == b"ready\n":
                        self._clean = True
                        return process
                self._discard()
                if self._ended:
                    raise ClipError(ClipStatus.CRASHED, "the batch was stopped")
                complaints.seek(0)
                said = complaints.read()[-4000:].decode(errors="replace").strip()
            log.error("start %d of a decoding process failed (%s): %s", attempt + 1, _cause(process.returncode), said)
        reason = said.splitlines()[-1] if said else _cause(process.returncode)
        raise FerError(f"no decoding process starts: {reason}")

    def _spawn(self, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise ClipError(ClipStatus.CRASHED, "the batch was stopped")
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fer_core.preprocess.sandbox", str(self._limits.memory_mb)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C in the terminal must reach only the parent
            )
            return self._process

    def _environment(self) -> dict[str, str]:
        """Return the child's environment variables, without passwords and server addresses."""
        here = Path(__file__).parents[2]
        paths = dict.fromkeys([str(here), *(p for p in sys.path if p)])
        return {name: os.environ[name] for name in KEPT if name in os.environ} | {
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "OPENCV_IO_MAX_IMAGE_PIXELS": str(self._limits.max_pixels),
            FOLDER: str(weights_folder()),
        }

    def _discard(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]

    @staticmethod
    def _line(process: subprocess.Popen[bytes], timeout_s: float) -> bytes:
        """Return a line from the child; an incomplete line if it died.

        Raises:
            TimeoutError: no complete line came within `timeout_s`.
        """
        assert process.stdout is not None
        handle = process.stdout.fileno()
        deadline = time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n") and len(line) < MAX_ANSWER:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise TimeoutError
            data = os.read(handle, 1 << 16)
            if not data:
                break
            line += data
        return line


class WarmChildren:
    """Decoding processes that stay alive between batches, so that the next batch need not wait for them to start.

    They end with this object or with the process that created it. A fork of that process starts its own children.

    Args:
        limits: limits of all batches that use these processes.
        ready: start a process now, and one for each that ended because of a bad file, both in the background. A service
            needs it, so that no clip waits for a start; a command that ends after its batch does not.
    """

    def __init__(self, limits: LimitsConfig, *, ready: bool = False) -> None:
        self.limits = limits
        self._ready = ready
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._start: threading.Thread | None = None
        self._pid = os.getpid()
        weakref.finalize(self, _end, self._idle, self._pid)
        self._start_one()

    def take(self) -> Child:
        """Return an idle process, or the one that is being started, or a new one that starts on first use."""
        if (child := self._pop()) is not None:
            return child
        with self._lock:
            start, self._start = self._start, None  # no other thread waits for this one
        if start is not None and self._pid == os.getpid():
            start.join()
        return self._pop() or Child(self.limits)

    def _pop(self) -> Child | None:
        """Return an idle process if there is one."""
        with self._lock:
            if self._pid == os.getpid():
                while self._idle:
                    child = self._idle.pop()
                    if child.reusable:
                        return child
        return None

    def keep(self, child: Child) -> None:
        """Keep a process for the next batch; end it if it read a bad file, or if enough others are idle."""
        with self._lock:
            if child.reusable and len(self._idle) < WARM and self._pid == os.getpid():
                self._idle.append(child)
                return
        child.end()
        self._start_one()

    def _start_one(self) -> None:
        """Start a process in the background if one must be ready, none is idle, and none is being started."""
        with self._lock:
            if not self._ready or self._idle or self._pid != os.getpid() or (self._start and self._start.is_alive()):
                return
            self._start = threading.Thread(
                target=_start_into, args=(weakref.ref(self), Child(self.limits)), name="start-decoding-process",
                daemon=True,
            )  # fmt: skip
            self._start.start()


class Children:
    """Decoding processes shared by threads; one starts when none is idle, so there is at most one per thread.

    Args:
        limits: limits for one clip.
        warm: idle processes to use and to return; None ends the processes with the batch.
    """

    def __init__(self, limits: LimitsConfig, warm: WarmChildren | None = None) -> None:
        if warm is not None and warm.limits != limits:
            raise ValueError("children were started under other limits than the batch's")
        self._limits, self._warm = limits, warm
        self._lock = threading.Lock()
        self._idle: SimpleQueue[Child] = SimpleQueue()
        self._all: list[Child] = []
        self._stopped = False

    def ask(self, do: str, path: Path, **details: Any) -> dict[str, Any]:
        """Send a job to the child and return its answer.

        Args:
            do: `faces`, `look`, `extract` or `film`.
            path: path of the clip.
            details: further arguments of the job, serialisable as JSON.

        Raises:
            ClipError: the clip cannot be used, its child had to be killed, or `stop` was called.
            StoreError: the child could not write to disk.
            FerError: no child can be started.
        """
        child = self._take()
        try:
            limits = self._limits.model_dump(mode="json")
            answer = child.ask({"do": do, "path": str(path), "limits": limits, **details})
        finally:
            self._idle.put(child)
        if answer["status"] == "store":
            raise StoreError(answer["reason"])
        if answer["status"] != ClipStatus.OK:
            raise ClipError(ClipStatus(answer["status"]), answer["reason"])
        return answer

    @property
    def stopped(self) -> bool:
        """Return True after `stop`.

        Errors since then say nothing about the clips, because the processes were killed.
        """
        return self._stopped

    def stop(self) -> None:
        """End every busy child, and start no new one; idle children are kept if `warm` was given.

        A thread that waits for an answer gets a ClipError (crashed).
        """
        with self._lock:
            self._stopped = True
            while self._warm is not None and not self._idle.empty():
                child = self._idle.get()
                self._all.remove(child)
                self._warm.keep(child)
            for child in self._all:
                child.end()

    def _take(self) -> Child:
        with self._lock:
            if self._stopped:
                raise ClipError(ClipStatus.CRASHED, "the batch was stopped")
            if not self._idle.empty():
                return self._idle.get()
            child = Child(self._limits) if self._warm is None else self._warm.take()
            self._all.append(child)
            return child


def _start_into(pool: weakref.ref[WarmChildren], child: Child) -> None:
    """Start a process and add it to the pool, unless the pool ended meanwhile."""
    with contextlib.suppress(FerError):  # the next clip then starts its own process, and reports the error
        child.start()
        if (alive := pool()) is not None:
            alive.keep(child)
            return
    child.end()


def _end(children: list[Child], pid: int) -> None:
    """End the child processes, unless this process is a fork of `pid`, which started them."""
    while children and os.getpid() == pid:
        children.pop().end()


def _answer_in(line: bytes) -> dict[str, Any] | None:
    """Return the answer in a line; None if the line is not a valid answer.

    A child that died, or that a hostile file has taken over, may send anything.
    """
    try:
        answer = json.loads(line)
        return answer if answer["status"] == "store" or ClipStatus(answer["status"]) else None
    except (ValueError, TypeError, KeyError):
        return None


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"
