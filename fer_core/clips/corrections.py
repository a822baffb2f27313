"""Labels that a person confirmed or corrected in the review of a scored batch: read them, put them into a manifest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fer_core.clips.manifest import Manifest
from fer_core.clips.rows import read_table
from fer_core.emotions import ordered
from fer_core.errors import DataError

COLUMNS = ("clip", "clip_digest", "label", "verdict", "who", "when")
_LABEL = re.compile(r"\w[\w .-]{0,63}")


@dataclass(frozen=True)
class Correction:
    """What a person said about one clip.

    Args:
        clip: name of the clip in the report.
        digest: its content digest, by which it is found in a manifest.
        label: what it shows; None if it cannot be told.
        verdict: what the model said.
        who, when: the person, and the time (ISO 8601).
    """

    clip: str
    digest: str
    label: str | None
    verdict: str
    who: str
    when: str


@dataclass(frozen=True)
class Corrected:
    """A manifest with its corrections.

    Args:
        manifest: the clips with their labels.
        changed: clip id -> (label before, label now), where a person gave another label.
        confirmed: ids of clips whose label a person confirmed.
        unclear: clips of which a person could not tell what they show; their labels stay.
        unmatched: clips of the corrections that are not in the manifest.
    """

    manifest: Manifest
    changed: Mapping[str, tuple[str, str]]
    confirmed: tuple[str, ...]
    unclear: tuple[str, ...]
    unmatched: tuple[str, ...]


def read_corrections(path: Path) -> list[Correction]:
    """Return the rows of a `corrections.csv`; of two rows on the same content, the later one.

    Raises:
        DataError: the file cannot be read, a column is missing, or a row has no person, time, digest or valid label.
    """
    found: dict[str, Correction] = {}
    _, rows = read_table(path, list(COLUMNS))
    for line, row in rows:
        where = f"{path.name} line {line}"
        digest, who, when, label = (row.get(name, "").strip() for name in ("clip_digest", "who", "when", "label"))
        if not re.fullmatch(r"[0-9a-f]{32}", digest):
            raise DataError(f"{where}: clip_digest is {digest!r}, not 32 hex digits; save the corrections again")
        if not who:
            raise DataError(f"{where}: nobody is named under 'who'; enter the person who gave the label")
        if label and not _LABEL.fullmatch(label):
            raise DataError(f"{where}: {label!r} is no label; a label is a word such as happiness")
        _check_time(when, where)
        given = Correction(row.get("clip", ""), digest, label or None, row.get("verdict", "").strip(), who, when)
        if digest not in found or found[digest].when <= when:
            found[digest] = given
    return list(found.values())


def correct(manifest: Manifest, digests: Mapping[str, str], corrections: Sequence[Correction]) -> Corrected:
    """Put corrections into a manifest; clips are found by content, so that names and places do not matter.

    Args:
        manifest: clips with or without labels.
        digests: clip id -> content digest, for every clip.
    """
    said = {c.digest: c for c in corrections}
    changed: dict[str, tuple[str, str]] = {}
    confirmed, clips = [], []
    for clip in manifest.clips:
        given = said.get(digests[clip.id])
        if given is not None and given.label is not None:
            if clip.emotion == given.label:
                confirmed.append(clip.id)
            else:
                changed[clip.id] = (str(clip.emotion or ""), given.label)
            clip = replace(clip, emotion=given.label, labelled_by=given.who, labelled_at=given.when)
        clips.append(clip)
    there = set(digests.values())
    return Corrected(
        manifest=Manifest(tuple(clips), ordered(c.emotion for c in clips if c.emotion is not None)),
        changed=changed,
        confirmed=tuple(confirmed),
        unclear=tuple(c.clip for c in corrections if c.label is None),
        unmatched=tuple(c.clip for c in corrections if c.digest not in there),
    )


def _check_time(when: str, where: str) -> None:
    try:
        datetime.fromisoformat(when)
    except ValueError as exc:
        raise DataError(f"{where}: 'when' is {when!r}, no time such as 2026-01-31T12:00:00Z") from exc
