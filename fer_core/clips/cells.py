"""Writing text into CSV files and Markdown so that no program runs it as a formula or reads it as markup.

Reading a CSV cell with `plain_cell` gives back the original text.


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
    """Return `text` as a cell that no spreadsheet runs as a formula.

    A text that starts with `= + - @`, TAB, CR or LF gets an apostrophe in front. So does a text that already starts
    with an apostrophe and one of these, so that `plain_cell` always restores the original.
    """
    return f"'{text}" if _RISKY.match(text) else text


def shown_cell(text: str) -> str:
    """Return `safe_cell` of `text` for display in a terminal: control characters are written as escape sequences."""
    return safe_cell("".join(c.encode("unicode_escape").decode() if category(c) == "Cc" else c for c in text))


def csv_text(rows: Iterable[Iterable[str]]) -> str:
    """Return the rows as CSV text, each cell made safe by `safe_cell`."""
    cells = [[safe_cell(cell) for cell in row] for row in rows]
    returns = any("\r" in cell for row in cells for cell in row)  # the csv module quotes a lone CR only with QUOTE_ALL
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(cells)
    return text.getvalue()


def plain_cell(cell: str) -> str:
    """Return the text from which `safe_cell` made `cell`; a cell that it left unchanged is returned as it is."""
    return cell[1:] if cell[:1] == "'" and _MARKED.match(cell) else cell


def markdown_text(text: str) -> str:
    """Return `text`, such as the name of a clip, as one line of Markdown in which no character is read as markup."""
    line = re.sub(r"([\\`*_\[\]<>|~&!#:])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line)
