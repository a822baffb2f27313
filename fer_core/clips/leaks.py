"""Leaks between the sides of a split: one recording, or one person, on two sides under two names."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.duplicates import POSITIONS, Pair, near_duplicates
from fer_core.clips.manifest import Manifest
from fer_core.errors import DataError

_SHOWN = 5  # leaks named in a refusal; the report holds all


@dataclass(frozen=True)
class Leak:
    """Two clips that must not both stay as they are.

    Args:
        kind: `same content, two subjects` (labels, sides), or `near-duplicate`.
        clips: their ids.
        reason: a sentence with the remedy.
    """

    kind: str
    clips: tuple[str, str]
    reason: str


@dataclass(frozen=True)
class LeakReport:
    """Findings of `check_leaks`.

    Args:
        leaks: in the order of the manifest.
        repeated: (id, id) of clips with the same content, subject, label and side: harmless, but counted twice.
        cleared: near-duplicates a person has allowed.
        n_hashed: clips whose pictures were compared.
    """

    leaks: tuple[Leak, ...]
    repeated: tuple[tuple[str, str], ...]
    cleared: tuple[Pair, ...]
    n_hashed: int

    def refuse(self) -> None:
        """Raises DataError, naming the first clips, when there is any leak."""
        if self.leaks:
            more = len(self.leaks) - _SHOWN
            raise DataError(
                f"{len(self.leaks)} leaks: "
                + "; ".join(leak.reason for leak in self.leaks[:_SHOWN])
                + (f"; and {more} more" if more > 0 else "")
            )


def check_leaks(
    manifest: Manifest,
    digests: Mapping[str, str] | None = None,
    hashes: Mapping[str, np.ndarray] | None = None,
    allow_pairs: Iterable[tuple[str, str]] = (),
) -> LeakReport:
    """One recording under two names. That no subject is on two sides the manifest itself has made sure of.

    Args:
        digests: clip id -> content digest; equal content must have one subject and one label.
        hashes: clip id -> hash of whole frames (`duplicates.clip_hash`); compared across subjects, whatever side they
            are on: the folds of a search part the training side again. Across sides where nobody is known.
        allow_pairs: ids of near-duplicates that a person has looked at and found to be two recordings.
    """
    leaks, repeated = _same_content(manifest, digests or {})
    identical = {frozenset(leak.clips) for leak in leaks}
    sides = {c.id: side for c in manifest.clips if (side := c.subject or c.split)}
    allowed = {frozenset(pair) for pair in allow_pairs}
    cleared = []
    for pair in near_duplicates(hashes or {}, sides):
        both = frozenset((pair.first, pair.second))
        if both in allowed:
            cleared.append(pair)
        elif both not in identical:
            leaks.append(_near(pair, sides))
    return LeakReport(tuple(leaks), tuple(repeated), tuple(cleared), len(hashes or {}))


def _same_content(manifest: Manifest, digests: Mapping[str, str]) -> tuple[list[Leak], list[tuple[str, str]]]:
    first: dict[str, Clip] = {}
    leaks, repeated = [], []
    for clip in manifest.clips:
        if clip.id not in digests:
            continue
        other = first.setdefault(digests[clip.id], clip)
        if other is clip:
            continue
        pair = (other.id, clip.id)
        if other.subject != clip.subject:
            leaks.append(_content(pair, "subjects", other.subject, clip.subject))
        elif other.emotion != clip.emotion:
            leaks.append(_content(pair, "labels", str(other.emotion), str(clip.emotion)))
        elif other.split is not clip.split:  # nobody known on either, or the manifest had refused it
            leaks.append(_content(pair, "sides", str(other.split), str(clip.split)))
        else:
            repeated.append(pair)
    return leaks, repeated


def _content(clips: tuple[str, str], what: str, had: str, has: str) -> Leak:
    return Leak(
        f"same content, two {what}",
        clips,
        f"clips '{clips[0]}' and '{clips[1]}' have the same content, but {what} '{had}' and '{has}': "
        "remove the wrong row and run 'ferflow data split'",
    )


def _near(pair: Pair, sides: Mapping[str, str]) -> Leak:
    where = f"'{sides[pair.first]}' and '{sides[pair.second]}'"
    setting = f"split.allow_pairs={json.dumps([[pair.first, pair.second]], ensure_ascii=False)}"
    return Leak(
        "near-duplicate",
        (pair.first, pair.second),
        f"clips '{pair.first}' and '{pair.second}' ({where}) look like one recording "
        f"({pair.matches} of {POSITIONS} frames alike): "
        "give them one subject or remove a row, then run 'ferflow data split'; if they are two recordings, "
        f"--set {shlex.quote(setting)}",  # as a shell takes it, whatever a clip is called
    )
