"""Optuna's sampler, seeded anew for every trial."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial


class TrialSampler(optuna.samplers.BaseSampler):
    """TPE whose draws depend on the study's seed, the trial's number, and the trials that had ended by then.

    A sampler seeded once a process would repeat its draws in every session of a study. With one trial at a time, a
    search that was stopped draws what an undisturbed one draws; with several, which trials have ended by then depends
    on their speed.

    Args:
        seed: of the study. group: each model's own settings are a group, where models are a choice.
    """

    def __init__(self, seed: int, group: bool = False) -> None:
        self._seed, self._group = seed, group
        self._joint = self._tpe("")

    def _tpe(self, name: str) -> optuna.samplers.TPESampler:
        digest = hashlib.blake2b(f"{self._seed} {name}".encode(), digest_size=4).digest()
        with warnings.catch_warnings():  # groups are marked experimental since 2020
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
        """A seed for every parameter: a trial killed between two of them draws the second as it would have."""
        return self._tpe(f"{trial.number} {param_name}").sample_independent(
            study, trial, param_name, param_distribution
        )
