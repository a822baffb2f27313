"""Score many clips. Each row is stored as soon as it is made, so that a killed batch resumes where it ended."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, StoreError
from fer_core.preprocess.admit import admit
from fer_core.scoring.agreement import Agreement
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.films import write_films
from fer_core.scoring.inputs import Item
from fer_core.scoring.row_store import RowStore
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.tables import write_explanations, write_tables

log = logging.getLogger(__name__)

# Errors that depend only on the content, so their rows can be stored. `too_large` and `rejected` depend on limits and
# place; the others may not occur again.
_KEPT = (ClipStatus.OK, ClipStatus.LOW_QUALITY, ClipStatus.NO_FACE, ClipStatus.DAMAGED, ClipStatus.UNSUPPORTED)


@dataclass(frozen=True)
class Batch:
    """A scored batch.

    Args:
        rows: one per item, in order; one per person if every face was scored.
        out: the folder with `verdicts` and `frames` as CSV and Parquet, `verdicts.json`, `report.html`, and
            `explanations/` and `videos/` if they were requested.
        remembered: number of items whose rows are from an earlier run.
    """

    rows: tuple[ClipScore, ...]
    out: Path
    remembered: int

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by status, the most frequent first."""
        return {status.value: n for status, n in Counter(r.status for r in self.rows).most_common()}

    @property
    def agreement(self) -> Agreement:
        """Correct predictions for subjects that the model was not trained on."""
        return Agreement.of(self.rows)

    @property
    def unscored(self) -> int:
        """Number of rows without a prediction."""
        return sum(not row.status.scored for row in self.rows)


def score_batch(
    scorer: ClipScorer,
    items: Sequence[Item],
    out: Path,
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Batch:
    """Score all items and write the results to `out`, each file completely or not at all.

    Args:
        out: folder of the results; created if needed; older results are replaced.
        store_root: the workspace's `store` folder, which keeps rows between runs.
        progress: called with (rows done, all rows), and then with (films done, all films) if there are any.
    Raises:
        StoreError: `out` or the store cannot be written; raised before any clip is read.
    """
    _check_writable(out)
    rows, remembered = scored_rows(scorer, items, store_root, progress)
    if scorer.video:
        rows = tuple(write_films(rows, scorer, out, progress))
    batch = Batch(rows, out, remembered)
    write_explanations(batch.rows, out)
    write_tables(batch.rows, scorer, out)
    counts = ", ".join(f"{n} {s}" for s, n in batch.counts.items())
    log.info("%d rows (%s) in %s; %s", len(batch.rows), counts, out, batch.agreement.sentence)
    return batch


def scored_rows(
    scorer: ClipScorer,
    items: Sequence[Item],
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[ClipScore, ...], int]:
    """Return one row per item, in order, and the number of those that were stored before; arguments as in
    `score_batch`.

    Items of the same content are scored once, and each has its own row.
    """
    rows = RowStore(store_root)
    found: dict[int, tuple[ClipScore, ...]] = {}
    items = [replace(item, digest=_digest(item, scorer.limits)) for item in items]
    for place, item in enumerate(items):
        people = rows.get_people(scorer.key_of(item.clip, item.digest)) if item.digest else ()
        if people:
            found[place] = tuple(_named(row, item.clip, alone=len(people) == 1) for row in people)
    remembered = len(found)
    if progress:
        progress(remembered, len(items))
    todo = [place for place in range(len(items)) if place not in found]
    for names in (_by_content(scorer, items, todo), None):
        if names is None:  # one file can fail where a copy of it does not, so such copies are tried themselves
            names = {place: [] for place in todo if place not in found}
        for place, people in zip(names, scorer.score_people([items[p] for p in names]), strict=True):
            found[place] = people
            if all(row.status in _KEPT and row.digest for row in people):
                rows.put_people(scorer.key_of(items[place].clip, people[0].digest), people)
                for copy in names[place]:
                    found[copy] = tuple(_named(row, items[copy].clip, alone=len(people) == 1) for row in people)
            if progress:
                progress(len(found), len(items))
    named = [
        replace(row, seen_in_training=scorer.seen_in_training(item.clip) if row.subject else None)
        for place, item in enumerate(items)
        for row in found[place]
    ]
    return tuple(named), remembered


def _by_content(scorer: ClipScorer, items: Sequence[Item], places: Sequence[int]) -> dict[int, list[int]]:
    """Return the place of the first item of each content, with the places of its copies."""
    first: dict[str, int] = {}
    copies: dict[int, list[int]] = {}
    for place in places:
        item = items[place]
        original = first.setdefault(scorer.key_of(item.clip, item.digest), place) if item.digest else place
        copies.setdefault(original, [])
        if original != place:
            copies[original].append(place)
    return copies


def _named(row: ClipScore, clip: Clip, alone: bool) -> ClipScore:
    """Return a stored row as the row of `clip`, which has the same content.

    Args:
        alone: False for a row of several people, of whom nobody knows which the label and the subject mean.
    """
    return replace(
        row,
        clip=clip.id,
        path=str(clip.path),
        label=clip.emotion if alone else None,
        subject=clip.subject if alone else "",
        dataset=clip.dataset,
        groups=clip.groups if alone else {},
    )


def _digest(item: Item, limits: LimitsConfig) -> str:
    """Return the content digest; empty if the file may not be opened (the scorer then reports the reason)."""
    if item.refused is not None:
        return ""
    try:
        admit(item.clip.path, limits, item.root)
        return clip_digest(item.clip.path)
    except (ClipError, OSError):
        return ""


def new_folder(parent: Path) -> Path:
    """Create a new folder in `parent`, named by date and time.

    Raises:
        StoreError: it cannot be created.
    """
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    for place in itertools.count(1):
        folder = parent / (name if place == 1 else f"{name}_{place}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as exc:
            raise StoreError(f"cannot make {folder} ({exc.strerror or exc}); choose another with --out") from exc
    raise AssertionError("unreachable")


def _check_writable(out: Path) -> None:
    probe = out / f".probe-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        raise StoreError(f"cannot write results to {out} ({exc.strerror or exc}); choose another with --out") from exc
