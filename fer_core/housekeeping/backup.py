"""Copy a workspace and its databases to a folder, while they are in use, and restore them in another place.

Databases come first, then files: whatever a database names was written before, so it is in the copy. SQLite files are
copied by SQLite's own backup, PostgreSQL databases by `pg_dump`. A copy is complete under its name, or not there. It
has no passwords: `servers/` is left out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from pydantic import BaseModel
from sqlalchemy import make_url

from fer_core import __version__
from fer_core.errors import StoreError
from fer_core.store import read_note, write_atomic

NOTE = "backup.json"
FILES, DUMPS = "workspace", "postgresql"
LEFT_OUT = ("servers", "servers.json")
SQLITE = b"SQLite format 3\0"
_JOURNALS = ("-wal", "-shm", "-journal")
_OF_PROCESSES = (".tmp-", "temporary-")  # half-written files, and the address of a server that commands share


class BackupNote(BaseModel):
    """What a backup holds.

    Args:
        ferflow: version that made it.
        made_at: UTC.
        workspace: absolute path of the workspace.
        files: path in the workspace -> BLAKE2b-128 of the copy.
        databases: name of the part (`mlflow`, `prefect`, `optuna`) -> BLAKE2b-128 of its dump.
    """

    ferflow: str
    made_at: str
    workspace: str
    files: dict[str, str]
    databases: dict[str, str] = {}


def back_up(workspace: Path, target: Path, databases: Mapping[str, str], *, store: bool = True) -> BackupNote:
    """Copy a workspace and its PostgreSQL databases into a new folder.

    Args:
        workspace: absolute path.
        target: the new folder; must not exist, and must be outside the workspace.
        databases: name of the part -> URL of a PostgreSQL database.
        store: False leaves out `store/`, which is computed again when it is needed.
    Raises:
        StoreError: `target` exists or cannot be written, or a database cannot be copied.
    """
    if target.exists() or target.resolve().is_relative_to(workspace.resolve()):
        raise StoreError(f"{target} exists or is inside the workspace; name a new folder outside of it")
    half = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(half, ignore_errors=True)
        (half / FILES).mkdir(parents=True)
        half.chmod(0o700)  # it holds faces
        dumped = {name: _dump(url, half / DUMPS / f"{name}.dump") for name, url in databases.items()}
        found = [f for f in _files(workspace) if store or f.parts[0] != "store"]
        sqlite = [f for f in found if _is_sqlite(workspace / f)]
        copied = {}
        for file in (*sqlite, *(f for f in found if f not in set(sqlite))):
            digest = _copy(workspace / file, half / FILES / file, by_sqlite=file in set(sqlite))
            if digest:
                copied[str(file)] = digest
        note = BackupNote(
            ferflow=__version__,
            made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            workspace=str(workspace),
            files=copied,
            databases=dumped,
        )
        write_atomic(half / NOTE, note.model_dump_json(indent=1).encode())
        half.rename(target)
    except (OSError, sqlite3.Error) as exc:
        raise StoreError(f"cannot back up {workspace} to {target}: {exc}") from exc
    return note


def restore(source: Path, workspace: Path, databases: Mapping[str, str]) -> BackupNote:
    """Copy a backup into an empty workspace and empty databases; every file is checked.

    Addresses in MLflow's database stay as they were: see `tracking.relocation`.

    Args:
        source: a folder that `back_up` wrote.
        workspace: absolute path; empty or not there.
        databases: as in `back_up`; the same parts.
    Raises:
        StoreError: `source` is no backup or damaged, `workspace` is not empty, or a database is missing or cannot be
            filled.
    """
    note = read_note(source / NOTE, BackupNote)
    if note is None:
        raise StoreError(f"{source} is no backup of ferflow (it has no readable {NOTE}); name the folder of a backup")
    if workspace.is_dir() and any(workspace.iterdir()):
        raise StoreError(f"workspace {workspace} is not empty; name a new one with --workspace")
    if missing := note.databases.keys() - databases.keys():
        raise StoreError(
            f"{source} holds PostgreSQL databases ({', '.join(sorted(missing))}); name where they go with --database "
            "(MLflow and Prefect) or --set search.storage=… (Optuna)"
        )
    for name, digest in note.databases.items():
        _check(source / DUMPS / f"{name}.dump", digest)
    try:
        for file, digest in note.files.items():
            target = workspace / _inside(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / FILES / file, target)
            _check(target, digest)
    except OSError as exc:
        raise StoreError(f"cannot restore {source} to {workspace}: {exc}") from exc
    for name in note.databases:
        _fill(databases[name], source / DUMPS / f"{name}.dump")
    return note


def _files(workspace: Path) -> Iterator[Path]:
    """Yield the regular files of a workspace that belong into a backup, as relative paths."""
    for here, folders, files in os.walk(workspace):
        folder = Path(here)
        if folder == workspace:
            folders[:] = [name for name in folders if name not in LEFT_OUT]
        folders.sort()
        for name in sorted(files):
            file = folder / name
            skipped = name in LEFT_OUT or name.startswith(_OF_PROCESSES) or name.endswith(_JOURNALS)
            if not skipped and file.is_file() and not file.is_symlink():
                yield file.relative_to(workspace)


def _is_sqlite(file: Path) -> bool:
    try:
        with file.open("rb") as content:
            return content.read(len(SQLITE)) == SQLITE
    except FileNotFoundError:
        return False


def _copy(file: Path, target: Path, by_sqlite: bool) -> str:
    """Copy a file, and return the digest of the copy; empty if the file is gone meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if by_sqlite:
        with (
            closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=60)) as there,
            closing(sqlite3.connect(target)) as here,
        ):
            there.backup(here)
            here.execute("PRAGMA journal_mode=DELETE")
    else:
        try:
            shutil.copy2(file, target)
        except FileNotFoundError:
            return ""
    return _digest(target)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _check(file: Path, digest: str) -> None:
    if not file.is_file() or _digest(file) != digest:
        raise StoreError(f"{file} is not the file that was backed up; use another backup")


def _inside(file: str) -> Path:
    path = Path(file)
    if path.is_absolute() or ".." in path.parts:
        raise StoreError(f"the backup names {file!r}, which is outside of a workspace; use another backup")
    return path


def _dump(url: str, target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    _postgres("pg_dump", url, "--format=custom", f"--file={target}")
    return _digest(target)


def _fill(url: str, dump: Path) -> None:
    _postgres("pg_restore", url, "--no-owner", "--exit-on-error", "--single-transaction", str(dump))


def _postgres(program: str, url: str, *arguments: str) -> None:
    """Run a program of PostgreSQL on a database. Raises StoreError with its last words."""
    place = make_url(url).set(drivername="postgresql").render_as_string(False)
    command = [_program(program), "--no-password", f"--dbname={place}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join(done.stderr.split())[:300] or "it said nothing"
        raise StoreError(f"{program} of {url} failed ({last}); a database that is restored must be empty")


def _program(name: str) -> str:
    """Return the newest installed program of PostgreSQL, which also reads older servers."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda file: float(file.parts[-3]))
    found = str(newest[-1]) if newest else shutil.which(name)
    if not found:
        raise StoreError(f"{name} is not installed; install PostgreSQL's client (Debian: postgresql-client)")
    return found
