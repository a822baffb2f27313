"""Read subject, label, split and apex of a clip from its path, and from a table of the user."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from fer_core.clips.rows import read_table
from fer_core.clips.spelling import is_missing, same_name
from fer_core.errors import ConfigError, DataError

EXAMPLE = "{subject}/{label}/*"
_FIELD = re.compile(r"\{(\w*)\}|(\*\*/?)|(\*)|(\?)")
_READ = ("subject", "label", "split", "apex")  # of a table; columns named `group_*` become groups


@dataclass(frozen=True)
class Reading:
    """What path and table say about one clip, as words; '' where a word is missing.

    Args:
        subject, label, split, apex: the words as written.
        groups: further words, by name of the group.
    """

    subject: str = ""
    label: str = ""
    split: str = ""
    apex: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """Return the word of a field or group; '' where it is missing."""
        return str(getattr(self, name)) if name in _READ else self.groups.get(name, "")

    def with_words(self, words: Mapping[str, str]) -> Reading:
        """Return the reading with `words`, by field, in place of its own; an empty word changes nothing."""
        known = {name: word for name, word in words.items() if word}
        groups = {name: word for name, word in known.items() if name not in _READ}
        own = {name: known[name] for name in _READ if name in known}
        return replace(self, **own, groups={**self.groups, **groups})


class PathPattern:
    """A pattern that reads words from paths, such as `{subject}/{label}/*`.

    The pattern is compared with the whole path below the root, without the file's suffix. A word in braces is read, `*`
    matches anything within one name, `?` one character, `**` any folders. `{split}` is the side of the split, `{apex}`
    the apex; other words in braces become groups; `{}` matches like `*` and is not read.

    Raises:
        ConfigError: the pattern reads neither subject nor label, reads a word twice, has braces that do not close, or
            has no text between two fields.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts, names, at = [], [], 0
        for match in _FIELD.finditer(text.strip("/")):
            parts.append(re.escape(text.strip("/")[at : match.start()]))
            at = match.end()
            if match[1]:
                names.append(match[1])
                parts.append(f"(?P<{match[1]}>[^/]+?)")
            elif match[2]:
                parts.append("(?:[^/]+/)*" if match[2].endswith("/") else ".*")
            else:
                parts.append("[^/]" if match[4] else "[^/]*")
        rest = text.strip("/")[at:]
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice or not {"subject", "label"} & set(names) or re.search(r"[{}]", "".join(parts[::2]) + rest):
            why = f"reads {{{twice[0]}}} twice" if twice else "must read {subject} or {label}, each in braces"
            raise ConfigError(f"pattern '{text}' {why}; write it like '{EXAMPLE}'")
        if touching := re.search(r"\}[*?{]|[*?]\{", text):
            raise ConfigError(f"pattern '{text}': nothing stands in '{touching[0]}' to say where the word ends")
        if any(name[0].isdigit() for name in names):
            raise ConfigError(f"pattern '{text}': a name in braces begins with a letter; write it like '{EXAMPLE}'")
        self.names = tuple(names)
        self._form = re.compile("".join(parts) + re.escape(rest))

    def read(self, path: PurePosixPath, *, folder: bool = False) -> Reading | None:
        """Return the words in a path below the root; None if the path does not match.

        A file's path is compared without its suffix first, then with it.
        """
        stem = None if folder else self._form.fullmatch(path.with_suffix("").as_posix())
        match = stem or self._form.fullmatch(path.as_posix())
        return Reading().with_words({k: v.strip() for k, v in match.groupdict().items()}) if match else None


class ReadingTable:
    """Rows of a user's table with further words about clips, found by the value of one column.

    Args:
        path: CSV with the column `by`, and `label`, `subject`, `split`, `apex`, `intensity` or `group_*`.
        by: the column that identifies clips. Where readings have a field of this name (`subject`, or a word of the path
            pattern), a row applies to all clips with its word in that field. Otherwise a row applies to the one clip
            with its path or file name, with or without suffix.
    Raises:
        DataError: the table cannot be read, has no column `by` or no column to read, or has two different rows for one
            value of `by`.
    """

    def __init__(self, path: Path, by: str) -> None:
        self.path, self.by = path, by.lower()
        columns, rows = read_table(path, [self.by])
        self.columns = [
            c for c in columns if c != self.by and (c in _READ or c == "intensity" or c.startswith("group_"))
        ]
        if not self.columns:
            others = [c for c in columns if c and c != self.by]
            renamed = f"; to keep '{others[0]}', call it 'group_{others[0]}'" if others else ""
            raise DataError(f"{path.name} has no column label, subject, split, apex or group_* beside '{by}'{renamed}")
        self._rows: dict[str, dict[str, str]] = {}
        self._lines: dict[str, int] = {}
        self._used: set[str] = set()
        for line, row in rows:
            key = same_name(row[self.by]) if self.by == "subject" else _clip_key(row[self.by])
            if is_missing(row[self.by]):
                continue
            words = {c.removeprefix("group_"): row[c] for c in self.columns}
            if self._rows.setdefault(key, words) != words:
                raise DataError(
                    f"{path.name} line {line}: '{row[self.by]}' stands in line {self._lines[key]} with other values; "
                    "keep one of the rows"
                )
            self._lines.setdefault(key, line)

    def add(self, reading: Reading, path: PurePosixPath) -> Reading | None:
        """Return the reading with the words of its row; None if the table has no row for it.

        Raises:
            DataError: a row that gives only a file name matches two clips.
        """
        own = reading.value(self.by)
        keys = (
            [same_name(own)] if own else [_clip_key(str(p)) for p in (path, path.with_suffix(""), path.name, path.stem)]
        )
        key = next((k for k in keys if k in self._rows), None)
        if key is None:
            return None
        if not own and key in self._used:
            raise DataError(
                f"{self.path.name} line {self._lines[key]}: several clips answer to this name, one is '{path}'; "
                "write their paths below the folder"
            )
        self._used.add(key)
        return reading.with_words(self._rows[key])

    def unused(self) -> str:
        """Return a sentence on rows that matched no clip; '' if every row matched."""
        left = [line for key, line in self._lines.items() if key not in self._used]
        if not left:
            return ""
        return f"{self.path.name}: {len(left)} rows are of no clip here, the first in line {min(left)}"


def _clip_key(name: str) -> str:
    """Return the key of a clip's name or path: Unicode form, case and slashes may differ, zeros may not."""
    return normalize("NFC", name.strip().replace("\\", "/").removeprefix("./")).casefold()
