"""Cross-database evaluation: train on each database, test on every other (§3.1: one database is not enough).

The result within one database is from cross-validation. Only train and validation clips are used, so the lockbox stays
shut. If a database lacks a class, its model is trained without this class and tested on clips of the other classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_core.clips.cells import markdown_text
from fer_core.clips.splits import grouped_folds
from fer_core.config import Rule, TrainConfig
from fer_core.dataset.table import FeatureTable, load_table
from fer_core.emotions import Classes
from fer_core.errors import DataError, FerError
from fer_core.evaluation.cross_validation import fit_fold, hold_out
from fer_core.evaluation.metrics import RULES, Difference, Evaluation, clip_verdicts, evaluate, paired_difference
from fer_core.models.base import Fits
from fer_core.models.registry import model_of


@dataclass(frozen=True)
class Cell:
    """Result of training on one database and testing on one.

    Args:
        source: database trained on.
        target: database tested on; if it is the source, the result is from cross-validation.
        classes: classes of the source.
        clips: ids of the n test clips.
        verdicts: rule -> (n,) predicted classes, as indices in `classes`; None if there is no result.
        evaluations: rule -> metrics; None if there is no result.
        reason: why there is no result; else empty.
    """

    source: str
    target: str
    classes: Classes = ()
    clips: tuple[str, ...] = ()
    verdicts: Mapping[Rule, np.ndarray] | None = None
    evaluations: Mapping[Rule, Evaluation] | None = None
    reason: str = ""


@dataclass(frozen=True)
class CrossDatabase:
    """Results for all pairs of databases.

    Args:
        names: names of the databases, sorted.
        classes: classes of the run.
        cells: (source, target) -> result.
        costs: (source, target) -> mean recall by mean scores, minus that of cross-validation within the target, on the
            same clips; only if both databases have the same classes.
        synthetic: True if any face was drawn or rendered.
        fingerprint: fingerprint of the data.
    """

    names: tuple[str, ...]
    classes: Classes
    cells: Mapping[tuple[str, str], Cell]
    costs: Mapping[tuple[str, str], Difference]
    synthetic: bool
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """JSON-able numbers."""
        return {
            "databases": list(self.names),
            "synthetic": self.synthetic,
            "fingerprint": self.fingerprint,
            "cells": [
                {
                    "source": cell.source,
                    "target": cell.target,
                    "classes": [str(c) for c in cell.classes],
                    "reason": cell.reason,
                    **{rule: e.to_json() for rule, e in (cell.evaluations or {}).items()},
                }
                for cell in self.cells.values()
            ],
            "costs": [
                {"source": source, "target": target, "value": d.value, "low": d.low, "high": d.high}
                for (source, target), d in self.costs.items()
            ],
        }

    def to_markdown(self, rule: Rule = "mean_scores") -> str:
        """Return the mean recalls of one rule in % as a table, with a row for every database trained on."""
        lines = ["## Across databases", ""]
        if self.synthetic:
            lines += ["**Synthetic faces among them: their numbers say nothing about people.**", ""]
        lines += [
            f"Mean recall by {rule.replace('_', ' ')} in %, 95 % intervals by person. On the diagonal by "
            "cross-validation.",
            "",
            "| trained on | " + " | ".join(f"tested on {_shown(n)}" for n in self.names) + " |",
            "| --- |" + " --- |" * len(self.names),
        ]
        for source in self.names:
            texts = [self._format_cell(self.cells[source, target], rule) for target in self.names]
            lines.append(f"| {_shown(source)} | " + " | ".join(texts) + " |")
        if self.costs:
            lines += ["", "| trained on another database | points against its own cross-validation |", "| --- | --- |"]
        for (source, target), cost in self.costs.items():
            numbers = f"{100 * cost.value:+.1f} [{100 * cost.low:+.1f}, {100 * cost.high:+.1f}]"
            lines.append(f"| {_shown(source)} → {_shown(target)} | {numbers} |")
        return "\n".join([*lines, ""])

    def _format_cell(self, cell: Cell, rule: Rule) -> str:
        if not cell.evaluations:
            return markdown_text(cell.reason)
        evaluation = cell.evaluations[rule]
        few = "" if cell.classes == self.classes else f", {len(cell.classes)} classes"
        return f"{evaluation.mean_recall} ({evaluation.n_clips} clips{few})"


def several(datasets: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the databases, sorted.

    Raises:
        DataError: there is only one.
    """
    names = tuple(sorted(set(datasets)))
    if len(names) < 2:
        raise DataError(
            f"all clips are of one database, '{names[0]}'; name two or more in the manifest's dataset column, or join "
            "manifests with 'ferflow data merge'"
        )
    return names


