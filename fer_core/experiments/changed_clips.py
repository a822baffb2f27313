"""Whether the verdicts of compared models stay when the clips are changed (`ferflow compare --stress`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fer_core.clips.splits import grouped_folds
from fer_core.dataset.table import FeatureTable
from fer_core.evaluation.cross_validation import fit_fold, fold_entry, hold_out
from fer_core.evaluation.metrics import Interval, clip_verdicts
from fer_core.experiments.adoption import AdoptedEvaluation
from fer_core.experiments.stability import share_given
from fer_core.models.base import ClipModel, Fits
from fer_core.preprocess.changes import Change
from fer_core.store import EntryStore

Stays = dict[Change, Interval]  # share of the verdicts that stay under each change


def stays_out_of_fold(
    models: Sequence[ClipModel],
    table: FeatureTable,
    changed: Mapping[Change, FeatureTable | None],
    *,
    folds: int,
    seed: int,
    fit_seed: int,
    inner_share: float,
    store: EntryStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Stays]:
    """Return, by model name, the share of out-of-fold verdicts that stay under each change.

    A clip and its changed copies are predicted by the same fit, which never saw the clip's subject.

    Args:
        changed: the table of the changed clips; a clip without a face after the change is not in it, and counts as a
            verdict that is gone. None: no clip has a face.
        folds, seed, fit_seed, inner_share, store: as in `compare`, whose fits have the same results.
        progress: called with (fits done, all fits).
    Raises:
        TrainingError: a fit failed.
    """
    places = {change: _places(table, other) for change, other in changed.items()}
    before = {model.name: np.full(table.n_clips, -1) for model in models}
    after = {model.name: {change: np.full(table.n_clips, -1) for change in changed} for model in models}
    fits, done = Fits(table), 0
    for train, held_out in grouped_folds(table.subjects, table.labels, folds, seed):
        side = hold_out(table, train, inner_share, seed, fit_seed)
        for model in models:

            def verdicts(scored: np.ndarray, on: FeatureTable | None, model: ClipModel = model) -> np.ndarray:
                kept = fold_entry(store, model, fits, side, scored, on)  # noqa: B023  called within this fold
                scores, _ = fit_fold(model, fits, side, scored, on=on, kept=kept)  # noqa: B023
                return scores.argmax(axis=1)

            before[model.name][held_out] = verdicts(held_out, None)
            for change, other in changed.items():
                there = held_out[places[change][held_out] >= 0]
                if other is not None and len(there):
                    after[model.name][change][there] = verdicts(places[change][there], other)
            done += 1
            if progress:
                progress(done, folds * len(models))
    return {
        name: {
            change: share_given(given, before[name], table.subjects, len(table.classes)) for change, given in of.items()
        }
        for name, of in after.items()
    }


def stays_untrained(before: AdoptedEvaluation, changed: Mapping[Change, AdoptedEvaluation | None]) -> Stays:
    """Return the share of a network's verdicts that stay under each change; see `stays_out_of_fold`."""
    table, found = before.table, {}
    given = _verdicts(before)
    for change, evaluated in changed.items():
        after = np.full(table.n_clips, -1)
        places = _places(table, evaluated.table if evaluated else None)
        if evaluated is not None:
            after[places >= 0] = _verdicts(evaluated)[places[places >= 0]]
        found[change] = share_given(after, given, table.subjects, len(table.classes))
    return found


def _places(table: FeatureTable, other: FeatureTable | None) -> np.ndarray:
    """Return (C,) positions of the table's clips in the other table; -1 where it lacks them."""
    at = {clip: place for place, clip in enumerate(other.clip_ids)} if other is not None else {}
    return np.array([at.get(clip, -1) for clip in table.clip_ids])


def _verdicts(evaluated: AdoptedEvaluation) -> np.ndarray:
    table = evaluated.table
    return clip_verdicts(evaluated.scores, table.offsets, np.arange(table.n_clips), "mean_scores")[0]
