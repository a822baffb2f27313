"""Compare names in several spellings: subject ids, paths in both Unicode forms, words for a missing value."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from unicodedata import category, normalize

from fer_core.clips.clip import Clip

# What programs and people write for a missing value: Python, R (and SPSS's dot), Excel's errors, SPSS's codes.
_WORDS = (
    *("nan", "-nan", "none", "null", "nil", "<na>", "na", "n/a", "nat", ".", "#null!", "unknown", "missing"),
    *("#n/a", "#n/a n/a", "#na", "#value!", "#ref!", "#div/0!", "#name?", "#num!", "1.#qnan"),
    *("-9", "-99", "-999", "-9999", "-", "--", "?", "??", "\u2013", "\u2014"),
)
_MISSING = frozenset({"", "NaN", "-NaN", "NaT", *_WORDS, *map(str.upper, _WORDS), *map(str.capitalize, _WORDS)})


def is_missing(text: str) -> bool:
    """Return True if a cell is empty or has a word or code for a missing value (`nan`, `NULL`, `#N/A`, `.`, `?`)."""
    return text in _MISSING


def same_name(text: str) -> str:
    """Return the key of a name; different spellings of one name have the same key.

    Spellings may differ in case, Unicode form, surrounding blanks, invisible characters, zeros before a number, and in
    the `.0` that a spreadsheet appends to whole numbers.
    """
    if not text.isascii():
        text = "".join(c for c in normalize("NFKC", text) if category(c) != "Cf")
    key = re.sub(r"^(\d+)\.0+$", r"\1", " ".join(text.casefold().split()))
    return re.sub(r"(?<![\d.])0+(?=\d)", "", key)


def person_key(subject: str) -> str:
    """Return the key of a subject, as `same_name` does for a name; the database's name before the colon is kept."""
    dataset, colon, own = subject.partition(":")
    return f"{dataset}:{same_name(own)}" if colon else same_name(subject)


class People:
    """Gives every subject the first spelling of their id, and records the other spellings."""

    def __init__(self) -> None:
        self._named: dict[str, str] = {}  # each spelling -> the first one of that person
        self._first: dict[str, str] = {}  # key of a person -> their first spelling

    def name(self, subject: str) -> str:
        """Return the first spelling of this subject that was seen; '' for ''."""
        if subject not in self._named:
            self._named[subject] = self._first.setdefault(person_key(subject), subject) if subject else ""
        return self._named[subject]

    def join(self, clips: Iterable[Clip]) -> tuple[Clip, ...]:
        """Return the clips with one spelling for each subject; clips with `keep_id` are not changed."""
        return tuple(c if c.keep_id or self.name(c.subject) == c.subject else self._renamed(c) for c in clips)

    def _renamed(self, clip: Clip) -> Clip:
        return replace(clip, subject=self.name(clip.subject))

    @property
    def joined(self) -> Mapping[str, tuple[str, ...]]:
        """Return the other spellings of each subject with several, by the spelling that is kept."""
        others: dict[str, list[str]] = {}
        for spelling, name in self._named.items():
            if spelling != name:
                others.setdefault(name, []).append(spelling)
        return {name: tuple(sorted(found)) for name, found in sorted(others.items())}


def joined_text(joined: Mapping[str, tuple[str, ...]]) -> Iterable[str]:
    """Yield a line for each person whose id has several spellings."""
    for name, others in joined.items():
        yield f"one person: '{name}' is also written {', '.join(repr(o) for o in others)}"


def existing_path(path: Path) -> Path:
    """Return the path as it exists on disk, where its Unicode form may differ; `path` itself where nothing is found.

    macOS stores names decomposed (`u` and a combining mark), other systems composed (`ü`); lists and archives mix both.
    A path that exists, or is plain ASCII, is returned without a search.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1:]:
        forms = (part, normalize("NFC", part), normalize("NFD", part))
        found /= next((form for form in forms if os.path.lexists(found / form)), part)
    return found if os.path.lexists(found) else path
