"""When to stop a fit, and which epoch to keep. A rule is shown each epoch's accuracies and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fer_core.config import TrainConfig

WINDOW = 5  # epochs averaged: one validation clip more or less must not decide


@dataclass(frozen=True)
class Answer:
    """Decision of a stopping rule after an epoch."""

    best: bool  # keep this epoch's weights
    stop: bool


class StoppingRule(Protocol):
    def update(self, train_accuracy: float, validation_accuracy: float) -> Answer: ...


@dataclass
class Patience:
    """Stop when the 5-epoch mean of validation accuracy has not risen for `patience` epochs; the best mean is kept."""

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

    The thesis judged by eye; here the means of the last five epochs are held against those of the five before. The
    weights kept are the last ones, as there.
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
    """All epochs; the last one's weights are kept."""

    def update(self, train_accuracy: float, validation_accuracy: float) -> Answer:
        return Answer(best=True, stop=False)


def stopping_rule(cfg: TrainConfig, validated: bool) -> StoppingRule:
    """The rule of `cfg`; without validation clips there is nothing to stop on, and all epochs are run."""
    if not validated or cfg.stopping == "never":
        return Never()
    return Patience(cfg.patience) if cfg.stopping == "patience" else ThesisRule()
