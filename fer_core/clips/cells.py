"""Text as it stands in the CSV files and the Markdown we write: never a formula, never markup.

A cell of a CSV file is the same text again when it is read back.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from unicodedata import category

_RISKY = re.compile(r"'*[=+\-@\t\r\n]")
_MARKED = re.compile(r"'+[=+\-@\t\r\n]")


def safe_cell(text: str) -> str:
    """`text` as a cell no spreadsheet runs: one that starts with `= + - @`, TAB, CR or LF gets an apostrophe in front.

    A text that already looks so marked gets one more, so that `plain_cell` always restores what was there.
    """
    return f"'{text}" if _RISKY.match(text) else text


def shown_cell(text: str) -> str:
    """`safe_cell` for a table to look at: control characters, which a terminal would obey, are spelt out."""
    return safe_cell("".join(c.encode("unicode_escape").decode() if category(c) == "Cc" else c for c in text))


def csv_text(rows: Iterable[Iterable[str]]) -> str:
    """The rows as CSV of safe cells."""
    cells = [[safe_cell(cell) for cell in row] for row in rows]
    returns = any("\r" in cell for row in cells for cell in row)  # which csv quotes only on request
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(cells)
    return text.getvalue()


def plain_cell(cell: str) -> str:
    """The text `safe_cell` was given; any other cell as it is."""
    return cell[1:] if cell[:1] == "'" and _MARKED.match(cell) else cell


def markdown_text(text: str) -> str:
    """`text`, the name of a clip perhaps, as one line of Markdown that shows it letter by letter."""
    line = re.sub(r"([\\`*_\[\]<>|~&!#:])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line)
