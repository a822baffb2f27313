"""Remove the data of a person from the workspace, and list what cannot be removed automatically.

The notes of stored entries identify the person: by `clip_digest` or `digest` of a clip, by the `faces` they were made
from, or by `subjects`. So entries of all kinds are found.
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
    """What was (or would be) removed of a person, and what remains.

    Args:
        subject: the person.
        clips: the person's clips in the manifest; their files are not removed.
        unread: ids of clips whose files are missing, so that entries made from them cannot be found by content.
        removed: kind of entry -> number.
        rows: number of rows in the manifest.
        models: folders of models that were trained on the person.
        results: folders of scoring results in the workspace that contain the person.
        pages: pages with pictures of faces (data card, contact sheet), for which the persons are not recorded.
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
    """Remove a person's faces, features, hashes, predictions, tables, and rows of the manifest.

    Args:
        subject: subject as in the manifest, `<dataset>:<id>`.
        manifest: CSV with the person's clips; it is rewritten last, so that an interrupted run can be repeated.
        dry: only list, remove nothing.
    Raises:
        DataError: the subject is empty or not in the manifest.
        StoreError: something cannot be removed or written.
    """
    if not subject:  # for example an unset shell variable; it would match all clips without a subject
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
    """Yield entries whose note contains the subject, one of the clips, or faces of these."""
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
    """Yield folders of models that were trained on the subject; unreadable ones are logged."""
    for path in sorted(models.rglob(RECORD)):
        try:
            record = ModelRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as exc:
            log.warning("%s cannot be read (%s); whether it was trained on '%s' is unknown", path, exc, subject)
            continue
        if was_trained_on(record.facts, subject):
            yield path.parent


def _results_of(digests: set[str], root: Path) -> Iterator[Path]:
    """Yield folders with scoring results of one of the clips."""
    for path in sorted(root.rglob("verdicts.parquet")):
        try:
            seen = pq.read_table(path, columns=["clip_digest"]).column(0).to_pylist()
        except (OSError, ArrowException, KeyError) as exc:
            log.warning("%s cannot be read (%s); whether it shows the person is unknown", path, exc)
            continue
        if digests & set(seen):
            yield path.parent
