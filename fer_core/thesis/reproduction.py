"""The reproduction of the thesis: results of its four implementations, and the facts that the page shows."""

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
WINDOW = 5  # number of epochs averaged when two curves are compared


@dataclass(frozen=True)
class Outcome:
    """Result of one implementation here.

    Args:
        number: 1 ... 4.
        train: its training settings.
        history: all epochs; of a diverged fit, those before it diverged.
        pretrained: indices of the FC layers that started from ImageNet weights.
        n_weights, threads, device: number of parameters, torch threads and device of the fit.
        tests: rule -> evaluation on the test clips; empty if there is none (see `reason`).
        verdicts: rule -> (n,) predicted classes, in the order of the reproduction's labels.
        opening, openings: number of this opening of the test set, and of all openings so far.
        out_of_fold: rule -> evaluation by cross-validation; empty unless requested.
        reason: why there is no test result; else empty.
        run: id of its MLflow run.
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
        """Wall-clock time of all epochs, also of those in earlier processes."""
        return sum(self.history.column("seconds"))

    @property
    def one_answer(self) -> str | None:
        """The emotion that it predicts for every test clip; None if it predicts more than one."""
        if not self.tested:
            return None
        given = np.flatnonzero(self.tests[MEAN].confusion.sum(axis=0))
        return self.tests[MEAN].classes[given[0]] if len(given) == 1 else None

    def gap(self) -> tuple[float, float, float] | None:
        """Training accuracy, validation accuracy and their difference, as means of the last epochs; None without
        validation."""
        train, validation = (
            float(np.mean(self.history.column(name)[-WINDOW:])) if len(self.history) else float("nan")
            for name in ("train_accuracy", "validation_accuracy")
        )
        return None if np.isnan(validation) else (train, validation, train - validation)


@dataclass(frozen=True)
class DataFacts:
    """The clips and subjects for training and testing.

    Args:
        fingerprint: fingerprint of clips and split.
        datasets: names of the databases.
        synthetic: True if any face was drawn or rendered.
        clips: split -> number of clips of each class, in the order of `SIX`.
        people: split -> number of subjects.
        frames: number of training frames of each class, counted as in Table 4.2.
        own_split: True if the manifest has its own split, so that `split` was not used.
        stopped_on: description of the clips for early stopping.
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
    """Results of all four implementations, or of the requested ones, on the same clips.

    Args:
        setting: `table-4.1` or `section-4.2.2`.
        changed: fields of `train` with other values than in this setting.
        fixed_epochs: True if trained for the thesis's numbers of epochs instead of by its stopping rule.
        shrink: divisor of the FC widths; 1: the widths of the thesis.
        outcomes: results in the order of their numbers.
        labels, subjects: (n,) true class and subject of the test clips.
        backbone, normalization: the backbone, and the normalisation of its input.
        environment: versions and hardware.
        untrained: name of a face network as published -> its evaluation on the test clips, by mean scores.
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
    untrained: Mapping[str, Evaluation] = field(default_factory=dict)

    @property
    def tested(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.tested)

    def outcome(self, number: int) -> Outcome | None:
        """Return the outcome of implementation `number`, if it was tested."""
        return next((o for o in self.tested if o.number == number), None)

    def rule_difference(self, outcome: Outcome) -> Difference:
        """Return the mean recall by mean scores minus that by majority vote, for one implementation."""
        return self._difference(outcome.verdicts[MEAN], outcome.verdicts[VOTE])

    def network_difference(self, number: int, other: int) -> Difference | None:
        """Return the difference in mean recall of two implementations, by mean scores; None unless both were tested."""
        a, b = self.outcome(number), self.outcome(other)
        return self._difference(a.verdicts[MEAN], b.verdicts[MEAN]) if a and b else None

    def taken_for(self, outcome: Outcome, rule: Rule, truth: str, verdict: str) -> Interval:
        """Return the share of test clips of emotion `truth` that an implementation predicts as `verdict`."""
        return taken_for(outcome.verdicts[rule], self.labels, self.subjects, truth, verdict)

    def _difference(self, a: np.ndarray, b: np.ndarray) -> Difference:
        return paired_difference(a, b, self.labels, self.subjects, len(SIX))

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able results, with those of the thesis."""
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
            "untrained": {name: e.to_json() for name, e in self.untrained.items()},
        }
