"""Score many clips. Each row is stored as soon as it is made, so that a killed batch resumes where it ended."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fer_core.clips.clip import clip_digest
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, StoreError
from fer_core.preprocess.admit import admit
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.films import write_films
from fer_core.scoring.inputs import Item
from fer_core.scoring.row_store import RowStore
from fer_core.scoring.rows import Rows
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.tables import write_tables
from fer_core.scoring.tally import Tally

log = logging.getLogger(__name__)

# Errors that depend only on the content, so their rows can be stored. `too_large` and `rejected` depend on limits and
# place; the others may not occur again.
_KEPT = (ClipStatus.OK, ClipStatus.LOW_QUALITY, ClipStatus.NO_FACE, ClipStatus.DAMAGED, ClipStatus.UNSUPPORTED)


@dataclass(frozen=True)
class Batch:
    """A scored batch.

    Args:
        rows: one per item, in order; one per person if every face was scored. They are read when they are needed.
        tally: counts of the rows.
        out: the folder with `verdicts` and `frames` as CSV and Parquet, `verdicts.json`, `report.html`, and
            `explanations/` and `videos/` if they were requested.
        remembered: number of items whose rows are from an earlier run.
    """

    rows: Sequence[ClipScore]
    tally: Tally
    out: Path
    remembered: int


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
        rows = rows.changed(write_films(rows, scorer, out, progress))
    tally = Tally()
    write_tables(tally.counted(rows), scorer, out, {name for item in items for name in item.clip.groups})
    counts = ", ".join(f"{n} {s}" for s, n in tally.counts.items())
    log.info("%d rows (%s) in %s; %s", len(rows), counts, out, tally.agreement.sentence)
    return Batch(rows, tally, out, remembered)


def scored_rows(
    scorer: ClipScorer,
    items: Sequence[Item],
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Rows, int]:
    """Score all items; return one row per item, in order, and the number of those that were stored before.

    Items of the same content are scored once, and each has its own row. Rows go to the store as they are made, and do
    not stay in memory. Arguments as in `score_batch`.
    """
    rows = RowStore(store_root)
    items = [replace(item, digest=_digest(item, scorer.limits)) for item in items]
    n_people = [rows.count(scorer.key_of(item.clip, item.digest)) if item.digest else 0 for item in items]
    unstored: dict[int, tuple[ClipScore, ...]] = {}
    done = remembered = sum(n > 0 for n in n_people)
    if progress:
        progress(done, len(items))
    for names in (_by_content(scorer, items, n_people), None):
        if names is None:  # one file can fail where a copy of it does not, so such copies are tried themselves
            names = {place: [] for place, n in enumerate(n_people) if n == 0}
        for place, people in zip(names, scorer.score_people([items[p] for p in names]), strict=True):
            n_people[place] = len(people)
            digest = people[0].digest
            if digest and all(row.status in _KEPT for row in people):
                rows.put_people(scorer.key_of(items[place].clip, digest), people)
                items[place] = replace(items[place], digest=digest)
                for copy in names[place]:
                    n_people[copy] = len(people)
                done += len(names[place])
            else:
                unstored[place] = people
            done += 1
            if progress:
                progress(done, len(items))
    return Rows(scorer, items, rows, n_people, unstored), remembered


def _by_content(scorer: ClipScorer, items: Sequence[Item], n_people: Sequence[int]) -> dict[int, list[int]]:
    """Return the place of the first item of each content without rows, with the places of its copies."""
    first: dict[str, int] = {}
    copies: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        if n_people[place]:
            continue
        original = first.setdefault(scorer.key_of(item.clip, item.digest), place) if item.digest else place
        copies.setdefault(original, [])
        if original != place:
            copies[original].append(place)
    return copies


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
