"""The child process that decodes: it alone parses what may be hostile, under limits, and can be killed at any time.

`children.py` starts it with a memory limit as its argument; requests come in on standard input, a line each.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.errors import ClipError, ClipStatus, StoreError
from fer_core.preprocess.beat import BEAT


def main() -> None:
    """Answer requests from standard input until it closes."""
    answers = os.fdopen(os.dup(1), "wb")
    _harden(int(sys.argv[1]))
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_answer(json.loads(line), answers)).encode() + b"\n")
        answers.flush()


def _harden(memory_mb: int) -> None:
    """Threads, limits and exits of a child; the imports come first, so that the memory limit is for the clip."""
    import resource

    import av
    import cv2

    import fer_core.preprocess.pipeline  # noqa: F401

    av.logging.set_level(av.logging.PANIC)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS has none; the limits of frames and pixels hold there too
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + memory_mb * 2**20, hard))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # what a library prints is no answer
    os.dup2(null, 2)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _die_with_parent() -> None:
    """Exit when the parent is gone or closes standard input, busy or not; a fork of the parent may hold that open."""
    parent = os.getppid()
    poll = select.poll()
    poll.register(0, 0)  # asks for nothing but a hang-up, which is always reported
    while not poll.poll(1000) and os.getppid() == parent:
        pass
    os._exit(1)


def _answer(request: dict[str, Any], answers: IO[bytes]) -> dict[str, Any]:
    limits = LimitsConfig.model_validate(request["limits"])
    _limit_cpu(limits.timeout_s)

    def beat() -> None:
        """A minute of film is decoded: the parent and the kernel allow more time."""
        _limit_cpu(limits.timeout_s + limits.timeout_per_minute_s)
        answers.write(BEAT)
        answers.flush()

    try:
        return {"status": ClipStatus.OK.value, **_JOBS[request["do"]](request, limits, beat)}
    except ClipError as exc:
        return {"status": exc.status.value, "reason": exc.reason}
    except StoreError as exc:
        return {"status": "store", "reason": str(exc)}
    except Exception as exc:  # the batch goes on, and the reason must not be lost in a process nobody sees
        if isinstance(exc, MemoryError) or "Insufficient memory" in str(exc):  # the latter is OpenCV's
            reason = f"it needs more than {limits.memory_mb} MiB to decode (limits.memory_mb)"
            return {"status": ClipStatus.TOO_LARGE.value, "reason": reason}
        return {"status": ClipStatus.CRASHED.value, "reason": f"{type(exc).__name__}: {str(exc)[:1000]}"}


def _faces(request: dict[str, Any], limits: LimitsConfig, beat: Callable[[], None]) -> dict[str, Any]:
    """Faces of a clip, put into the store."""
    from fer_core.preprocess.pipeline import preprocess_into
    from fer_core.preprocess.store import FacesStore

    clip = Clip(id=request["id"], path=Path(request["path"]), apex=request["apex"])
    cfg = PreprocessConfig.model_validate(request["config"])
    store, change = FacesStore(Path(request["store"])), request["change"]
    return {"key": preprocess_into(store, clip, cfg, limits, request["digest"], change, beat)}


def _look(request: dict[str, Any], limits: LimitsConfig, beat: Callable[[], None]) -> dict[str, Any]:
    """Hash of whole frames of a clip, as hex digits."""
    from fer_core.preprocess.perceptual_hash import look

    return {"hash": look(Path(request["path"]), request["digest"], limits, beat).tobytes().hex()}


def _extract(request: dict[str, Any], limits: LimitsConfig, beat: Callable[[], None]) -> dict[str, Any]:
    """Frames of a video, written into a folder."""
    from fer_core.preprocess.extract import write_frames

    return {"frames": write_frames(Path(request["path"]), request["digest"], Path(request["folder"]), limits, beat)}


_JOBS = {"faces": _faces, "look": _look, "extract": _extract}


def _limit_cpu(seconds: float) -> None:
    """CPU for one clip: what is used so far plus its wall clock, should no parent be left to keep the time."""
    import resource

    used = sum(os.times()[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, hard))


if __name__ == "__main__":
    main()
