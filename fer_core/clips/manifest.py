"""Manifest: the table of clips that a run works on, its CSV form, and its fingerprint.

The CSV is UTF-8 with a header line. The columns `path`, `label` and `subject` are required; `clip`, `dataset`,
`apex`, `split`, `intensity`, `root`, `keep_id`, `labelled_by`, `labelled_at` and any `group_*` are optional. `start`
and `end` are allowed only where they select the whole file, because clips are read whole. `path` is relative to the
manifest's folder, or to the row's `root`, an absolute folder. `write_manifest` writes `root` when clips lie outside
the manifest's folder: a manifest names every folder that it reads from, and no path can lead out of these.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from fer_core.clips.cells import csv_text
from fer_core.clips.clip import Clip, Split, clip_digest
from fer_core.clips.rows import read_rows
from fer_core.clips.spelling import joined_text
from fer_core.emotions import SIX, Classes, ordered
from fer_core.errors import DataError
from fer_core.store import cache_key, write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manifest:
    """Clips, in the order of the file that lists them.

    Args:
        clips: the clips; a subject is on one side of the split only.
        classes: the allowed labels; column i of every score array belongs to class i.
    Raises:
        DataError: two clips share an id, a subject is on two sides of the split, or a label is none of the classes.
    """

    clips: tuple[Clip, ...]
    classes: Classes = SIX

    def __post_init__(self) -> None:
        for clip in self.clips:
            if clip.emotion is not None and clip.emotion not in self.classes:
                raise DataError(f"clip '{clip.id}': '{clip.emotion}' is none of the classes {', '.join(self.classes)}")
        twice = [clip for clip, n in Counter(c.id for c in self.clips).items() if n > 1]
        if twice:
            raise DataError(f"{len(twice)} clip ids occur twice, the first is '{twice[0]}'; ids must be unique")
        sides: dict[str, Clip] = {}
        for clip in self.clips:
            if clip.subject and clip.split:
                other = sides.setdefault(clip.subject, clip)
                if other.split is not clip.split:
                    raise DataError(
                        f"subject '{clip.subject}' is in {other.split} (clip '{other.id}') and {clip.split} "
                        f"(clip '{clip.id}'); a subject may be in one split only. Run 'ferflow data split'."
                    )

    @classmethod
    def of_classes(cls, clips: Iterable[Clip], classes: Classes | None) -> Manifest:
        """Return a manifest of `clips`; `classes=None` takes the labels that occur, in the order of `ordered`."""
        clips = tuple(clips)
        return cls(clips, classes or ordered(c.emotion for c in clips if c.emotion is not None))

    def with_clips(self, clips: Iterable[Clip]) -> Manifest:
        """Return a manifest of other clips with the same classes."""
        return replace(self, clips=tuple(clips))

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Return the known subjects, sorted."""
        return tuple(sorted({c.subject for c in self.clips if c.subject}))

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Return the source databases, sorted; '' if a clip has none."""
        return tuple(sorted({c.dataset for c in self.clips}))

    @property
    def synthetic(self) -> bool:
        """Return True if any clip shows a drawn or rendered face; every result computed from it must then say so."""
        return any(c.synthetic for c in self.clips)

    def class_counts(self) -> dict[str, int]:
        """Return the number of labelled clips of each class, in the order of the classes."""
        counts = Counter(c.emotion for c in self.clips)
        return {label: counts[label] for label in self.classes}

    def labels(self) -> np.ndarray:
        """Return the class index of each labelled clip, (n,) int64, in the order of the clips."""
        column = {label: place for place, label in enumerate(self.classes)}
        return np.array([column[c.emotion] for c in self.clips if c.emotion is not None], dtype=np.int64)

    def counts_by(self, key: Callable[[Clip], str]) -> dict[str, dict[str, int]]:
        """Return the `class_counts` of each group of clips with the same key, keys sorted."""
        groups: dict[str, list[Clip]] = {}
        for clip in self.clips:
            groups.setdefault(key(clip), []).append(clip)
        return {name: self.with_clips(groups[name]).class_counts() for name in sorted(groups)}

    def of(self, *sides: Split) -> Manifest:
        """Return a manifest of the clips on the named side or sides of the split."""
        return self.with_clips(c for c in self.clips if c.split in sides)

    def labelled(self) -> Manifest:
        """Return a manifest of the clips that have a label."""
        return self.with_clips(c for c in self.clips if c.emotion is not None)


def read_manifest(
    path: Path,
    *,
    labelled: bool = True,
    subject: Literal["required", "none"] = "required",
    classes: Classes | None = SIX,
    ignore_split: bool = False,
    on_bad_path: Callable[[int, Clip, DataError], None] | None = None,
) -> Manifest:
    """Return the manifest in a CSV file. No clip is opened; a missing clip is found when it is decoded.

    Args:
        path: UTF-8 CSV; commas, semicolons, tabs or bars as delimiter, a BOM and CRLF are accepted.
        labelled: leave out rows without a label and rows of other classes, and log how many. False keeps all rows, and
            the label column may be missing (clips to be scored).
        subject: `none` accepts rows without a subject; no subject-disjoint split of them is possible.
        classes: the allowed labels; None allows every label.
        ignore_split: ignore the split column, in order to split again.
        on_bad_path: called for each row whose path is refused (a URL, `..`, outside its root) with the number of clips
            kept before it, its clip and the reason; the row is skipped. None raises instead.

    Raises:
        DataError: the file cannot be read, a column is missing, or a row is wrong or contradicts another one; the
            message names file, line, value and remedy.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     table = Path(folder) / "clips.csv"
        ...     _ = table.write_text("clip,path,subject,label\\na,a.mp4,s1,happiness\\nb,b.mp4,s2,fear\\n")
        ...     [(clip.id, clip.subject, str(clip.emotion)) for clip in read_manifest(table).clips]
        [('a', 's1', 'happiness'), ('b', 's2', 'fear')]
    """
    rows = read_rows(
        path,
        labelled=labelled,
        subject=subject,
        classes=classes,
        ignore_split=ignore_split,
        on_bad_path=on_bad_path,
    )
    if rows.dropped:
        left_out = ", ".join(f"{n} rows ({why})" for why, n in sorted(rows.dropped.items()))
        log.warning("%s: left out %s", path.name, left_out)
    for note in joined_text(rows.joined):
        log.warning("%s: %s", path.name, note)
    return Manifest.of_classes(rows.clips, classes)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a CSV file that `read_manifest` reads back to the same clips; no cell of it runs as a spreadsheet formula.

    Raises:
        DataError: a name is not UTF-8.
        StoreError: the file cannot be written.
    """
    folder = path.absolute().parent
    roots = _outer_roots(manifest.clips, folder)
    columns: dict[str, Callable[[Clip], str]] = {
        "clip": lambda c: c.id,
        "path": lambda c: _relative(c.path, roots.get(c.id) or folder),
        "subject": lambda c: c.subject,
        "label": lambda c: c.emotion or "",
        "dataset": lambda c: c.dataset,
        "apex": lambda c: "" if c.apex is None else str(c.apex),
        "split": lambda c: c.split or "",
        "root": lambda c: str(roots.get(c.id, "")),
        "keep_id": lambda c: "yes" if c.keep_id else "",
        "labelled_by": lambda c: c.labelled_by,
        "labelled_at": lambda c: c.labelled_at,
    }
    for name in ("split", "root", "keep_id", "labelled_by", "labelled_at"):  # columns of some manifests only
        if not any(columns[name](c) for c in manifest.clips):
            del columns[name]
    groups = sorted({name for c in manifest.clips for name in c.groups})
    rows = [[*columns, *(f"group_{name}" for name in groups)]]
    for c in manifest.clips:
        rows.append([cell(c) for cell in columns.values()] + [c.groups.get(name, "") for name in groups])
    try:
        data = csv_text(rows).encode()
    except UnicodeEncodeError as exc:
        name = exc.object[max(0, exc.start - 40) : exc.end + 20].splitlines()[0]
        raise DataError(f"{name!r} is not UTF-8 and cannot be written to {path.name}; rename the file") from exc
    write_atomic(path, data)


