"""Clips whose verdict differs between two versions of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from fer_core.clips.clip import Clip
from fer_core.errors import DataError
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.inputs import Item, collect

TABLE = "verdicts.parquet"
_COLUMNS = ("clip", "path", "label", "subject")


@dataclass(frozen=True)
class Flip:
    """A clip with another verdict, or a verdict in only one version."""

    before: ClipScore
    after: ClipScore

    @property
    def outcome(self) -> str:
        """`mended` or `broken` by the clip's label, `both wrong`, or empty without a label."""
        label = self.before.label
        if not label:
            return ""
        if self.after.emotion == label:
            return "mended"
        return "broken" if self.before.emotion == label else "both wrong"


@dataclass(frozen=True)
class Flips:
    """Two versions on the same clips.

    Args:
        clips: number of clips.
        flips: those with another verdict, the most confident in the new version first.
    """

    clips: int
    flips: tuple[Flip, ...]

    @property
    def ways(self) -> dict[tuple[str, str], int]:
        """(verdict before, verdict after) -> number of clips, the most frequent first; `none` without a verdict."""
        pairs = ((str(f.before.emotion or "none"), str(f.after.emotion or "none")) for f in self.flips)
        return dict(Counter(pairs).most_common())


def flips_of(before: Sequence[ClipScore], after: Sequence[ClipScore]) -> Flips:
    """Compare the rows of two versions for the same items, in the same order."""
    found = [Flip(a, b) for a, b in zip(before, after, strict=True) if a.emotion != b.emotion]
    found.sort(key=lambda flip: -flip.after.confidence if flip.after.emotion else 0.0)
    return Flips(len(before), tuple(found))


def items_of_batch(batch: Path, *, follow_links: bool = False) -> list[Item]:
    """Return the clips of a scored batch (a folder with `verdicts.parquet`), or of anything else that can be scored.

    Raises:
        DataError: the table is not one that `ferflow score` wrote, or there is nothing to score.
    """
    table = batch / TABLE
    if not table.is_file():
        return collect([batch], follow_links=follow_links)
    try:
        rows = pq.read_table(table, columns=list(_COLUMNS)).to_pylist()
    except (OSError, ValueError, KeyError) as exc:
        raise DataError(f"{table} cannot be read ({exc}); score the clips again") from exc
    return [
        Item(Clip(id=row["clip"], path=Path(row["path"]), emotion=row["label"], subject=row["subject"] or ""))
        for row in rows
    ]
