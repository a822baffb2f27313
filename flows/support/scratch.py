"""The temporary folder of served flow runs: what killed runs leave there is removed at the next start.

It may hold faces of people, so that only the owner can read it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from hashlib import blake2b
from pathlib import Path


def use_own_temporary_folder(name: str) -> Path:
    """Make this process and its children use a temporary folder of their own, and return it.

    Args:
        name: tells this program from others on the machine; the same at each start.
    Raises:
        PermissionError: the folder belongs to another user.
    """
    digest = blake2b(os.fsencode(name), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"ferflow-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; have it removed, or set TMPDIR")
    folder.chmod(0o700)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


def clear(folder: Path) -> None:
    """Remove what is in a folder; call it while nothing uses it."""
    for left in folder.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
