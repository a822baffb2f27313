"""The thesis, reproduced: what its four implementations give here, and all that a page about it needs to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fer_core.clips.clip import Split
from fer_core.config import BackboneConfig, PreprocessConfig, Rule, SplitConfig, TrainConfig
from fer_core.emotions import SIX
from fer_core.evaluation.metrics import Difference, Evaluation, Interval, paired_difference, taken_for
from fer_core.published import BY_NUMBER, MEAN, VOTE, Implementation
from fer_core.training.history import History

THESIS_RULES: tuple[Rule, ...] = (VOTE, MEAN)
WINDOW = 5  # epochs averaged when two curves are compared


@dataclass(frozen=True)
class Outcome:
    """Result of one implementation here.

    Args:
        number: 1 ... 4. train: its setting.
        history: every epoch run, up to the divergence of one that diverged.
        pretrained: places of the FC layers that started from ImageNet weights.
        n_weights, threads, device, seconds: of the fit.
        tests: rule -> evaluation on the test clips; empty when there is none, and `reason` says why.
        verdicts: rule -> (n,) columns, in the order of the reproduction's labels.
        opening, openings: which look at this test set it was, and how many there are by now.
        out_of_fold: rule -> evaluation by cross-validation; empty when that was not asked for.
        run: its MLflow run.
    """

    number: int
    train: TrainConfig
    history: History = field(default_factory=History)
    pretrained: tuple[int, ...] = ()
    n_weights: int = 0
    threads: int = 0
    device: str = ""
    tests: Mapping[Rule, Evaluation] = field(default_factory=dict)
    verdicts: Mapping[Rule, np.ndarray] = field(default_factory=dict)
    opening: int = 0
    openings: int = 0
    out_of_fold: Mapping[Rule, Evaluation] = field(default_factory=dict)
    reason: str = ""
    run: str = ""

    @property
    def thesis(self) -> Implementation:
        return BY_NUMBER[self.number]

    @property
    def tested(self) -> bool:
        return bool(self.tests)

    @property
    def seconds(self) -> float:
        """Of all its epochs, whichever process ran them."""
        return sum(self.history.column("seconds"))

    @property
    def one_answer(self) -> str | None:
        """The emotion it gives to every test clip, when it has learnt nothing else."""
        if not self.tested:
            return None
        given = np.flatnonzero(self.tests[MEAN].confusion.sum(axis=0))
        return self.tests[MEAN].classes[given[0]] if len(given) == 1 else None

    def gap(self) -> tuple[float, float, float] | None:
        """Training, validation accuracy and their gap, means of the last epochs; None without a validation set."""
        train, validation = (
            float(np.mean(self.history.column(name)[-WINDOW:])) if len(self.history) else float("nan")
            for name in ("train_accuracy", "validation_accuracy")
        )
        return None if np.isnan(validation) else (train, validation, train - validation)


@dataclass(frozen=True)
class DataFacts:
    """The clips and people that were trained and tested on.

    Args:
        fingerprint: of clips and split. datasets: their names.
        clips: side -> clips of each class, in the order of `SIX`. people: side -> subjects.
        frames: training frames of each class, as Table 4.2 counts them.
        own_split: the manifest brought its split, so `split` did not decide it.
        stopped_on: what training was stopped on, in words.
    """

    fingerprint: str
    datasets: tuple[str, ...]
    synthetic: bool
    clips: Mapping[Split, tuple[int, ...]]
    people: Mapping[Split, int]
    frames: tuple[int, ...]
    own_split: bool
    stopped_on: str


@dataclass(frozen=True)
class Reproduction:
    """All four, or those asked for, on the same clips.

    Args:
        setting: `table-4.1` or `section-4.2.2`. changed: fields of `train` that are not that setting's.
        fixed_epochs: trained for the thesis's epochs instead of its rule.
        shrink: what the FC widths were divided by; 1: the thesis's own.
        outcomes: in order. labels, subjects: (n,) of the test clips.
        backbone, normalization: the convolutions, and the input they were given.
        environment: of the machine.
    """

    setting: str
    changed: tuple[str, ...]
    fixed_epochs: bool
    shrink: int
    outcomes: tuple[Outcome, ...]
    labels: np.ndarray
    subjects: Sequence[str]
    data: DataFacts
    preprocess: PreprocessConfig
    split: SplitConfig
    backbone: BackboneConfig
    normalization: str
    environment: Mapping[str, str]

    @property
    def tested(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.tested)

    def outcome(self, number: int) -> Outcome | None:
        """The tested outcome of a number."""
        return next((o for o in self.tested if o.number == number), None)

    def rule_difference(self, outcome: Outcome) -> Difference:
        """Mean recall by mean scores minus by majority vote, of one implementation."""
        return self._difference(outcome.verdicts[MEAN], outcome.verdicts[VOTE])

    def network_difference(self, number: int, other: int) -> Difference | None:
        """Mean recall of one implementation minus another's, by mean scores; None unless both were tested."""
        a, b = self.outcome(number), self.outcome(other)
        return self._difference(a.verdicts[MEAN], b.verdicts[MEAN]) if a and b else None

    def taken_for(self, outcome: Outcome, rule: Rule, truth: str, verdict: str) -> Interval:
        """Share of the test clips of one emotion that an implementation takes for another."""
        return taken_for(outcome.verdicts[rule], self.labels, self.subjects, truth, verdict)

    def _difference(self, a: np.ndarray, b: np.ndarray) -> Difference:
        return paired_difference(a, b, self.labels, self.subjects, len(SIX))

    def to_json(self) -> dict[str, Any]:
        """JSON-able numbers, the thesis's beside ours."""
        return {
            "setting": self.setting,
            "fixed_epochs": self.fixed_epochs,
            "shrink": self.shrink,
            "synthetic": self.data.synthetic,
            "fingerprint": self.data.fingerprint,
            "implementations": [
                {
                    "number": o.number,
                    "thesis": {rule: o.thesis.average[rule] for rule in THESIS_RULES},
                    "test": {rule: e.to_json() for rule, e in o.tests.items()},
                    "out_of_fold": {rule: e.to_json() for rule, e in o.out_of_fold.items()},
                    "epochs": {"thesis": o.thesis.epochs, "here": len(o.history)},
                    "seconds": round(o.seconds, 1),
                    "opening": o.opening,
                    "openings": o.openings,
                    "reason": o.reason,
                    "run": o.run,
                }
                for o in self.outcomes
            ],
        }
