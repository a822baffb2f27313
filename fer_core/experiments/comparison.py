"""Compare models on the same folds and clips, with intervals and paired differences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_core.clips.splits import grouped_folds
from fer_core.dataset.table import FeatureTable
from fer_core.emotions import Classes
from fer_core.errors import TrainingError
from fer_core.evaluation.abstention import Ranking, ranking
from fer_core.evaluation.cross_validation import fit_fold, fold_entry, hold_out
from fer_core.evaluation.latency import LatencyOf
from fer_core.evaluation.metrics import Difference, Evaluation, Interval, evaluate, paired_difference
from fer_core.models.base import ClipModel, Fits
from fer_core.preprocess.changes import Change
from fer_core.store import EntryStore
from fer_core.training.history import History

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """Results of one model in a comparison.

    Args:
        scores: (C, k) out-of-fold scores of every clip.
        evaluation: metrics of their arg-max.
        ranking: quality of the confidence, calibrated on clips of other subjects.
        difference: mean recall of this model minus that of the first, by subject; None for the first.
        n_parameters: number of learnt values, median of the folds.
        seconds: wall-clock time of a fit, mean of the folds.
        ms_per_clip: latency in ms of CPU time from stored faces to scores: backbone or descriptors, and the model.
        histories: one per fold; empty for a model without epochs.
        trained: False for a network as it was published; no fold is fitted, and it predicts every clip.
    """

    name: str
    title: str
    scores: np.ndarray
    evaluation: Evaluation
    ranking: Ranking
    difference: Difference | None
    n_parameters: int
    seconds: float
    ms_per_clip: float
    histories: tuple[History, ...]
    trained: bool = True


@dataclass(frozen=True)
class Comparison:
    """Models on the same clips and folds.

    Args:
        entries: in the requested order; the others are compared with the first.
        failed: name of a model without an entry -> reason.
        folds, seed: number of folds of the cross-validation, and its seed.
        n_clips, n_subjects: numbers of clips and subjects.
        classes: emotions, in the order of the scores' columns.
        synthetic: True if any face was drawn or rendered.
        stays: name of a model -> share of its verdicts that stay under each change; empty unless that was asked for.
    """

    entries: tuple[Entry, ...]
    failed: dict[str, str]
    folds: int
    seed: int
    n_clips: int
    n_subjects: int
    classes: Classes
    synthetic: bool
    stays: Mapping[str, Mapping[Change, Interval]] = field(default_factory=dict)


@dataclass
class _OutOfFold:
    """Results of one model's finished folds."""

    scores: np.ndarray
    notes: list[dict[str, Any]] = field(default_factory=list)


def compare(
    models: Sequence[ClipModel],
    table: FeatureTable,
    *,
    folds: int,
    seed: int,
    fit_seed: int,
    inner_share: float,
    latency: LatencyOf | None = None,
    store: EntryStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Cross-validate every model on the same folds.

    A search with the same seed has the same folds. Of the training subjects of a fold, `inner_share` are held out for
    early stopping. A model whose fit fails is reported in `failed`; the others continue.

    Args:
        seed: seed of the folds.
        fit_seed: seed of everything random in a fit.
        inner_share: share of a fold's training subjects that are held out for early stopping.
        latency: latency of the models' inputs; see `measure_latency`.
        store: stores the results of all folds, so that they are not fitted again; None: nothing is stored.
        progress: called with (fits done, all fits).
    Raises:
        DataError: too few subjects for the folds.
        TrainingError: no model could be fitted.
    """
    k = len(table.classes)
    judged = {model.name: _OutOfFold(np.full((table.n_clips, k), np.nan)) for model in models}
    failed: dict[str, str] = {}
    fits = Fits(table)
    sides = grouped_folds(table.subjects, table.labels, folds, seed)
    for fold, (train, held_out) in enumerate(sides):
        side = hold_out(table, train, inner_share, seed, fit_seed)
        for place, model in enumerate(models):
            if model.name not in failed:
                try:
                    kept = fold_entry(store, model, fits, side, held_out, None)
                    found = fit_fold(model, fits, side, held_out, latency=latency, kept=kept)
                except TrainingError as exc:
                    log.warning("%s is left out: %s", model.name, exc)
                    failed[model.name] = str(exc)
                else:
                    judged[model.name].scores[held_out] = found[0]
                    judged[model.name].notes.append(found[1])
            if progress:
                progress(fold * len(models) + place + 1, len(sides) * len(models))
    whole = [model for model in models if model.name not in failed]
    if not whole:
        raise TrainingError(f"none of {len(models)} models could be fitted: {'; '.join(failed.values())}")
    reference = judged[whole[0].name].scores.argmax(axis=1)
    return Comparison(
        entries=tuple(_entry(model, judged[model.name], table, reference, model is whole[0]) for model in whole),
        failed=failed,
        folds=folds,
        seed=seed,
        n_clips=table.n_clips,
        n_subjects=len(set(table.subjects)),
        classes=table.classes,
        synthetic=table.synthetic,
    )


def _entry(model: ClipModel, judged: _OutOfFold, table: FeatureTable, reference: np.ndarray, first: bool) -> Entry:
    verdicts = judged.scores.argmax(axis=1)
    histories = [History.from_rows(note["history"]) for note in judged.notes]
    return Entry(
        name=model.name,
        title=model.title,
        scores=judged.scores,
        evaluation=evaluate(verdicts, table.labels, table.subjects, table.classes),
        ranking=ranking(judged.scores, table.labels, table.subjects),
        difference=None
        if first
        else paired_difference(verdicts, reference, table.labels, table.subjects, len(table.classes)),
        n_parameters=int(np.median([note["n_weights"] for note in judged.notes])),
        seconds=float(np.mean([note["seconds"] for note in judged.notes])),
        ms_per_clip=float(np.median([note["ms"] for note in judged.notes])),
        histories=tuple(history for history in histories if len(history)),
    )
