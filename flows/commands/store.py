"""`ferflow store`: what the workspace's stores hold, and making room."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.session import Session, command

if TYPE_CHECKING:
    from fer_core.store import EntryStore

DAY = 24 * 3600.0


@command()
def store(
    session: Session,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Remove entries written longer ago.")
    ] = None,
    unused: Annotated[
        bool, typer.Option("--unused", help="Remove what the manifest under the present settings does not use.")
    ] = False,
) -> dict[str, Any]:
    """List the stored faces, features and training tables by size; remove some. Whatever is missed is made again."""
    from fer_core.store import EntryStore

    root = session.workspace / "store"
    kinds = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    stores = {kind: EntryStore(root, kind) for kind in kinds}
    removed = dict.fromkeys(kinds, 0)
    doomed: set[Path] = set()
    if older_than is not None:
        oldest = time.time() - older_than * DAY
        doomed |= {p for p in _files(root) if p.stat().st_mtime < oldest}
    if unused:
        doomed |= set(_unused(session, stores))
    for path in doomed:
        removed[path.relative_to(root).parts[0]] += path.stat().st_size
        path.unlink()
    sizes = {kind: [p.stat().st_size for p in _files(root / kind)] for kind in kinds}
    rows = [(kind, len(sizes[kind]), _megabytes(sum(sizes[kind])), _megabytes(removed[kind])) for kind in kinds]
    session.table(str(root), ("kind", "entries", "MB", "MB removed"), rows)
    return {
        "store": str(root),
        "kinds": {k: {"entries": len(s), "bytes": sum(s), "bytes_removed": removed[k]} for k, s in sizes.items()},
    }


def _files(folder: Path) -> Iterator[Path]:
    """Entries, and what a kill left half written."""
    return (p for p in folder.rglob("*") if p.is_file())


def _megabytes(n: int) -> float:
    return round(n / 1e6, 1)


def _unused(session: Session, stores: dict[str, EntryStore]) -> Iterator[Path]:
    """Entries that no clip of the manifest leads to; all tables, which are joined from features in seconds."""
    from fer_core.clips.manifest import content_digests, read_manifest
    from fer_core.preprocess.store import cut_at, faces_key

    path = Path(session.config.manifest or session.workspace / "clips.csv")
    manifest = read_manifest(path, labelled=False, subject="none")
    with session.progress("Reading clips") as progress:
        digests = content_digests(manifest, progress)
    cfg = session.config.preprocess
    faces = {faces_key(digests[c.id], cut_at(c, cfg), cfg) for c in manifest.clips}
    seen = set(digests.values())
    for kind, entries in stores.items():
        for key in entries.keys():  # noqa: SIM118
            note = entries.note(key) or {}
            used = {"faces": key in faces, "hashes": note.get("clip_digest") in seen}
            if not used.get(kind, kind == "features" and note.get("faces") in faces):
                yield entries.path(key)
