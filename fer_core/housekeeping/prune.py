"""Find and remove files in the workspace's store that are not needed.

Removed files are made again when needed. Comparisons and verdicts are results, so they are removed only on request.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from fer_core.clips.manifest import content_digests, read_manifest
from fer_core.clips.neutral import LAST_FRAME, SUFFIX
from fer_core.config import PreprocessConfig
from fer_core.errors import DataError, StoreError
from fer_core.features.descriptors.descriptor import course_config
from fer_core.preprocess.store import faces_key
from fer_core.store import EntryStore
from fer_core.workspace import TRIAL_SPEC, Workspace

log = logging.getLogger(__name__)

Result = Literal["comparisons", "verdicts"]
RESULTS: tuple[Result, ...] = get_args(Result)
DAY_S = 24 * 3600.0


def files_of(store: Path) -> dict[str, list[Path]]:
    """Return kind -> its files: entries and half-written files."""
    kinds = sorted(p for p in store.iterdir() if p.is_dir()) if store.is_dir() else []
    return {kind.name: sorted(p for p in kind.rglob("*") if p.is_file()) for kind in kinds}


def removable(
    workspace: Workspace,
    cfg: PreprocessConfig,
    manifests: Sequence[Path] = (),
    *,
    unused: bool = False,
    older_than_days: float = 0.0,
    also: Collection[Result] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Return the files of the store that may be removed.

    Args:
        cfg: preprocessing settings in use.
        manifests: manifests whose clips are in use; empty: the workspace's manifest. Only read with `unused`.
        unused: return only files that are not in use. In use are: faces of the clips with `cfg` and with the settings
            of every trial, and of their whole course; features and hashes of these; tables of the clips and of trials;
            and entries that belong to no clip, such as a backbone's layers.
        older_than_days: return only files that are older than this.
        also: kinds of results to return too.
        progress: called with (clips read, all clips).
    Raises:
        DataError: a manifest or one of its clips cannot be read, so that what it uses is unknown.
    """
    files = [p for kind, paths in files_of(workspace.store).items() if kind not in {*RESULTS} - {*also} for p in paths]
    if older_than_days:
        oldest = time.time() - older_than_days * DAY_S
        files = [path for path in files if path.stat().st_mtime < oldest]
    if unused:
        in_use = _in_use(workspace, cfg, manifests or [workspace.manifest], progress)
        files = [path for path in files if path not in in_use]
    return files


def remove(files: Iterable[Path]) -> None:
    """Remove files; missing files are ignored.

    Raises:
        StoreError: a file cannot be removed.
    """
    for path in files:
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise StoreError(f"cannot remove {path}: {exc.strerror or exc}") from exc


def _in_use(
    workspace: Workspace,
    cfg: PreprocessConfig,
    manifests: Sequence[Path],
    progress: Callable[[int, int], None] | None,
) -> set[Path]:
    """Return the files in use, with half-written files of the last day, which a process may still be writing."""
    ids: set[str] = set()
    cuts: dict[str, set[int]] = {}  # content digest -> frames at which it may have been cut, see `cut_at`
    for path in manifests:
        if not path.is_file():
            raise DataError(f"no manifest at {path}; name the manifests in use: ferflow store CSV ...")
        listed = read_manifest(path, labelled=False, subject="none", classes=None)
        digests = content_digests(listed, progress)
        ids |= digests.keys()
        for clip in listed.clips:
            cuts.setdefault(digests[clip.id], {-1, LAST_FRAME}).add(-1 if clip.apex is None else clip.apex)
    stores = {kind: EntryStore(workspace.store, kind) for kind in files_of(workspace.store)}
    notes = {
        kind: {key: entries.note(key) or {} for key in entries.keys()}  # noqa: SIM118
        for kind, entries in stores.items()
    }
    tables = notes.get("matrix", {})
    of_trials = _tables_of_trials(workspace) & tables.keys()
    settings = {cfg, *filter(None, (_settings_of(tables[key]) for key in of_trials))}
    faces = {
        faces_key(digest, cut, chosen)
        for digest, places in cuts.items()
        for cut in places
        for each in settings
        for chosen in (each, course_config(each))
    }
    of_clips = {key for key, note in tables.items() if _clips_of(note) <= ids and _settings_of(note) in settings}
    in_use: dict[str, Collection[str]] = {
        "faces": faces,
        "features": {key for key, note in notes.get("features", {}).items() if note.get("faces") in faces},
        "hashes": {key for key, note in notes.get("hashes", {}).items() if note.get("clip_digest") in cuts},
        "matrix": {entry for key in of_trials | of_clips for entry in (key, *_parts_of(tables[key]))},
        **dict.fromkeys(RESULTS, ()),
    }
    entries_in_use = {stores[kind].path(key) for kind in stores for key in in_use.get(kind, notes[kind])}
    since = time.time() - DAY_S
    partial = (p for files in files_of(workspace.store).values() for p in files if p.suffix != ".safetensors")
    return entries_in_use | {path for path in partial if path.stat().st_mtime > since}


def _tables_of_trials(workspace: Workspace) -> set[str]:
    """Return the keys of the tables that the workspace's trials read, in studies and for single settings."""
    keys = set()
    for folder in workspace.root.iterdir():
        for path in folder.rglob(TRIAL_SPEC) if folder != workspace.store else ():
            try:
                keys.add(Path(json.loads(path.read_bytes())["table"]).stem)
            except (OSError, ValueError, KeyError, TypeError) as exc:
                log.warning("%s cannot be read (%s); which table it reads is unknown", path, exc)
    return keys


def _clips_of(table: Mapping[str, Any]) -> set[str]:
    """Return the ids of the clips in a table; neutral first frames count as their clip."""
    return {name.removesuffix(SUFFIX) for name in table.get("clips", ())}


def _settings_of(table: Mapping[str, Any]) -> PreprocessConfig | None:
    """Return the preprocessing settings of a table; None for a part of a table, or if they cannot be read."""
    try:
        return PreprocessConfig.model_validate_json(table["note"]["preprocess"])
    except (KeyError, TypeError, ValidationError):
        return None


def _parts_of(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of a table's views, maps and descriptors, which are separate entries."""
    for keys in table.get("parts", {}).values():
        yield from keys
    yield from table.get("described", {}).values()
