"""Estimate how long a search will take, before it starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fer_core.clips.splits import grouped_folds
from fer_core.config import RECIPES, SearchConfig, TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.evaluation.cross_validation import hold_out
from fer_core.experiments.search.ledger import Study
from fer_core.experiments.search.trial import read_result
from fer_core.model_names import FC_HEAD_MODELS
from fer_core.models.base import Fits
from fer_core.models.registry import model_of

_EPOCHS = (1, 3)


def estimate_seconds(
    study: Study,
    table: FeatureTable,
    cfg: SearchConfig,
    base: TrainConfig,
    workers: int,
    *,
    fc: Path | None = None,
    block: Path | None = None,
) -> tuple[float, bool]:
    """Return the seconds that the trials of a search still need, and True if this is an upper bound.

    If the study has complete trials, their median time counts. Otherwise every searched model is fitted to one fold for
    a few epochs, a model with FC layers with the widest of the space. This gives an upper bound, since early stopping
    ends most fits much sooner than their largest number of epochs. Repeated cross-validations of the finalists are
    included, pruning is not.

    Args:
        fc, block: files of the backbone's layers from which a head starts; see `search`.
    """
    ended = [r for r in (read_result(f) for f in sorted(study.folder.glob("trial-*"))) if r and r.state == "complete"]
    left = max(0, cfg.trials - len(ended)) + cfg.finalists * cfg.repeats
    if ended:
        return left * float(np.median([r.seconds for r in ended])) / workers, False
    per_fold = [_seconds_of_fold(table, cfg, base.with_model(m), fc, block) for m in cfg.models or (base.model,)]
    return left * cfg.folds * float(np.mean(per_fold)) / workers, True


def _seconds_of_fold(
    table: FeatureTable, cfg: SearchConfig, train: TrainConfig, fc: Path | None, block: Path | None
) -> float:
    """Return the seconds of one fit with the largest number of epochs, from fits of one and of three epochs."""
    clips, _ = next(iter(grouped_folds(table.subjects, table.labels, cfg.folds, cfg.seed)))
    side = hold_out(table, clips, train.inner_share, cfg.seed, train.seed)
    if train.model in FC_HEAD_MODELS:
        train = train.model_copy(update={"widths": max(cfg.widths, key=lambda widths: (widths[:1], sum(widths)))})
    elif train.model not in RECIPES:  # not fitted in epochs
        return Fits(table).fitted(model_of(train, fc=fc, block=block), side).seconds
    one, three = (
        Fits(table).fitted(model_of(train.model_copy(update={"epochs": n}), fc=fc, block=block), side).seconds
        for n in _EPOCHS
    )
    return one + max(0.0, three - one) / (_EPOCHS[1] - _EPOCHS[0]) * (train.epochs - 1)
