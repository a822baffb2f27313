"""Score every clip that arrives in a folder exactly once, by its content.

A file is read once it has stayed as it is between two looks and no process of this machine has it open for writing.
What was scored is remembered by content, so a renamed file, a copy and a restart lead to no second row, and a file that
was replaced leads to a new one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from fer_core.clips.clip import clip_digest
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, DataError, StoreError
from fer_core.preprocess.admit import admit
from fer_core.scoring.arrivals import Arrival, Arrivals
from fer_core.scoring.inputs import Item, collect, printable
from fer_core.store import cache_key

if TYPE_CHECKING:  # most looks find nothing, and need no torch
    import pyarrow as pa

    from fer_core.scoring.clip_score import ClipScore
    from fer_core.scoring.scorer import ClipScorer

log = logging.getLogger(__name__)

CHUNK = 16  # clips between two writings of the table
SHOWN = 200  # newest clips on the page
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp", ".opdownload")
_MEMORY = "watch.db"


class WatchBusyError(StoreError):
    """Another process is looking into the folder."""


@contextmanager
def watched_folder(folder: Path, parent: Path, limits: LimitsConfig) -> Iterator[WatchedFolder]:
    """Open the memory of a folder; other processes wait outside.

    Args:
        folder: the folder, which exists.
        parent: the workspace's folder for watched folders; the results are written to a subfolder of it.
        limits: limits of a clip.
    Raises:
        DataError: `folder` is no folder any more.
        WatchBusyError: another process has it open.
        StoreError: the results cannot be written.
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} to watch; make it, or name another one as watch.folder")
    real = folder.resolve()
    workspace = parent.resolve().parent  # a folder in it stays known when the workspace is moved
    known_as = real.relative_to(workspace) if real.is_relative_to(workspace) else real
    digest = hashlib.blake2b(os.fsencode(known_as), digest_size=4).hexdigest()
    out = parent / f"{printable(real.name) or 'root'}-{digest}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock", timeout=0):
            memory = Arrivals(out / _MEMORY)
            try:
                yield WatchedFolder(real, out, limits, memory)
            finally:
                memory.close()
    except Timeout as exc:
        raise WatchBusyError(f"another process is scoring what arrived in {folder}; wait for it") from exc
    except OSError as exc:
        raise StoreError(f"cannot write results to {out} ({exc.strerror or exc}); free some space there") from exc


