"""Stopping rules: after each epoch, a rule decides whether the fit stops and whether to keep the epoch's weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fer_core.config import TrainConfig

WINDOW = 5  # number of epochs averaged, so that a single validation clip does not decide


@dataclass(frozen=True)
class Answer:
    """Decision of a stopping rule after an epoch."""

    best: bool  # keep this epoch's weights
    stop: bool


class StoppingRule(Protocol):
    def update(self, train_accuracy: float, validation_accuracy: float) -> Answer: ...


@dataclass
class Patience:
    """Stop when the 5-epoch mean of validation accuracy has not risen for `patience` epochs.

    The weights of the epoch with the highest mean are kept.
    """

    patience: int
    _recent: list[float] = field(default_factory=list)
    _best: float = -1.0
    _waited: int = 0

    def update(self, train_accuracy: float, validation_accuracy: float) -> Answer:
        self._recent = [*self._recent, validation_accuracy][-WINDOW:]
        mean = sum(self._recent) / len(self._recent)
        if mean > self._best:
            self._best, self._waited = mean, 0
            return Answer(best=True, stop=False)
        self._waited += 1
        return Answer(best=False, stop=self._waited >= self.patience)


@dataclass
class ThesisRule:
    """§4.3: stop when validation accuracy falls while training accuracy still rises, by 5-epoch means.

    The thesis decided by eye; here, the means of the last five epochs are compared with those of the five epochs
    before. As in the thesis, the weights of the last epoch are kept.
    """

    _train: list[float] = field(default_factory=list)
    _validation: list[float] = field(default_factory=list)

    def update(self, train_accuracy: float, validation_accuracy: float) -> Answer:
        self._train = [*self._train, train_accuracy][-2 * WINDOW :]
        self._validation = [*self._validation, validation_accuracy][-2 * WINDOW :]
        if len(self._train) < 2 * WINDOW:
            return Answer(best=True, stop=False)
        rising = sum(self._train[WINDOW:]) > sum(self._train[:WINDOW])
        falling = sum(self._validation[WINDOW:]) < sum(self._validation[:WINDOW])
        return Answer(best=True, stop=rising and falling)


class Never:
    """Run all epochs and keep the weights of the last one."""

    def update(self, train_accuracy: float, validation_accuracy: float) -> Answer:
        return Answer(best=True, stop=False)


def stopping_rule(cfg: TrainConfig, validated: bool) -> StoppingRule:
    """Return the rule that `cfg` names; without validation clips, the rule that runs all epochs."""
    if not validated or cfg.stopping == "never":
        return Never()
    return Patience(cfg.patience) if cfg.stopping == "patience" else ThesisRule()
