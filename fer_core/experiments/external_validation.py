"""Models fitted to all clips that were compared on, and what they make of other people in other pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_core.clips.spelling import person_key
from fer_core.dataset.table import FeatureTable
from fer_core.errors import DataError, TrainingError
from fer_core.evaluation.cross_validation import fit_fold, fold_entry, hold_out
from fer_core.evaluation.latency import LatencyOf
from fer_core.evaluation.metrics import Evaluation, by_columns, evaluate
from fer_core.models.base import ClipModel, Fits
from fer_core.store import EntryStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExternalResult:
    """A model on the other clips: all of them, and by the values of their group columns."""

    evaluation: Evaluation
    groups: Mapping[str, Mapping[str, Evaluation]]

    def columns(self) -> dict[str, str]:
        """Mean recall with its interval, of all clips and of each group, as tables show them."""
        every = {f"all {self.evaluation.n_clips} clips": self.evaluation}
        for column, values in self.groups.items():
            every |= {f"{column} {value}, {e.n_clips} clips": e for value, e in values.items()}
        return {name: str(e.mean_recall) for name, e in every.items()}


@dataclass(frozen=True)
class ExternalValidation:
    """Models on other clips.

    Args:
        name: of these clips. labels: emotions among them; recalls are means over these.
        results: one a model, in the order asked for. failed: name -> why it is not among them.
        synthetic: whether any of these clips' faces was drawn or rendered.
    """

    name: str
    labels: tuple[str, ...]
    results: Mapping[str, ExternalResult]
    failed: Mapping[str, str]
    synthetic: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-able numbers."""
        return {
            "name": self.name,
            "labels": list(self.labels),
            "synthetic": self.synthetic,
            "rows": [{"model": name, **one.columns()} for name, one in self.results.items()],
            "models": {
                name: {
                    "evaluation": one.evaluation.to_json(),
                    "groups": {c: {v: e.to_json() for v, e in vs.items()} for c, vs in one.groups.items()},
                }
                for name, one in self.results.items()
            },
            "failed": dict(self.failed),
        }


def validate_externally(
    models: Sequence[ClipModel],
    table: FeatureTable,
    other: FeatureTable,
    name: str,
    *,
    seed: int,
    fit_seed: int,
    inner_share: float,
    latency: LatencyOf | None = None,
    store: EntryStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExternalValidation:
    """Fit every model once more, to all clips of the table, and evaluate it on the other clips, none of them seen.

    As in a fold, `inner_share` of the subjects are held out to stop on. A model that diverges is reported.

    Args:
        seed: of who is held out. fit_seed: of all that is random in a fit.
    Raises:
        DataError: a subject is on both sides.
    """
    people = {person_key(subject) for subject in table.subjects}
    if shared := sorted(subject for subject in set(other.subjects) if person_key(subject) in people):
        raise DataError(
            f"subject '{shared[0]}' ({len(shared)} in all) is among the clips trained on and in {name}; "
            "take these clips out of one of the two"
        )
    side = hold_out(table, np.arange(table.n_clips), inner_share, seed, fit_seed)
    every, fits = np.arange(other.n_clips), Fits(table)
    results, failed = dict[str, ExternalResult](), dict[str, str]()
    for done, model in enumerate(models, start=1):
        try:
            kept = fold_entry(store, model, fits, side, every, other)
            scores, _ = fit_fold(model, fits, side, every, on=other, latency=latency, kept=kept)
        except TrainingError as exc:
            log.warning("%s is left out: %s", model.name, exc)
            failed[model.name] = str(exc)
        else:
            verdicts = (scores.argmax(axis=1), other.labels, other.subjects)
            groups = by_columns(*verdicts, other.groups, other.classes)
            results[model.name] = ExternalResult(evaluate(*verdicts, other.classes), groups)
        if progress:
            progress(done, len(models))
    labels = tuple(str(other.classes[c]) for c in np.unique(other.labels))
    return ExternalValidation(name, labels, results, failed, other.synthetic)
