"""Merge several manifests into one, with fewer clips of databases that would dominate; compare two manifests."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest
from fer_core.clips.spelling import People, joined_text
from fer_core.errors import ConfigError, DataError

log = logging.getLogger(__name__)


def merge(
    manifests: Sequence[Manifest],
    *,
    per_source: int | None = None,
    per_class: int | None = None,
    balance: bool = False,
    seed: int = 0,
) -> Manifest:
    """Return one manifest with all clips of `manifests`, each file once.

    Clips of different databases with the same id get the database's name in front. A subject of one database whose id
    is spelt in several ways (`001`, `1`) becomes one person, and the log reports it.

    Where a cap removes clips, it keeps some of every subject as long as possible. Only seed, ids and subjects decide
    which clips stay: with the same caps, a database keeps the same clips whatever it is merged with.

    Args:
        per_source: maximum number of clips of one database.
        per_class: maximum number of clips of one emotion in one database.
        balance: for each emotion, cap every database that has it at the smallest number that any of these has.
        seed: decides which clips stay.
    Raises:
        DataError: a file has two labels or subjects, a subject two sides, or two clips of one database share an id.
        ConfigError: a cap is below 1.
    """
    for name, cap in (("per_source", per_source), ("per_class", per_class)):
        if cap is not None and cap < 1:
            raise ConfigError(f"{name} must be at least 1, but got {cap}")
    people = People()
    whole = _distinct(people.join(c for m in manifests for c in m.clips))
    for line in joined_text(people.joined):
        log.warning("merge: %s", line)
    clips = whole
    if per_class is not None or balance:
        sizes = Counter((c.emotion, c.dataset) for c in clips)
        caps = {
            (emotion, source): min(
                [n for (e, _), n in sizes.items() if balance and e == emotion]
                + [n for n in (per_class,) if n is not None]
            )
            for emotion, source in sizes
        }
        clips = [
            c
            for key, cap in caps.items()
            for c in _thin([c for c in clips if (c.emotion, c.dataset) == key], cap, seed)
        ]
    if per_source is not None:
        sources = sorted({c.dataset for c in clips})
        clips = [c for s in sources for c in _thin([c for c in clips if c.dataset == s], per_source, seed)]
    kept = {id(c) for c in clips}
    classes = {m.classes for m in manifests}
    same = manifests[0].classes if len(classes) == 1 else None
    return Manifest.of_classes(_named([c for c in whole if id(c) in kept]), same)


def _distinct(clips: Sequence[Clip]) -> list[Clip]:
    seen: dict[Path, Clip] = {}
    for clip in clips:
        other = seen.setdefault(clip.path, clip)
        for what in ("emotion", "subject", "split"):
            had, has = getattr(other, what), getattr(clip, what)
            if had != has:
                raise DataError(
                    f"{clip.path} has {what} '{had or 'none'}' in one manifest (clip '{other.id}') and "
                    f"'{has or 'none'}' in another (clip '{clip.id}'); remove the wrong row"
                )
    return list(seen.values())


def _thin(clips: list[Clip], cap: int, seed: int) -> list[Clip]:
    """Return at most `cap` of the clips, taken from each subject in turn; seed, ids and subjects decide the order."""
    turns: Counter[str] = Counter()
    ranked = []
    for clip in sorted(clips, key=lambda c: _rank(seed, c.id)):
        ranked.append((turns[clip.subject], _rank(seed, clip.subject), clip))
        turns[clip.subject] += 1
    return [c for _, _, c in sorted(ranked, key=lambda r: r[:2])[:cap]]


def _rank(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()


def _named(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    counts = Counter(c.id for c in clips)
    named = tuple(replace(c, id=f"{c.dataset}/{c.id}") if counts[c.id] > 1 and c.dataset else c for c in clips)
    twice = [i for i, n in Counter(c.id for c in named).items() if n > 1]
    if twice:
        paths = [str(c.path) for c in named if c.id == twice[0]]
        raise DataError(
            f"clip '{twice[0]}' is both {paths[0]} and {paths[1]}; give one manifest another dataset name, "
            "so that their clips and subjects can be told apart"
        )
    return named


@dataclass(frozen=True)
class Change:
    """One value of one clip that differs between two manifests."""

    clip: str
    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Diff:
    """The differences between an earlier and a later manifest.

    Args:
        added, removed: clip ids, sorted.
        renamed: (id before, id after) of clips that have the same content under another id.
        changed: values that differ, sorted by clip, then field.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    changed: tuple[Change, ...]

    def __bool__(self) -> bool:
        """Return True if anything differs."""
        return bool(self.added or self.removed or self.renamed or self.changed)


def diff(
    before: Manifest,
    after: Manifest,
    digests_before: Mapping[str, str] | None = None,
    digests_after: Mapping[str, str] | None = None,
) -> Diff:
    """Return the differences between two manifests; clips with the same id are compared with each other.

    Args:
        digests_before, digests_after: clip id -> content digest. Renamed clips and changed files are found only if
            both are given.
    """
    old, new = ({c.id: c for c in m.clips} for m in (before, after))
    was, now = digests_before or {}, digests_after or {}
    contents = {was[i]: i for i in old.keys() - new.keys() if i in was}
    renamed = {contents[now[i]]: i for i in sorted(new.keys() - old.keys()) if now.get(i) in contents}
    changes = []
    for i, j in [*((i, i) for i in old.keys() & new.keys()), *renamed.items()]:
        first, second = _values(old[i], was.get(i, "")), _values(new[j], now.get(j, ""))
        for name in sorted(first.keys() | second.keys()):
            had, has = first.get(name, ""), second.get(name, "")
            if had != has and not (name == "content" and not (had and has)):
                changes.append(Change(j, name, had, has))
    return Diff(
        added=tuple(sorted(new.keys() - old.keys() - set(renamed.values()))),
        removed=tuple(sorted(old.keys() - new.keys() - renamed.keys())),
        renamed=tuple(sorted(renamed.items())),
        changed=tuple(sorted(changes, key=lambda c: (c.clip, c.field))),
    )


def _values(clip: Clip, digest: str) -> dict[str, str]:
    fields = ("path", "subject", "emotion", "dataset", "apex", "split")
    values = {name: "" if getattr(clip, name) is None else str(getattr(clip, name)) for name in fields}
    return values | {f"group_{name}": value for name, value in clip.groups.items()} | {"content": digest}
