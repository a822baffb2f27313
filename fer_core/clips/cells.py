"""Text cells of the CSV files we write: never a spreadsheet formula, and the same text again when read back."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_RISKY = re.compile(r"'*[=+\-@\t\r\n]")
_MARKED = re.compile(r"'+[=+\-@\t\r\n]")


def safe_cell(text: str) -> str:
    """`text` as a cell no spreadsheet runs: one that starts with `= + - @`, TAB, CR or LF gets an apostrophe in front.

    A text that already looks so marked gets one more, so that `plain_cell` always restores what was there.
    """
    return f"'{text}" if _RISKY.match(text) else text


def csv_text(rows: Iterable[Iterable[str]]) -> str:
    """The rows as CSV of safe cells."""
    cells = [[safe_cell(cell) for cell in row] for row in rows]
    returns = any("\r" in cell for row in cells for cell in row)  # which csv quotes only when told to
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(cells)
    return text.getvalue()


def plain_cell(cell: str) -> str:
    """The text `safe_cell` was given; any other cell as it is."""
    return cell[1:] if _MARKED.match(cell) else cell
