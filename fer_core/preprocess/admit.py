"""Check files before they are opened: only regular files of limited size, and folders of these; no links."""

from __future__ import annotations

import errno
import os
import re
import stat
from io import BufferedReader
from pathlib import Path

from fer_core.clips.clip import frame_files
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus

FOLLOW = "--follow-links (limits.follow_links=true) accepts links"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
}


def admit(path: Path, limits: LimitsConfig, root: Path | None = None) -> tuple[Path, ...]:
    """Return the files of a clip, in order: the video itself, or the frames of a folder. Opens no file.

    Args:
        path: video file or folder of frames.
        limits: largest size and number of frames.
        root: folder that must contain the clip; None: any.

    Raises:
        ClipError: missing, rejected, damaged (empty) or too_large.
    """
    if root is not None:
        _check_inside(path, root, limits)
    status = _lstat(path, limits)
    if not stat.S_ISDIR(status.st_mode):
        _check_file(status, limits)
        return (path,)
    try:
        frames = tuple(frame_files(path))
    except OSError as exc:
        raise missing(exc) from exc
    if not frames:
        raise ClipError(ClipStatus.REJECTED, "it is a folder without frames")
    if len(frames) > limits.max_frames:
        raise ClipError(
            ClipStatus.TOO_LARGE, f"{len(frames)} frames; at most {limits.max_frames} are accepted (limits.max_frames)"
        )
    total = 0
    for frame in frames:
        status = _lstat(frame, limits)
        if not stat.S_ISREG(status.st_mode):
            raise _rejected_kind(status, f"frame {frame.name!r}")
        total += status.st_size
    _check_size(total, limits)
    return frames


def open_regular(path: Path, limits: LimitsConfig) -> BufferedReader:
    """Open a file and check on the open file that it is a regular one; a pipe does not block.

    Raises:
        ClipError: missing or rejected.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if limits.follow_links else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except OSError as exc:
        raise missing(exc) from exc
    file = os.fdopen(handle, "rb")
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        file.close()
        raise _rejected_kind(status, "it")
    return file


def missing(exc: OSError) -> ClipError:
    """Return the error for a file that cannot be read now; it may be readable later."""
    return ClipError(ClipStatus.MISSING, f"it cannot be read ({exc.strerror or exc})")


def _check_inside(path: Path, root: Path, limits: LimitsConfig) -> None:
    real_root = os.path.realpath(root)
    inside = os.path.normpath(os.path.join(os.path.abspath(root), path))
    relative = os.path.relpath(inside, os.path.abspath(root))
    if relative.split(os.sep)[0] == os.pardir:
        raise ClipError(ClipStatus.REJECTED, f"it lies outside {root}")
    if limits.follow_links:
        return
    step = real_root
    for part in relative.split(os.sep):
        step = os.path.join(step, part)
        if os.path.islink(step) and os.path.exists(step):
            raise ClipError(ClipStatus.REJECTED, f"{part!r} on its way is a link; {FOLLOW}")


def _lstat(path: Path, limits: LimitsConfig) -> os.stat_result:
    if _ADDRESS.match(str(path)):
        raise ClipError(ClipStatus.REJECTED, "it is an address, not a file")
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            target = os.stat(path)
            if not limits.follow_links:
                raise ClipError(ClipStatus.REJECTED, f"it is a link; {FOLLOW}")
            return target
        return status
    except ValueError as exc:
        raise ClipError(ClipStatus.REJECTED, f"its path is no path ({exc})") from exc
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise ClipError(ClipStatus.REJECTED, f"its path is too long ({len(os.fsencode(path))} bytes)") from exc
        raise missing(exc) from exc


def _check_file(status: os.stat_result, limits: LimitsConfig) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _rejected_kind(status, "it")
    if status.st_size == 0:
        raise ClipError(ClipStatus.DAMAGED, "it is empty (0 bytes)")
    _check_size(status.st_size, limits)


def _check_size(size: int, limits: LimitsConfig) -> None:
    if size > limits.max_bytes:
        raise ClipError(
            ClipStatus.TOO_LARGE, f"{size} bytes; at most {limits.max_bytes} are accepted (limits.max_bytes)"
        )


def _rejected_kind(status: os.stat_result, what: str) -> ClipError:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
    return ClipError(ClipStatus.REJECTED, f"{what} is {kind}, not a regular file")
