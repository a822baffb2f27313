"""Leaks between the sides of a split: the same recording, or the same person, on two sides under two names."""

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

_SHOWN = 5  # leaks named in the error message; the report holds all


@dataclass(frozen=True)
class Leak:
    """Two clips of which one must be corrected or removed.

    Args:
        kind: `same content, two subjects` (labels, sides), or `near-duplicate`.
        clips: their ids.
        reason: sentence that names the clips and the remedy.
    """

    kind: str
    clips: tuple[str, str]
    reason: str


@dataclass(frozen=True)
class LeakReport:
    """Findings of `check_leaks`.

    Args:
        leaks: in the order of the manifest.
        repeated: (id, id) of clips with the same content, subject, label and side: no leak, but the clip counts twice.
        cleared: near-duplicates that the user has allowed.
        n_hashed: number of clips whose frames were compared.
    """

    leaks: tuple[Leak, ...]
    repeated: tuple[tuple[str, str], ...]
    cleared: tuple[Pair, ...]
    n_hashed: int

    def refuse(self) -> None:
        """Stop with an error if there is any leak.

        Raises:
            DataError: there are leaks; the message has the first ones.
        """
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
    """Return the recordings that appear under two names; `Manifest` already raises for a subject on two sides.

    Args:
        digests: clip id -> content digest; clips with the same content must have the same subject, label and side.
        hashes: clip id -> hash of whole frames (`duplicates.clip_hash`). Clips of different subjects are compared even
            on one side of the split, because the folds of a search divide the training side again. Two clips without a
            subject are compared only across sides.
        allow_pairs: ids of near-duplicates that the user has checked and found to be two recordings.
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
        elif other.split is not clip.split:  # both subjects unknown; `Manifest` raises for a known one
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
        f"--set {shlex.quote(setting)}",  # quoted for the shell, whatever characters a clip's name has
    )