class WatchedFolder:
    """A folder, its memory, and the folder of its results; opened by `watched_folder`."""

    def __init__(self, folder: Path, out: Path, limits: LimitsConfig, memory: Arrivals) -> None:
        self.folder, self.out, self.limits, self.memory = folder, out, limits, memory

    @property
    def page(self) -> Path:
        """Path of the page of what arrived."""
        return self.out / "feed.html"

    def look(self, settle_s: float) -> tuple[list[Item], int]:
        """Return the clips to read now, and the number of files that may still be written.

        Args:
            settle_s: time in seconds that a file must have stayed the same.
        """
        items = {os.fsencode(item.clip.path): item for item in self._items()}
        found = {
            path: (item.clip.id, stamp) for path, item in items.items() if (stamp := _stamp(item.clip.path)) is not None
        }
        ready, waiting = self.memory.look(found, time.time(), settle_s)
        if ready:
            written = _open_for_writing()
            busy = {path for path in ready if _is_busy(os.fsdecode(path), written)}
            ready, waiting = ready - busy, waiting | busy
        return [items[path] for path in sorted(ready)], len(waiting)

    def score(
        self, items: Sequence[Item], scorer: ClipScorer, store_root: Path, progress: Callable[[int, int], None]
    ) -> Iterator[tuple[ClipScore, ...]]:
        """Score clips whose content is new, and yield the rows of a few clips at a time, which are then remembered.

        Args:
            items: from `look`.
            store_root: the workspace's `store` folder.
            progress: called with (clips done, clips to read).
        Raises:
            StoreError: the results cannot be written.
        """
        for start in range(0, len(items), CHUNK):
            chunk = {}
            for item in items[start : start + CHUNK]:
                stamp, content = _stamp(item.clip.path), self._content(item)
                if stamp is None:
                    continue
                if self.memory.is_done(content) or content in chunk:
                    self.memory.name(os.fsencode(item.clip.path), content)
                else:
                    chunk[content] = (item, stamp)
            yield tuple(self._scored(chunk, scorer, store_root))
            progress(min(start + CHUNK, len(items)), len(items))

    def publish(self) -> list[Arrival] | None:
        """Write the table if it is older than the memory, and return the newest arrivals for the page, newest first.

        Returns:
            None if the page is up to date.
        """
        if self.page.is_file() and self.page.stat().st_mtime_ns > self.memory.file.stat().st_mtime_ns:
            return None
        from fer_core.scoring.tables import write_verdicts

        self.memory.forget_faces(but=SHOWN)
        arrivals = self.memory.all()
        rows = [
            {**row, "scored_at": a.scored_at, "in_folder": bool(a.names), "names": "|".join(a.names)}
            for a in arrivals
            for row in a.rows
        ]
        write_verdicts(rows, _schema(arrivals), self.out)
        return arrivals[: -SHOWN - 1 : -1]

    def _items(self) -> list[Item]:
        """Return the clips of the folder, named by their paths in it."""
        found = collect([self.folder], follow_links=self.limits.follow_links, may_be_empty=True)
        clips = [item for item in found if item.clip.path.suffix.lower() not in UNFINISHED]
        return [
            replace(item, clip=replace(item.clip, id=printable(os.path.relpath(item.clip.path, self.folder))))
            for item in clips
        ]

    def _content(self, item: Item) -> str:
        """Return the digest of a clip; of one that may not be read, a name for the file as it is."""
        try:
            if item.refused is None:
                admit(item.clip.path, self.limits, item.root)
                return clip_digest(item.clip.path)
        except (ClipError, OSError):
            pass
        return f"unread-{cache_key(path=printable(str(item.clip.path)), stamp=_stamp(item.clip.path))}"

    def _scored(self, chunk: dict[str, tuple[Item, str]], scorer: ClipScorer, store_root: Path) -> Iterator[ClipScore]:
        from fer_core.scoring.batch import scored_rows
        from fer_core.scoring.tables import record, write_explanations

        rows, _ = scored_rows(scorer, [item for item, _ in chunk.values()], store_root)
        by_path: dict[str, list[ClipScore]] = {}
        for row in rows:
            by_path.setdefault(row.path, []).append(row)
        write_explanations(rows, self.out)
        for content, (item, stamp) in chunk.items():
            people = by_path[str(item.clip.path)]
            if _stamp(item.clip.path) != stamp or people[0].digest not in ("", content):
                log.info("%s was changed while it was read; it is read again", item.clip.id)
                continue
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            records = [{**record(row, scorer), "classes": [str(c) for c in row.classes]} for row in people]
            final = not any(row.status.transient for row in people)
            self.memory.keep(os.fsencode(item.clip.path), content, now, records, people[0].thumbnail, final)
            yield from people


def _schema(arrivals: Sequence[Arrival]) -> pa.Schema:
    """Return the columns of the table: of a batch with the classes of all models, and three of a watched folder."""
    import pyarrow as pa

    from fer_core.scoring.tables import verdict_schema

    classes = dict.fromkeys(name for arrival in arrivals for row in arrival.rows for name in row["classes"])
    own = [("scored_at", pa.string()), ("in_folder", pa.bool_()), ("names", pa.string())]
    return pa.schema([*verdict_schema(tuple(classes)), *(pa.field(*column) for column in own)])


def _stamp(path: Path) -> str | None:
    """Return a text that changes whenever a file, or a file of a folder, changes; None if it is not there.

    The time of the last change of the inode is part of it, which no program can set: a file that is replaced by one of
    the same size and date is noticed too.
    """
    with suppress(OSError):
        if not path.is_dir():
            return _stat(path)
        return cache_key(files={printable(entry.name): _stat(Path(entry.path)) for entry in os.scandir(path)})
    return None


def _stat(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def _open_for_writing() -> set[str]:
    """Return the files that processes of this machine write to, as far as this user may see them."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            found |= {file.path for file in process.open_files() if getattr(file, "mode", "r") != "r"}
    return found


def _is_busy(path: str, written: set[str]) -> bool:
    return path in written or any(os.path.dirname(file) == path for file in written)
