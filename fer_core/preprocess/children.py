"""The decoding processes, seen from the caller: started, asked, timed, killed and replaced.

Plain children with a pipe each way, not a multiprocessing pool: what comes back from a process that has just parsed a
hostile file is JSON, never a pickle; it can be started from a daemonic worker (Dask's are); and it imports neither the
caller's `__main__` nor torch. One line asks for one clip, one line answers; faces and frames themselves go to disk.
`sandbox.py` is what runs in them.
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

START_S = 120.0  # for the imports of one child, on a machine that is busy
STARTS = 2  # attempts
EXIT_S = 1.0  # for a child that has closed its end to be gone
RUNS = 4  # over the frames of a clip at most: once more where the count was wrong, and lying on either side
WARM = 4  # processes kept between batches; each holds some 100 MB
MAX_ANSWER = 1 << 20  # bytes; a longer answer is none of ours
KEPT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


class Child:
    """One decoding process, seen from the parent. Started on first use, and again after it was killed."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._clean = False

    @property
    def reusable(self) -> bool:
        """True if it is idle and answered `ok` for every file: a file that broke the decoder may break the next."""
        return self._clean and self._process is not None and self._process.poll() is None

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The child's answer to one request.

        Raises:
            ClipError: the child took longer than `limits` allow (timeout) or died (crashed); it is gone by then.
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
                process.wait(timeout=EXIT_S)  # what it dies of, not our kill
            self._discard()
            raise ClipError(ClipStatus.CRASHED, f"the decoding process died ({_cause(process.returncode)})")
        self._clean = clean and answer["status"] == ClipStatus.OK
        return answer

    def _timed_answer(self, process: subprocess.Popen[bytes]) -> bytes:
        """The line that answers; each decoded minute of film adds to the time allowed. Raises TimeoutError."""
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

    def end(self) -> None:
        """Kill the process, whatever it is doing; whoever waits for it gets `crashed`, and it is not started again."""
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
                start_new_session=True,  # a Ctrl-C on the terminal is the parent's to answer
            )
            return self._process

    def _environment(self) -> dict[str, str]:
        """Environment of the child, without passwords and addresses of servers."""
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
        """A line from the child; less than a line when it died. Raises TimeoutError."""
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
    """Decoding processes that outlive a batch, so that the next one need not wait for the start of its own.

    They end with this object or with the process that made it; a process forked from that one starts its own.

    Args:
        limits: of every batch that takes them.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._idle: list[Child] = []
        self._pid = os.getpid()
        weakref.finalize(self, _end, self._idle, self._pid)

    def take(self) -> Child:
        """A process that waits, or else one that starts on first use."""
        with self._lock:
            if self._pid == os.getpid():
                while self._idle:
                    child = self._idle.pop()
                    if child.reusable:
                        return child
        return Child(self.limits)

    def keep(self, child: Child) -> None:
        """Have a process wait for the next batch; it ends when it took a bad file, or enough others wait."""
        with self._lock:
            if child.reusable and len(self._idle) < WARM and self._pid == os.getpid():
                self._idle.append(child)
                return
        child.end()


class Children:
    """Decoding processes that threads share: one is started when none is idle, so at most one a thread.

    Args:
        limits: of one clip.
        warm: where processes are taken from and left; None: they end with the batch.
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
            do: `faces`, `look` or `extract`.
            path: of the clip; details: JSON-able, what the job takes besides.

        Raises:
            ClipError: the clip cannot be used, its child had to be killed, or `stop` was called.
            StoreError: the child found the disk refusing. FerError: no child can be started.
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
        """True after `stop`: answers of children since then say nothing about their clips."""
        return self._stopped

    def stop(self) -> None:
        """End every child; whoever waits for one gets an error, and no new one is started. Idle ones may stay warm."""
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


def _end(children: list[Child], pid: int) -> None:
    """End the processes of `pid`, this one, unless it is a fork of it."""
    while children and os.getpid() == pid:
        children.pop().end()


def _answer_in(line: bytes) -> dict[str, Any] | None:
    """The answer a line holds; None where it is none, as from a child that died, or that a file has taken over."""
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
