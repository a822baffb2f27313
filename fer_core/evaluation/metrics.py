"""Metrics: confusion matrix, per-class recall, mean recall and accuracy, with bootstrap intervals by subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import numpy as np

from fer_core.config import Rule
from fer_core.emotions import SIX, Classes
from fer_core.errors import ShapeError
from fer_core.models.verdict import clip_scores, judge

RULES: tuple[Rule, ...] = get_args(Rule)
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A share in [0, 1] with its 95 % percentile interval from the bootstrap by subject; NaN if undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one rule's predictions for some clips.

    Args:
        classes: emotions, in column order.
        confusion: (k, k) counts; rows are true classes, columns are predicted classes.
        recall: one Interval per class; NaN for a class without clips.
        mean_recall: mean of the recalls of the classes that have clips, the thesis's "average accuracy".
        accuracy: share of the clips that are predicted correctly.
        n_clips, n_subjects: numbers of clips and subjects evaluated.
    """

    classes: Classes
    confusion: np.ndarray
    recall: tuple[Interval, ...]
    mean_recall: Interval
    accuracy: Interval
    n_clips: int
    n_subjects: int

    @property
    def weakest(self) -> tuple[str, Interval]:
        """The class with the smallest recall, and its recall, among the classes that have clips."""
        told = [(str(c), r) for c, r in zip(self.classes, self.recall, strict=True) if not np.isnan(r.value)]
        return min(told, key=lambda pair: pair[1].value)

    @property
    def chance(self) -> float:
        """Mean recall of random guessing: 1 / number of classes that have clips."""
        return 1 / int((self.confusion.sum(axis=1) > 0).sum())

    @property
    def above_chance(self) -> bool:
        """True if the whole interval of the mean recall lies above chance."""
        return self.mean_recall.low > self.chance

    @property
    def never_right(self) -> Classes:
        """The classes without a correctly predicted clip."""
        return tuple(c for c, r in zip(self.classes, self.recall, strict=True) if r.value == 0)

    def chance_warning(self) -> str:
        """A warning if the mean recall is not above chance, or a class has no correctly predicted clip; else empty."""
        faults = []
        if not self.above_chance:
            faults.append(f"its mean recall of {self.mean_recall} % is not above chance, {100 * self.chance:.1f} %")
        if self.never_right:
            faults.append(f"it calls no clip of {', '.join(self.never_right)} right")
        return f"The model is of no use yet: {', and '.join(faults)}." if faults else ""

    def normalized(self) -> np.ndarray:
        """(k, k) confusion matrix in %, rows sum to 100 (thesis, from Fig. 4.3 on); NaN rows for absent classes."""
        totals = self.confusion.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.where(totals > 0, 100 * self.confusion / totals, np.nan)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able numbers; NaN becomes None."""

        def triple(i: Interval) -> list[float | None]:
            return [None if np.isnan(v) else float(v) for v in (i.value, i.low, i.high)]

        return {
            "classes": [str(c) for c in self.classes],
            "confusion": self.confusion.tolist(),
            "recall": {str(c): triple(r) for c, r in zip(self.classes, self.recall, strict=True)},
            "mean_recall": triple(self.mean_recall),
            "accuracy": triple(self.accuracy),
            "n_clips": self.n_clips,
            "n_subjects": self.n_subjects,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """Read the data of `to_json`; other keys are ignored."""

        def interval(triple: Sequence[float | None]) -> Interval:
            return Interval(*(float("nan") if v is None else float(v) for v in triple))

        return cls(
            classes=tuple(data["classes"]),
            confusion=np.array(data["confusion"], dtype=np.int64),
            recall=tuple(interval(data["recall"][name]) for name in data["classes"]),
            mean_recall=interval(data["mean_recall"]),
            accuracy=interval(data["accuracy"]),
            n_clips=int(data["n_clips"]),
            n_subjects=int(data["n_subjects"]),
        )


def clip_verdicts(
    scores: np.ndarray, offsets: np.ndarray, clips: np.ndarray, rule: Rule
) -> tuple[np.ndarray, np.ndarray]:
    """Predict some clips by `rule`: return predicted classes (n,) and clip scores (n, k).

    Args:
        scores: (N, k) frame scores of the clips, one clip after the other.
        offsets: (C + 1,) index of each clip's first frame, then N.
        clips: (n,) positions of the clips to predict.
    """
    lengths = np.diff(offsets)[clips]
    shares = np.empty((len(clips), scores.shape[1]))
    for length in np.unique(lengths):  # clips of one length together: each alone takes ten times as long
        alike = np.flatnonzero(lengths == length)
        shares[alike] = clip_scores(scores[offsets[clips[alike]][:, None] + np.arange(length)], rule)
    verdicts = shares.argmax(axis=1)
    tied = (shares == shares.max(axis=1, keepdims=True)).sum(axis=1) > 1
    for place in np.flatnonzero(tied):
        clip = clips[place]
        verdicts[place] = judge(scores[offsets[clip] : offsets[clip + 1]], rule).index
    return verdicts, shares


def evaluate(
    verdicts: np.ndarray,
    labels: np.ndarray,
    subjects: Sequence[str],
    classes: Classes = SIX,
    seed: int = 0,
) -> Evaluation:
    """Evaluate predictions, with intervals from 2000 bootstrap resamples of subjects (not of clips).

    Args:
        verdicts, labels: (n,) predicted and true classes, as indices in `classes`; n >= 1.
        subjects: n subject names; all clips of a subject are resampled together.
        seed: seed of the bootstrap.
    Raises:
        ShapeError: the three differ in length, or n is 0.

    Example:
        >>> labels = np.array([0, 0, 1, 1])
        >>> found = evaluate(np.array([0, 1, 1, 1]), labels, ["s1", "s1", "s2", "s2"], ("fear", "happiness"))
        >>> found.mean_recall.value, found.confusion.tolist()
        (0.75, [[1, 1], [0, 2]])
    """
    if not len(labels) or not len(verdicts) == len(labels) == len(subjects):
        raise ShapeError(
            f"got {len(verdicts)} verdicts, {len(labels)} labels, {len(subjects)} subjects; needs equal n >= 1"
        )
    per_subject = _confusions(verdicts, labels, subjects, len(classes))
    draws = subject_draws(len(per_subject), seed) @ per_subject.reshape(len(per_subject), -1)
    drawn = draws.reshape(-1, len(classes), len(classes))
    total = per_subject.sum(axis=0)
    recalls, drawn_recalls = _recalls(total[None])[0], _recalls(drawn)
    return Evaluation(
        classes=classes,
        confusion=total,
        recall=tuple(_interval(recalls[c], drawn_recalls[:, c]) for c in range(len(classes))),
        mean_recall=_interval(_mean_recall(total[None])[0], _mean_recall(drawn)),
        accuracy=_interval(_accuracy(total[None])[0], _accuracy(drawn)),
        n_clips=len(labels),
        n_subjects=len(per_subject),
    )


def proportion(right: int, total: int) -> Interval:
    """Return right / total with its 95 % interval by Wilson's score, for clips that may be taken as independent.

    Raises:
        ShapeError: total is 0, or right is not in 0 ... total.
    """
    from scipy.stats import binomtest  # takes half a second, and scoring never needs it

    if not 0 <= right <= total or total == 0:
        raise ShapeError(f"`0 <= right <= total` and `total >= 1` must hold, but got right={right}, total={total}")
    found = binomtest(right, total).proportion_ci(method="wilson")
    return Interval(right / total, float(found.low), float(found.high))


def mean_recall(verdicts: np.ndarray, labels: np.ndarray, n_classes: int) -> float:
    """Return the mean of the per-class recalls over the classes that have clips."""
    clips = np.bincount(labels, minlength=n_classes)
    right = np.bincount(labels[labels == verdicts], minlength=n_classes)
    return float(np.mean(right[clips > 0] / clips[clips > 0]))


@dataclass(frozen=True)
class Difference:
    """Mean recall of a minus that of b, on the same clips: its value, standard error and 95 % interval."""

    value: float
    standard_error: float
    low: float
    high: float


def paired_difference(
    verdicts_a: np.ndarray,
    verdicts_b: np.ndarray,
    labels: np.ndarray,
    subjects: Sequence[str],
    n_classes: int,
    seed: int = 0,
) -> Difference:
    """Return the difference in mean recall of two models on the same clips, with the same resamples of subjects."""
    a, b = (_confusions(v, labels, subjects, n_classes) for v in (verdicts_a, verdicts_b))
    weights = subject_draws(len(a), seed)
    shape = (-1, n_classes, n_classes)
    drawn = _mean_recall((weights @ a.reshape(len(a), -1)).reshape(shape)) - _mean_recall(
        (weights @ b.reshape(len(b), -1)).reshape(shape)
    )
    value = float(_mean_recall(a.sum(axis=0)[None])[0] - _mean_recall(b.sum(axis=0)[None])[0])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Difference(value, float(drawn.std()), float(low), float(high))


def taken_for(
    verdicts: np.ndarray,
    labels: np.ndarray,
    subjects: Sequence[str],
    truth: str,
    verdict: str,
    classes: Classes = SIX,
    seed: int = 0,
) -> Interval:
    """Return the share of clips of class `truth` that are predicted as `verdict`: a cell of the normalised
    confusion."""
    per_subject = _confusions(verdicts, labels, subjects, len(classes))
    row, column = classes.index(truth), classes.index(verdict)
    drawn = np.tensordot(subject_draws(len(per_subject), seed), per_subject[:, row], axes=1)
    total = per_subject[:, row].sum(axis=0)

    def share(rows: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return rows[..., column] / rows.sum(axis=-1)

    return _interval(float(share(total)), share(drawn))


def by_group(
    verdicts: np.ndarray,
    labels: np.ndarray,
    subjects: Sequence[str],
    groups: Sequence[str],
    classes: Classes = SIX,
) -> Mapping[str, Evaluation]:
    """Return one evaluation for each value of a group column (database, sex, age ...)."""
    values = np.array(groups)
    return {
        str(value): evaluate(
            verdicts[values == value], labels[values == value], list(np.array(subjects)[values == value]), classes
        )
        for value in sorted(set(groups))
    }


def by_columns(
    verdicts: np.ndarray,
    labels: np.ndarray,
    subjects: Sequence[str],
    columns: Mapping[str, Sequence[str]],
    classes: Classes = SIX,
) -> dict[str, Mapping[str, Evaluation]]:
    """Call `by_group` for every group column with more than one value; clips without a value are in group `(none)`."""
    told_apart = {name: [v or "(none)" for v in values] for name, values in columns.items() if len(set(values)) > 1}
    return {name: by_group(verdicts, labels, subjects, values, classes) for name, values in told_apart.items()}


def _confusions(verdicts: np.ndarray, labels: np.ndarray, subjects: Sequence[str], k: int) -> np.ndarray:
    """Return (S, k, k) confusion counts of each subject, subjects in sorted order."""
    names, place = np.unique(np.array(subjects), return_inverse=True)
    counts = np.zeros((len(names), k, k), dtype=np.int64)
    np.add.at(counts, (place, labels, verdicts), 1)
    return counts


@lru_cache(maxsize=4)  # drawing takes longer than the rest of an evaluation, and a search evaluates the same subjects
def subject_draws(n_subjects: int, seed: int) -> np.ndarray:
    """Return (RESAMPLES, S): how often each subject is drawn in each resample. All intervals use these resamples."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=RESAMPLES)
    drawn.flags.writeable = False
    return drawn


def _recalls(confusions: np.ndarray) -> np.ndarray:
    """Return (m, k) recalls of (m, k, k) confusions. Not by scikit-learn, which computes one of the 2000 at a time."""
    totals = confusions.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(totals > 0, np.diagonal(confusions, axis1=1, axis2=2) / totals, np.nan)


def _mean_recall(confusions: np.ndarray) -> np.ndarray:
    recalls = _recalls(confusions)
    present = ~np.isnan(recalls)
    return np.where(present, recalls, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)


def _accuracy(confusions: np.ndarray) -> np.ndarray:
    return np.trace(confusions, axis1=1, axis2=2) / np.maximum(confusions.sum(axis=(1, 2)), 1)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(value), float(low), float(high))
