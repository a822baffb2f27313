"""Faces on their way from the frames to the store: in memory, or on disk so that a long clip takes no more of it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from fer_core.errors import StoreError

PIECE = 16  # faces read at a time


class Spool:
    """A growing list of faces.

    Args:
        size: side of a face, pixels.
        folder: where to keep them, in a file without a name, which nothing can leave behind; None: in memory.
    """

    def __init__(self, size: int, folder: Path | None = None) -> None:
        self._size = size
        self._n = 0
        self._file: IO[bytes] = io.BytesIO()
        if folder is not None:
            with _told(folder):
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as this object lives
        self._folder = folder

    def append(self, face: np.ndarray) -> None:
        """Add a face (size, size) uint8. Raises StoreError when the disk refuses."""
        with _told(self._folder):
            self._file.write(face.tobytes())
        self._n += 1

    def pixels(self) -> np.ndarray:
        """(n, size, size) uint8: all faces, mapped where they are on disk; nothing may be added any more."""
        shape = (self._n, self._size, self._size)
        if isinstance(self._file, io.BytesIO):
            return np.frombuffer(self._file.getbuffer(), np.uint8).reshape(shape)
        with _told(self._folder):
            self._file.flush()
        return np.asarray(np.memmap(self._file, np.uint8, "c", shape=shape)) if self._n else np.empty(shape, np.uint8)

    def pieces(self) -> Iterator[np.ndarray]:
        """The faces again, (m, size, size) at a time; one empty piece where there are none."""
        self._file.seek(0)
        for left in range(self._n, 0, -PIECE):
            data = self._file.read(min(left, PIECE) * self._size**2)
            yield np.frombuffer(data, np.uint8).reshape(-1, self._size, self._size)
        if not self._n:
            yield np.empty((0, self._size, self._size), np.uint8)


@contextmanager
def _told(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or exc
        raise StoreError(f"cannot write to {folder}: {reason}; free some space or choose another workspace") from exc
