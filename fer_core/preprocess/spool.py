"""Buffers of faces and their points before they are stored: in memory, or in files so that long clips need no more
memory."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

from fer_core.errors import StoreError
from fer_core.preprocess.landmarks import N_POINTS

PIECE = 16  # number of rows read at a time


class Spool:
    """A growing array.

    Args:
        row: shape of a row.
        dtype: type of the numbers.
        folder: folder for an unnamed temporary file, which disappears with the process; None: in memory.
    """

    def __init__(self, row: tuple[int, ...], dtype: DTypeLike, folder: Path | None = None) -> None:
        self._row = row
        self._dtype = np.dtype(dtype)
        self._n = 0
        self._file: IO[bytes] = io.BytesIO()
        if folder is not None:
            with _full_disk_named(folder):
                self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as this object lives
        self._folder = folder

    def __len__(self) -> int:
        return self._n

    def append(self, row: np.ndarray) -> None:
        """Add a row. Raises StoreError if it cannot be written."""
        with _full_disk_named(self._folder):
            self._file.write(row.astype(self._dtype, copy=False).tobytes())
        self._n += 1

    def rows(self) -> np.ndarray:
        """Return all rows, (n, ...), memory-mapped if they are on disk. No row may be added afterwards."""
        shape = (self._n, *self._row)
        if isinstance(self._file, io.BytesIO):
            return np.frombuffer(self._file.getbuffer(), self._dtype).reshape(shape)
        with _full_disk_named(self._folder):
            self._file.flush()
        if not self._n:
            return np.empty(shape, self._dtype)
        return np.asarray(np.memmap(self._file, self._dtype, "c", shape=shape))

    def pieces(self) -> Iterator[np.ndarray]:
        """Yield the rows in (m, ...) pieces; one empty piece if there are none."""
        self._file.seek(0)
        n_bytes = int(np.prod(self._row)) * self._dtype.itemsize
        for left in range(self._n, 0, -PIECE):
            yield np.frombuffer(self._file.read(min(left, PIECE) * n_bytes), self._dtype).reshape(-1, *self._row)
        if not self._n:
            yield np.empty((0, *self._row), self._dtype)


class FacesSpool:
    """The faces of a clip, and the points of each if landmarks are found.

    Args:
        size: side of a face in pixels.
        folder: see `Spool`.
    """

    def __init__(self, size: int, folder: Path | None = None) -> None:
        self.pixels = Spool((size, size), np.uint8, folder)
        self.points = Spool((N_POINTS, 3), np.float16, folder)

    def take(self, pixels: np.ndarray, points: np.ndarray, places: np.ndarray) -> None:
        """Add some of the faces of a clip, one after the other, and their points, if there are any."""
        for place in places.tolist():
            self.pixels.append(pixels[place])
            if len(points):
                self.points.append(points[place])


@contextmanager
def _full_disk_named(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        reason = exc.strerror or exc
        raise StoreError(f"cannot write to {folder}: {reason}; free some space or choose another workspace") from exc
