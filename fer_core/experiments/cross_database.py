"""Across databases: trained on each, tested on each other; within one, by cross-validation (§3.1: one is not enough).

Only train and validation clips take part, so the lockbox stays shut. A database that lacks a class trains a head
without it, and is judged on the clips of the classes it knows.
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
    """Trained on one database, tested on one.

    Args:
        source, target: their names; the same: by cross-validation within it.
        classes: those the source has. clips: ids of the clips judged.
        verdicts: rule -> (n,) columns in `classes` order. evaluations: rule -> its numbers.
        reason: why there are none.
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
    """Every cell of the matrix.

    Args:
        names: of the databases, sorted. classes: of the run. cells: (source, target) -> cell.
        costs: (source, target) -> mean recall by mean scores minus that of the target's own cross-validation, on the
            same clips; only where both know the same classes.
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
        """The matrix of one rule, mean recall in %: a row for every database trained on."""
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
            texts = [self._told(self.cells[source, target], rule) for target in self.names]
            lines.append(f"| {_shown(source)} | " + " | ".join(texts) + " |")
        if self.costs:
            lines += ["", "| trained on another database | points against its own cross-validation |", "| --- | --- |"]
        for (source, target), cost in self.costs.items():
            numbers = f"{100 * cost.value:+.1f} [{100 * cost.low:+.1f}, {100 * cost.high:+.1f}]"
            lines.append(f"| {_shown(source)} → {_shown(target)} | {numbers} |")
        return "\n".join([*lines, ""])

    def _told(self, cell: Cell, rule: Rule) -> str:
        if not cell.evaluations:
            return markdown_text(cell.reason)
        evaluation = cell.evaluations[rule]
        few = "" if cell.classes == self.classes else f", {len(cell.classes)} classes"
        return f"{evaluation.mean_recall} ({evaluation.n_clips} clips{few})"


def several(datasets: Iterable[str]) -> tuple[str, ...]:
    """The databases there are, sorted.

    Raises:
        DataError: there is one only.
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
    """The matrix of a setting; one job a source, each in a process of the executor.

    Args:
        table: train and validation clips of two or more databases.
        folds, seed: of the cross-validation within a database.
        fc, block: the backbone's stored FC layers and last block, as trials get them.
    Raises:
        DataError: there is one database only.
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
    """The cells of one source, its own first. What a child process does.

    A cell that cannot be had (too few people, a diverging fit, no class in common) says why; the others stand.
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
    """The table with the classes one database has; clips of others are labelled -1 and never read."""
    present = np.unique(table.labels[np.array(table.datasets) == source])
    columns = np.full(len(table.classes), -1, dtype=np.int64)
    columns[present] = np.arange(len(present))
    return replace(table, classes=tuple(table.classes[c] for c in present), labels=columns[table.labels])


def _nowhere(table: FeatureTable) -> np.ndarray:
    return np.full((len(table.features), len(table.classes)), np.nan, dtype=np.float32)


def _cells(
    table: FeatureTable, source: str, members: Mapping[str, np.ndarray], score: Callable[[], np.ndarray]
) -> list[Cell]:
    """A cell a target, from the scores of one fit or several."""
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
    """Mean recall by training on another database minus that by this one, on the same clips; None if classes differ."""
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
