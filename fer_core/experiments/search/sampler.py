"""Optuna's TPE sampler with a new seed for every trial."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial


class TrialSampler(optuna.samplers.BaseSampler):
    """TPE sampler whose draws depend on the study's seed, the trial's number, and the trials finished before.

    A sampler that is seeded once per process would repeat its draws whenever a study is resumed. With one trial at a
    time, a resumed search draws the same as an uninterrupted one. With several at a time, the draws also depend on
    which trials finish first.

    Args:
        seed: seed of the study.
        group: True if some parameters are drawn for some trials only, such as those of one model; they are then sampled
            in groups.
    """

    def __init__(self, seed: int, group: bool = False) -> None:
        self._seed, self._group = seed, group
        self._joint = self._tpe("")

    def _tpe(self, name: str) -> optuna.samplers.TPESampler:
        digest = hashlib.blake2b(f"{self._seed} {name}".encode(), digest_size=4).digest()
        with warnings.catch_warnings():  # Optuna has marked groups as experimental since 2020
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=int.from_bytes(digest, "big"), multivariate=True, group=self._group, constant_liar=True
            )

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._joint = self._tpe(f"{trial.number}")
        return self._joint.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._joint.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw with a seed for this parameter, so that a trial killed between two draws repeats the second one."""
        return self._tpe(f"{trial.number} {param_name}").sample_independent(
            study, trial, param_name, param_distribution
        )
