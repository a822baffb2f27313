"""The memory of a watched folder, in a SQLite file: which files it holds, and which contents were scored."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_core.errors import StoreError

ATTEMPTS = 3  # for a clip whose error may not occur again, such as a time-out
_TABLES = """
CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, shown TEXT, stamp TEXT, since REAL, content TEXT);
CREATE TABLE IF NOT EXISTS clips (
    number INTEGER PRIMARY KEY AUTOINCREMENT, content TEXT UNIQUE, scored_at TEXT, attempts INTEGER, final INTEGER,
    rows TEXT, face BLOB
);
"""


@dataclass(frozen=True)
class Arrival:
    """A content that was scored.

    Args:
        scored_at: UTC, `2026-11-27T03:20:00Z`.
        rows: its rows of the table, one, or one per person: column -> value.
        face: JPEG of the face; empty for older arrivals.
        names: the names under which the folder holds it now, sorted.
    """

    scored_at: str
    rows: tuple[dict[str, Any], ...]
    face: bytes
    names: tuple[str, ...]


class Arrivals:
    """What a watched folder holds and what was scored there.

    Args:
        file: the SQLite file, made if needed.
    Raises:
        StoreError: the file is no such memory, or cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._db = sqlite3.connect(file)
            self._db.executescript(_TABLES)
        except sqlite3.Error as exc:
            raise StoreError(
                f"cannot use {file}, which remembers the clips that were scored: {exc}; restore it, or move it away to "
                "score all clips again"
            ) from exc

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def look(
        self, found: Mapping[bytes, tuple[str, str]], now: float, settle_s: float
    ) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """Note the files that are there, and return those to read and those that may still be written.

        Args:
            found: path -> (name, stamp); the stamp changes whenever the file does.
            now: seconds since the epoch.
            settle_s: time that a stamp must stay the same before the file is read.
        """
        ready: set[bytes] = set()
        waiting: set[bytes] = set()
        with self._db:
            before = {
                bytes(path): (stamp, since, content, final)
                for path, stamp, since, content, final in self._db.execute(
                    "SELECT path, stamp, since, files.content, final OR attempts >= ? FROM files "
                    "LEFT JOIN clips ON clips.content = files.content",
                    (ATTEMPTS,),
                )
            }
            for path in before.keys() - found.keys():
                self._db.execute("DELETE FROM files WHERE path = ?", (path,))
            for path, (name, stamp) in found.items():
                old = before.get(path)
                if old is None or old[0] != stamp or old[1] > now:  # later than now: the clock was set back
                    row = (path, name, stamp, now, None)
                    self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", row)
                    waiting.add(path)
                elif not old[3]:
                    (ready if now - old[1] >= settle_s else waiting).add(path)
        return frozenset(ready), frozenset(waiting)

    def is_done(self, content: str) -> bool:
        """Return True if a content needs no further attempt."""
        found = self._db.execute("SELECT final OR attempts >= ? FROM clips WHERE content = ?", (ATTEMPTS, content))
        return bool((found.fetchone() or (0,))[0])

    def name(self, path: bytes, content: str) -> None:
        """Note which content a file holds."""
        with self._db:
            self._db.execute("UPDATE files SET content = ? WHERE path = ?", (content, path))

    def keep(
        self, path: bytes, content: str, scored_at: str, rows: Sequence[Mapping[str, Any]], face: bytes, final: bool
    ) -> None:
        """Note, in one step, that a file holds a content, and the rows of that content in place of earlier ones."""
        text = json.dumps(list(rows))
        with self._db:
            self._db.execute("UPDATE files SET content = ? WHERE path = ?", (content, path))
            self._db.execute(
                "INSERT INTO clips (content, scored_at, attempts, final, rows, face) VALUES (?, ?, 1, ?, ?, ?) "
                "ON CONFLICT (content) DO UPDATE SET scored_at = excluded.scored_at, attempts = attempts + 1, "
                "final = excluded.final, rows = excluded.rows, face = excluded.face",
                (content, scored_at, final, text, face),
            )

    def all(self) -> list[Arrival]:
        """Return what was scored, in the order of arrival."""
        names: dict[str, list[str]] = {}
        with closing(self._db.cursor()) as cursor:
            for content, shown in cursor.execute("SELECT content, shown FROM files WHERE content NOT NULL"):
                names.setdefault(content, []).append(shown)
            return [
                Arrival(scored_at, tuple(json.loads(rows)), bytes(face), tuple(sorted(names.get(content, ()))))
                for content, scored_at, rows, face in cursor.execute(
                    "SELECT content, scored_at, rows, face FROM clips ORDER BY number"
                )
            ]

    def forget_faces(self, but: int) -> None:
        """Delete the pictures of all arrivals but the newest `but`."""
        with self._db:
            self._db.execute(
                "UPDATE clips SET face = x'' WHERE face != x'' AND number <= (SELECT max(number) FROM clips) - ?",
                (but,),
            )
