"""The child process that decodes clips: only it parses files that may be hostile, under limits; it can be killed.

`children.py` starts it with the memory limit as its argument. Requests come on standard input, one per line.
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
from fer_core.config import EveryFaceConfig, LimitsConfig, PreprocessConfig
from fer_core.errors import ClipError, ClipStatus, StoreError
from fer_core.preprocess.beat import BEAT


def main() -> None:
    """Answer requests from standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    _harden(int(sys.argv[1]))
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        answers.write(json.dumps(_answer(json.loads(line), answers)).encode() + b"\n")
        answers.flush()


def _harden(memory_mb: int) -> None:
    """Set the threads, limits and exit of the child.

    The imports come first, so that the memory limit applies to the clip alone.
    """
    import resource

    import av
    import cv2

    import fer_core.preprocess.pipeline  # noqa: F401

    av.logging.set_level(av.logging.PANIC)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS has none; other limits apply there
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + memory_mb * 2**20, hard))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # so that output of a library is not taken for an answer
    os.dup2(null, 2)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _die_with_parent() -> None:
    """Exit when the parent ends or closes standard input, even during a job.

    The parent's process id is checked too, because a fork of the parent may keep standard input open.
    """
    parent = os.getppid()
    poll = select.poll()
    poll.register(0, 0)  # waits only for a hang-up, which is always reported
    while not poll.poll(1000) and os.getppid() == parent:
        pass
    os._exit(1)


def _answer(request: dict[str, Any], answers: IO[bytes]) -> dict[str, Any]:
    limits = LimitsConfig.model_validate(request["limits"])
    _limit_cpu(limits.timeout_s)

    def beat() -> None:
        """Report a decoded minute of video: parent and kernel then allow more time."""
        _limit_cpu(limits.timeout_s + limits.timeout_per_minute_s)
        answers.write(BEAT)
        answers.flush()

    try:
        return {"status": ClipStatus.OK.value, **_JOBS[request["do"]](request, limits, beat)}
    except ClipError as exc:
        return {"status": exc.status.value, "reason": exc.reason}
    except StoreError as exc:
        return {"status": "store", "reason": str(exc)}
    except Exception as exc:  # the batch continues, and the parent must get the reason
        if isinstance(exc, MemoryError) or "Insufficient memory" in str(exc):  # the text is from OpenCV's error
            reason = f"it needs more than {limits.memory_mb} MiB to decode (limits.memory_mb)"
            return {"status": ClipStatus.TOO_LARGE.value, "reason": reason}
        return {"status": ClipStatus.CRASHED.value, "reason": f"{type(exc).__name__}: {str(exc)[:1000]}"}


def _faces(request: dict[str, Any], limits: LimitsConfig, beat: Callable[[], None]) -> dict[str, Any]:
    """Preprocess a clip by each of the settings, and put its faces into the store."""
    from fer_core.preprocess.pipeline import preprocess_into
    from fer_core.preprocess.store import FacesStore

    clip = Clip(id=request["id"], path=Path(request["path"]), apex=request["apex"])
    cfgs = [
        (EveryFaceConfig if "everyone" in cfg else PreprocessConfig).model_validate(cfg) for cfg in request["configs"]
    ]
    store, change = FacesStore(Path(request["store"])), request["change"]
    preprocess_into(store, clip, cfgs, limits, request["digest"], change, beat)
    return {}


def _look(request: dict[str, Any], limits: LimitsConfig, beat: Callable[[], None]) -> dict[str, Any]:
    """Return the perceptual hash of a clip's whole frames, as hex digits."""
    from fer_core.preprocess.perceptual_hash import look

    return {"hash": look(Path(request["path"]), request["digest"], limits, beat).tobytes().hex()}


def _extract(request: dict[str, Any], limits: LimitsConfig, beat: Callable[[], None]) -> dict[str, Any]:
    """Write the frames of a video into a folder, and return their counts."""
    from fer_core.preprocess.extract import write_frames

    return {"frames": write_frames(Path(request["path"]), request["digest"], Path(request["folder"]), limits, beat)}


def _film(request: dict[str, Any], limits: LimitsConfig, beat: Callable[[], None]) -> dict[str, Any]:
    """Write a clip as a film with faces and verdicts drawn in, and return its number of frames."""
    from fer_core.preprocess.annotate import Film, write_film

    film = Film.from_json(Path(request["film"]).read_text(encoding="utf-8"))
    path, target = Path(request["path"]), Path(request["target"])
    return {"frames": write_film(path, request["digest"], film, target, limits, beat)}


_JOBS = {"faces": _faces, "look": _look, "extract": _extract, "film": _film}


def _limit_cpu(seconds: float) -> None:
    """Limit the CPU time to what is used so far plus the clip's time limit, in case the parent has ended."""
    import resource

    used = sum(os.times()[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, hard))


if __name__ == "__main__":
    main()
