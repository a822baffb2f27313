"""Forgetting a person: what the workspace keeps of them is removed, what cannot be taken back is listed.

Stored entries say in their notes whose they are: `clip_digest` or `digest` of a clip, `faces` they were made of, or
`subjects`. Whatever says so is found, of whatever kind it is.
"""

from __future__ import annotations

import difflib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyarrow import ArrowException
from pydantic import ValidationError

from fer_core.clips.clip import Clip, clip_digest
from fer_core.clips.manifest import read_manifest
from fer_core.clips.rows import drop_subject
from fer_core.errors import DataError
from fer_core.models.bundle import RECORD, was_trained_on
from fer_core.models.record import ModelRecord
from fer_core.store import EntryStore
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forgotten:
    """Everything of a person that was, or would be, removed, and what remains.

    Args:
        clips: their clips as listed; the files themselves are the user's and stay.
        unread: clips that are gone already, so that what was made of them cannot be known by their content.
        removed: kind of entry -> how many.
        rows: rows of the manifest.
        models: folders of models trained on them.
        results: scored folders in the workspace that show them.
        pages: pictures of faces in the workspace, whose people nobody wrote down: a data card, a contact sheet.
    """

    subject: str
    clips: tuple[Clip, ...]
    unread: tuple[str, ...]
    removed: Mapping[str, int]
    rows: int
    models: tuple[Path, ...]
    results: tuple[Path, ...]
    pages: tuple[Path, ...]


def forget(subject: str, manifest: Path, workspace: Workspace, dry: bool = False) -> Forgotten:
    """Remove a person's faces, features, hashes, verdicts, the tables they are in, and their rows of the manifest.

    Args:
        subject: as the manifest spells it, `<dataset>:<id>`.
        manifest: CSV their clips are listed in; it is rewritten last, so that a stopped run can be repeated.
        dry: only look.
    Raises:
        DataError: nobody of that name is in the manifest, or no name is given.
        StoreError: something cannot be removed or written.
    """
    if not subject:  # a shell variable that is not set, which would be everybody whose name is unknown
        raise DataError("whom to forget is empty; name a subject as the manifest spells it, <dataset>:<id>")
    listed = read_manifest(manifest, labelled=False, subject="none", classes=None)
    clips = tuple(c for c in listed.clips if c.subject == subject)
    if not clips:
        of_that_id = [known for known in listed.subjects if known.endswith(f":{subject}")]
        close = of_that_id or difflib.get_close_matches(subject, listed.subjects, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"it has {len(listed.subjects)} subjects"
        raise DataError(f"{manifest}: no clip of subject '{subject}'; {hint}")
    digests, unread = _digests(clips)
    removed: Counter[str] = Counter()
    for entries, key in list(_entries_of(subject, digests, workspace.store)):
        removed[entries.kind] += 1
        if not dry:
            entries.path(key).unlink(missing_ok=True)
    return Forgotten(
        subject=subject,
        clips=clips,
        unread=unread,
        removed=dict(sorted(removed.items())),
        rows=drop_subject(manifest, subject, dry),
        models=tuple(_models_of(subject, workspace.models)),
        results=tuple(_results_of(digests, workspace.root)),
        pages=tuple(path for path in (workspace.card, workspace.contact_sheet) if path.is_file()),
    )


def _digests(clips: Sequence[Clip]) -> tuple[set[str], tuple[str, ...]]:
    digests, unread = set(), []
    for clip in clips:
        try:
            digests.add(clip_digest(clip.path))
        except OSError:
            unread.append(clip.id)
    return digests, tuple(unread)


def _entries_of(subject: str, digests: set[str], store: Path) -> Iterator[tuple[EntryStore, str]]:
    """Entries whose note names the subject, one of the clips, or faces that do."""
    kinds = sorted(p.name for p in store.iterdir() if p.is_dir()) if store.is_dir() else []
    notes = {
        (kind, key): note
        for kind in kinds
        for key in EntryStore(store, kind).keys()  # noqa: SIM118
        if (note := EntryStore(store, kind).note(key)) is not None
    }
    own = {place for place, note in notes.items() if _of_clip(note, digests) or subject in note.get("subjects", ())}
    faces = {key for _, key in own}
    own |= {place for place, note in notes.items() if note.get("faces") in faces}
    yield from ((EntryStore(store, kind), key) for kind, key in sorted(own))


def _of_clip(note: Mapping[str, Any], digests: set[str]) -> bool:
    return note.get("clip_digest") in digests or note.get("digest") in digests


def _models_of(subject: str, models: Path) -> Iterator[Path]:
    """Folders of models that say they were trained on the subject; of unreadable ones the log says so."""
    for path in sorted(models.rglob(RECORD)):
        try:
            record = ModelRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as exc:
            log.warning("%s cannot be read (%s); whether it was trained on '%s' is unknown", path, exc, subject)
            continue
        if was_trained_on(record.facts, subject):
            yield path.parent


def _results_of(digests: set[str], root: Path) -> Iterator[Path]:
    """Folders with scored results of one of the clips."""
    for path in sorted(root.rglob("verdicts.parquet")):
        try:
            seen = pq.read_table(path, columns=["clip_digest"]).column(0).to_pylist()
        except (OSError, ArrowException, KeyError) as exc:
            log.warning("%s cannot be read (%s); whether it shows the person is unknown", path, exc)
            continue
        if digests & set(seen):
            yield path.parent
