"""A buffer of faces before they are stored: in memory, or in a file so that long clips need no more memory."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from fer_core.errors import StoreError

PIECE = 16  # number of faces read at a time


class Spool:
    """A growing list of faces.

    Args:
        size: side of a face in pixels.
        folder: folder for an unnamed temporary file, which disappears with the process; None: in memory.
    """

    def __init__(self, size: int, folder: Path | None = None) -> None:
        self._size = size
        self._n = 0
        self._file: IO[bytes] = io.BytesIO()
        if folder is not None:
            with _full_disk_named(folder):
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as this object lives
        self._folder = folder

    def append(self, face: np.ndarray) -> None:
        """Add a (size, size) uint8 face. Raises StoreError if it cannot be written."""
        with _full_disk_named(self._folder):
            self._file.write(face.tobytes())
        self._n += 1

    def pixels(self) -> np.ndarray:
        """Return all faces, (n, size, size) uint8, memory-mapped if they are on disk. No face may be added
        afterwards."""
        shape = (self._n, self._size, self._size)
        if isinstance(self._file, io.BytesIO):
            return np.frombuffer(self._file.getbuffer(), np.uint8).reshape(shape)
        with _full_disk_named(self._folder):
            self._file.flush()
        return np.asarray(np.memmap(self._file, np.uint8, "c", shape=shape)) if self._n else np.empty(shape, np.uint8)

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the faces in (m, size, size) pieces; one empty piece if there are none."""
        self._file.seek(0)
        for left in range(self._n, 0, -PIECE):
            data = self._file.read(min(left, PIECE) * self._size**2)
            yield np.frombuffer(data, np.uint8).reshape(-1, self._size, self._size)
        if not self._n:
            yield np.empty((0, self._size, self._size), np.uint8)


@contextmanager
def _full_disk_named(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or exc
        raise StoreError(f"cannot write to {folder}: {reason}; free some space or choose another workspace") from exc