def cross_database(
    table: FeatureTable,
    table_path: Path,
    train: TrainConfig,
    executor: Executor,
    *,
    folds: int,
    seed: int,
    fc: Path | None = None,
    block: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CrossDatabase:
    """Evaluate settings across databases, with one job of the executor for each database trained on.

    Args:
        table: train and validation clips of two or more databases.
        table_path: file of the table, which the jobs read.
        folds, seed: number of folds of the cross-validation within a database, and its seed.
        fc, block: files of the backbone's FC layers and last block from which a head starts.
    Raises:
        DataError: there is only one database.
    """
    names = several(table.datasets)
    jobs: dict[str, Future[list[Cell]]] = {
        source: executor.submit(cells_of, table_path, source, train, folds, seed, fc, block) for source in names
    }
    cells: dict[tuple[str, str], Cell] = {}
    for done, (source, job) in enumerate(jobs.items(), start=1):
        for cell in job.result():
            cells[source, cell.target] = cell
        if progress:
            progress(done, len(names))
    costs = {}
    for source, target in cells:
        cost = _cost(table, cells[source, target], cells[target, target])
        if source != target and cost is not None:
            costs[source, target] = cost
    return CrossDatabase(names, table.classes, cells, costs, table.synthetic, table.note["fingerprint"])


def cells_of(
    table_path: Path, source: str, train: TrainConfig, folds: int, seed: int, fc: Path | None, block: Path | None
) -> list[Cell]:
    """Compute the results for one source database, in a child process: first within it, then on all others.

    A result that cannot be computed (too few subjects, a diverging fit, no common class) has a reason instead.
    """
    table = _as_known_to(load_table(table_path), source)
    names = np.array(table.datasets)
    own = np.flatnonzero(names == source)
    met = {table.subjects[c] for c in own}
    others = np.array(
        [c for c in np.flatnonzero((names != source) & (table.labels >= 0)) if table.subjects[c] not in met], dtype=int
    )

    def scored(trained: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """(m, k) scores of the test clips' frames, by a model fitted to the training clips."""
        side = hold_out(table, trained, train.inner_share, seed, train.seed)
        return fit_fold(model_of(train, fc=fc, block=block), Fits(table), side, judged, frames=True)[0]

    def within() -> np.ndarray:
        scores = _nowhere(table)
        for trained, held_out in grouped_folds([table.subjects[c] for c in own], table.labels[own], folds, seed):
            scores[table.frames_of(own[held_out])] = scored(own[trained], own[held_out])
        return scores

    def across() -> np.ndarray:
        scores = _nowhere(table)
        scores[table.frames_of(others)] = scored(own, others)
        return scores

    targets = sorted(set(table.datasets) - {source})
    members = {target: others[names[others] == target] for target in targets}
    return [
        *_cells(table, source, {source: own}, within),
        *_cells(table, source, members, across),
    ]


def _as_known_to(table: FeatureTable, source: str) -> FeatureTable:
    """Return the table with the classes of one database; clips of other classes get label -1 and are not used."""
    present = np.unique(table.labels[np.array(table.datasets) == source])
    columns = np.full(len(table.classes), -1, dtype=np.int64)
    columns[present] = np.arange(len(present))
    return replace(table, classes=tuple(table.classes[c] for c in present), labels=columns[table.labels])


def _nowhere(table: FeatureTable) -> np.ndarray:
    return np.full((len(table.features), len(table.classes)), np.nan, dtype=np.float32)


def _cells(
    table: FeatureTable, source: str, members: Mapping[str, np.ndarray], score: Callable[[], np.ndarray]
) -> list[Cell]:
    """Return one cell per target database, from the frame scores that `score` computes."""
    named = ", ".join(table.classes)
    without = [t for t, clips in members.items() if not len(clips)]
    cells = [Cell(source, t, table.classes, reason=f"no clips of {named} by other people") for t in without]
    judged = {t: clips for t, clips in members.items() if len(clips)}
    if not judged:
        return cells
    try:
        scores = score()
    except FerError as exc:
        return cells + [Cell(source, t, table.classes, reason=str(exc)) for t in judged]
    for target, clips in judged.items():
        subjects = [table.subjects[c] for c in clips]
        verdicts = {rule: clip_verdicts(scores, table.offsets, clips, rule)[0] for rule in RULES}
        numbers = {r: evaluate(v, table.labels[clips], subjects, table.classes) for r, v in verdicts.items()}
        ids = tuple(table.clip_ids[c] for c in clips)
        cells.append(Cell(source, target, table.classes, ids, verdicts, numbers))
    return cells


def _cost(table: FeatureTable, away: Cell, home: Cell) -> Difference | None:
    """Return mean recall after training on another database minus that after training on the target, on the same clips.

    None if a result is missing or the classes differ.
    """
    if not away.verdicts or not home.verdicts or away.classes != home.classes:
        return None
    places = {clip: i for i, clip in enumerate(home.clips)}
    same = np.array([places[clip] for clip in away.clips])
    row = {clip: i for i, clip in enumerate(table.clip_ids)}
    rows = [row[clip] for clip in away.clips]
    column = {c: i for i, c in enumerate(away.classes)}
    labels = np.array([column[table.classes[table.labels[r]]] for r in rows])
    subjects = [table.subjects[r] for r in rows]
    ours, theirs = away.verdicts["mean_scores"], home.verdicts["mean_scores"][same]
    return paired_difference(ours, theirs, labels, subjects, len(away.classes))


def _shown(name: str) -> str:
    return markdown_text(name) if name else "(unnamed)"
