"""Content-addressed store: one safetensors file per entry, `<workspace>/store/<kind>/ab/<key>.safetensors`.

A reader finds a complete entry or none: an entry is written under a temporary name, synced and renamed. Two writers of
one key write the same bytes, so the second rename does no harm. A corrupt entry is logged, removed and computed again.
`preprocess/store.py` stores faces; `features/store.py` stores features and training tables.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
import mmap
import os
import secrets
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fer_core.errors import StoreError

if TYPE_CHECKING:
    from pydantic import BaseModel

    Note = TypeVar("Note", bound=BaseModel)

log = logging.getLogger(__name__)

MAPPED_FROM = 16 * 2**20  # elements; a larger array may be memory-mapped
_KINDS = {"float16": "F16", "float32": "F32", "int32": "I32", "uint8": "U8"}  # safetensors' names


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, no NaN; equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def cache_key(**parts: Any) -> str:
    """Return the key for `parts`: BLAKE2b-128 of their canonical JSON, 32 hex digits.

    `parts` must contain everything that the stored entry depends on.

    Example:
        >>> cache_key(clip="a", size=224) == cache_key(size=224, clip="a") != cache_key(clip="a", size=112)
        True
    """
    return hashlib.blake2b(canonical_json(parts).encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; afterwards sync it and rename it to `path`, or remove it after an error.

    A reader finds the old file or the new one, even after a kill at any moment. If `path` is a link, the file that it
    points to is replaced.

    Raises:
        StoreError: `path` is a device, a pipe or a folder, or the file cannot be written (disk full, read-only).
    """
    try:
        path = writable_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.parent / f".tmp-{secrets.token_hex(8)}"
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # permissions as the umask gives
        mode = stat.S_IMODE(name.stat().st_mode)
        try:
            yield name
            name.chmod(mode)  # safetensors replaces the file by one that only its owner may read
            with open(name, "rb") as file:
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            name.unlink(missing_ok=True)
            raise
    except Exception as exc:
        from safetensors import SafetensorError  # which safetensors raises on a full disk

        if not isinstance(exc, (OSError, SafetensorError)):
            raise
        reason = getattr(exc, "strerror", None) or exc
        raise StoreError(f"cannot write {path}: {reason}; free some space or choose another workspace") from exc


def writable_place(path: Path) -> Path:
    """Return the path to write the file `path` to, with links resolved: a regular file, or one that does not exist yet.

    Raises:
        StoreError: `path` is a device, a pipe or a folder, which a file must not replace.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise StoreError(f"cannot write {path}: it is {kind}, not a regular file; choose another name")
    return path.resolve()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file so that it appears complete or not at all; see `publish`."""
    with publish(path) as temporary:
        temporary.write_bytes(data)


def read_note(path: Path, kind: type[Note]) -> Note | None:
    """Return a small JSON file as a `kind`; None when it does not exist, or, with a warning, when it is damaged.

    Raises:
        StoreError: the file cannot be read.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as exc:
        log.warning("%s is damaged (%s); what it said is made again", path, exc.errors()[0]["msg"])
        return None
    except OSError as exc:
        raise StoreError(f"cannot read {path}: {exc.strerror or exc}") from exc


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left under `folder`; no process may be writing there."""
    for left_over in folder.rglob(".tmp-*"):
        left_over.unlink(missing_ok=True)