def content_digests(manifest: Manifest, progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """Return the content digest of each clip, by clip id; every file is read once.

    Raises:
        DataError: a clip cannot be read.
        ClipError: the order of the frames in a folder is unknown.
    """
    digests = {}
    for i, clip in enumerate(manifest.clips):
        try:
            digests[clip.id] = clip_digest(clip.path)
        except OSError as exc:
            raise DataError(
                f"clip '{clip.id}': {clip.path} cannot be read ({exc.strerror or exc}); restore it or drop its row"
            ) from exc
        if progress:
            progress(i + 1, len(manifest))
    return digests


def fingerprint(manifest: Manifest, digests: Mapping[str, str]) -> str:
    """Return one hash, 32 hex digits, over the rows (content digest, emotion, subject, split), whatever their order.

    Names, paths and databases do not change it: the same clips with the same labels and sides are the same data.

    Args:
        digests: clip id -> content digest, for every clip.
    Raises:
        DataError: a clip has no digest.
    """
    missing = [c.id for c in manifest.clips if c.id not in digests]
    if missing:
        raise DataError(f"{len(missing)} clips have no content digest, the first is '{missing[0]}'")
    rows = sorted([digests[c.id], str(c.emotion or ""), c.subject, str(c.split or "")] for c in manifest.clips)
    return cache_key(manifest=rows)


def _outer_roots(clips: Iterable[Clip], folder: Path) -> dict[str, Path]:
    """Return, by clip id, the root of each clip outside `folder`: the deepest folder with all clips of a database."""
    outside: dict[str, list[Clip]] = {}
    for clip in clips:
        if not clip.path.is_relative_to(folder):
            outside.setdefault(clip.dataset, []).append(clip)
    return {
        c.id: Path(os.path.commonpath([x.path.parent for x in members]))
        for members in outside.values()
        for c in members
    }


def _relative(path: Path, root: Path) -> str:
    text = path.relative_to(root).as_posix()
    return f"./{text}" if ":" in text.split("/")[0] else text  # `take:1.mp4` would be taken for a protocol
