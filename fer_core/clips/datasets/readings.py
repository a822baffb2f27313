"""Who and what a clip of somebody's own folders shows: read from its path, and from a table beside it."""

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
_READ = ("subject", "label", "split", "apex")  # of a table; further columns are groups when they say so


@dataclass(frozen=True)
class Reading:
    """What is known of one clip; '' where nothing is.

    Args:
        subject, label, split, apex: words as they stand.
        groups: other fields.
    """

    subject: str = ""
    label: str = ""
    split: str = ""
    apex: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """The word of a field or group."""
        return str(getattr(self, name)) if name in _READ else self.groups.get(name, "")

    def with_words(self, words: Mapping[str, str]) -> Reading:
        """The reading with the words of other fields in place of its own; an empty word changes nothing."""
        known = {name: word for name, word in words.items() if word}
        groups = {name: word for name, word in known.items() if name not in _READ}
        own = {name: known[name] for name in _READ if name in known}
        return replace(self, **own, groups={**self.groups, **groups})


class PathPattern:
    """A form of paths, `{subject}/{label}/*`.

    A word in braces is read, `*` is anything within a name, `**` any folders.

    It is compared with the whole path below the root, without the suffix of the file. `{split}` is the side of a
    split; words in braces other than subject, label and split become groups; `{}` is passed over like `*`.

    Raises:
        ConfigError: it reads neither subject nor label, or one of them twice, has braces that do not close, or does not
            say where a word ends.
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
        """The reading of a path below the root, of a file without its suffix; None where it does not fit."""
        stem = None if folder else self._form.fullmatch(path.with_suffix("").as_posix())
        match = stem or self._form.fullmatch(path.as_posix())
        return Reading().with_words({k: v.strip() for k, v in match.groupdict().items()}) if match else None


class ReadingTable:
    """Rows of a table that say more of clips, found by one column.

    Args:
        path: CSV with the column `by`, and `label`, `subject`, `split`, `apex`, `intensity` or `group_*`.
        by: the column. A row is of the clips whose reading has that word for a field of that name (`subject`, or one of
            the pattern); where readings have none, of the clip of that path or file name, with or without suffix.
    Raises:
        DataError: the table cannot be read, has no such column, says nothing, or two things of one clip.
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
        """The reading with what the table says of it; None where it has no row.

        Raises:
            DataError: a row that names only a file could be of two clips.
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
        """A sentence on rows that no clip answered to; '' if there is none."""
        left = [line for key, line in self._lines.items() if key not in self._used]
        if not left:
            return ""
        return f"{self.path.name}: {len(left)} rows are of no clip here, the first in line {min(left)}"


def _clip_key(name: str) -> str:
    """Key of a clip's name or path: Unicode form, case and slashes may differ; zeros are part of a file's name."""
    return normalize("NFC", name.strip().replace("\\", "/").removeprefix("./")).casefold()