class EntryStore:
    """Entries of one kind, such as `faces` or `features`: each a dict of arrays and a note that JSON can hold.

    Args:
        root: the workspace's `store` folder.
        kind: name of the subfolder, also used in messages.
    """

    def __init__(self, root: Path, kind: str) -> None:
        self.root = root / kind
        self.kind = kind

    def path(self, key: str) -> Path:
        """Return the path of the entry of `key`, whether or not it exists.

        Raises:
            StoreError: `key` has characters other than letters and digits.
        """
        if not key.isalnum():
            raise StoreError(f"{key[:60]!r} is no key of the {self.kind} store; keys are letters and digits")
        return self.root / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def keys(self) -> Iterator[str]:
        """Yield the keys of all complete entries."""
        return (p.stem for p in sorted(self.root.glob("??/*.safetensors")))

    def put(self, key: str, arrays: Mapping[str, np.ndarray], note: Mapping[str, Any]) -> None:
        """Store an entry.

        Raises:
            StoreError: the entry cannot be written.
        """
        from safetensors.numpy import save_file

        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with publish(self.path(key)) as temporary:
            save_file(contiguous, temporary, metadata={"note": canonical_json(note)})

    def put_rows(
        self,
        key: str,
        large: Mapping[str, tuple[int, Iterable[np.ndarray]]],
        note: Mapping[str, Any],
        small: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Store an entry of large arrays as `put` does, from pieces of them; no large array need fit into memory.

        Args:
            large: name -> (number of rows, pieces (m, ...), at least one, all of one type and row shape).
            small: arrays in memory, stored after the large ones.
        Raises:
            StoreError: the entry cannot be written.
            ValueError: the pieces of an array have another number of rows.
        """
        parts: list[tuple[str, tuple[int, ...], np.ndarray, Iterable[np.ndarray]]] = []
        for name, (n_rows, rows) in large.items():
            pieces = iter(rows)
            first = next(pieces)
            parts.append((name, (n_rows, *first.shape[1:]), first, itertools.chain([first], pieces)))
        parts += [(name, array.shape, array, [array]) for name, array in (small or {}).items()]
        described: dict[str, Any] = {"__metadata__": {"note": canonical_json(note)}}
        ends = [0]
        for name, shape, first, _ in parts:
            ends.append(ends[-1] + math.prod(shape) * first.itemsize)
            described[name] = {"dtype": _KINDS[first.dtype.name], "shape": shape, "data_offsets": ends[-2:]}
        header = json.dumps(described, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # the data begin at a multiple of 8
        with publish(self.path(key)) as temporary, temporary.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for (_, shape, first, rows), end in zip(parts, ends[1:], strict=True):
                for piece in rows:
                    file.write(np.ascontiguousarray(piece, dtype=first.dtype).tobytes())
                if file.tell() != 8 + len(header) + end:
                    raise ValueError(f"{self.kind} entry {key} was to have {shape[0]} rows, but got others")

    def note(self, key: str) -> dict[str, Any] | None:
        """Return the note of an entry without reading its arrays; None if the entry is missing or corrupt."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path(key), framework="numpy") as file:
                return dict(json.loads(file.metadata()["note"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def get(self, key: str, mapped: Collection[str] = ()) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays and the note of an entry; None if it is missing or corrupt.

        A corrupt entry is logged and removed.

        Args:
            mapped: names of arrays that are memory-mapped if they are large; each keeps a file open while it exists.
        Raises:
            StoreError: the file cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        path = self.path(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                note = json.loads(file.metadata()["note"])
                names = set(file.keys())
                sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in names.intersection(mapped)}
                large = {name for name, size in sizes.items() if size >= MAPPED_FROM}
                arrays = {name: file.get_tensor(name) for name in names - large}
            return arrays | {name: _map(path, name) for name in large}, note
        except (SafetensorError, KeyError, TypeError, ValueError) as exc:
            log.warning("%s entry %s is corrupt (%s); it is removed and made again", self.kind, key, exc)
            path.unlink(missing_ok=True)
            return None
        except OSError as exc:
            raise StoreError(f"cannot read {path}: {exc.strerror or exc}") from exc


def release(array: np.ndarray) -> None:
    """Let the system take back the memory of an array that is mapped from a file; it is read again when needed."""
    owner: Any = array
    while owner is not None and not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "base", None)
    if owner is not None and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def _map(path: Path, name: str) -> np.ndarray:
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        described = json.loads(file.read(n_header))[name]
    kind = next(numpy for numpy, theirs in _KINDS.items() if theirs == described["dtype"])
    offset = 8 + n_header + described["data_offsets"][0]
    return np.asarray(np.memmap(path, kind, "c", offset, tuple(described["shape"])))
