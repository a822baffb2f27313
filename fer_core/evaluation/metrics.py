"""Numbers: confusion matrix, per-class recall, mean recall, accuracy, each with an interval resampled by subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from fer_core.config import Rule
from fer_core.emotions import SIX, Classes
from fer_core.errors import ShapeError
from fer_core.models.verdict import judge

RULES: tuple[Rule, ...] = get_args(Rule)
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % interval, percentiles of the bootstrap by subject; NaN where it is undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@dataclass(frozen=True)
class Evaluation:
    """Scores of one rule's verdicts on some clips.

    Args:
        classes: emotions, in column order.
        confusion: (k, k) counts, rows the truth, columns the verdict.
        recall: one Interval per class; NaN for a class without clips.
        mean_recall: mean of the recalls of the classes that have clips, the thesis's "average accuracy".
        accuracy: plain share of clips that are right.
        n_clips, n_subjects: what the numbers rest on.
    """

    classes: Classes
    confusion: np.ndarray
    recall: tuple[Interval, ...]
    mean_recall: Interval
    accuracy: Interval
    n_clips: int
    n_subjects: int

    @property
    def chance(self) -> float:
        """Mean recall of verdicts by lot: one over the number of classes that have clips."""
        return 1 / int((self.confusion.sum(axis=1) > 0).sum())

    @property
    def above_chance(self) -> bool:
        """True if the whole interval of the mean recall lies above chance."""
        return self.mean_recall.low > self.chance

    @property
    def never_right(self) -> Classes:
        """The classes none of whose clips is called right."""
        return tuple(c for c, r in zip(self.classes, self.recall, strict=True) if r.value == 0)

    def chance_warning(self) -> str:
        """A warning if the mean recall is not above chance, or no clip of a class is right; else empty."""
        faults = []
        if not self.above_chance:
            faults.append(f"its mean recall of {self.mean_recall} % is not above chance, {100 * self.chance:.1f} %")
        if self.never_right:
            faults.append(f"it calls no clip of {', '.join(self.never_right)} right")
        return f"The model is of no use yet: {', and '.join(faults)}." if faults else ""

    def normalized(self) -> np.ndarray:
        """(k, k) confusion matrix in %, rows sum to 100 (thesis, Figs 4.3 ff.); NaN rows for absent classes."""
        totals = self.confusion.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.where(totals > 0, 100 * self.confusion / totals, np.nan)

    def to_json(self) -> dict[str, Any]:
        """JSON-able numbers; NaN becomes None."""

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
        """Read back the data of `to_json`; other keys are ignored."""

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
    """Verdicts (n,) and clip scores (n, k) of some clips by `rule`.

    Args:
        scores: (N, k) frame scores of all clips.
        offsets: (C + 1,) first frame of every clip.
        clips: (n,) places of the clips to judge.
    """
    verdicts = [judge(scores[offsets[c] : offsets[c + 1]], rule) for c in clips]
    return np.array([v.index for v in verdicts], dtype=np.int64), np.array([v.scores for v in verdicts])


def evaluate(
    verdicts: np.ndarray,
    labels: np.ndarray,
    subjects: Sequence[str],
    classes: Classes = SIX,
    seed: int = 0,
) -> Evaluation:
    """The numbers of some verdicts, with intervals by subject bootstrap (2000 resamples of subjects, not of clips).

    Args:
        verdicts, labels: (n,) columns in `classes` order; n >= 1.
        subjects: n subject names; clips of one person are drawn together.
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


def mean_recall(verdicts: np.ndarray, labels: np.ndarray, n_classes: int) -> float:
    """Mean of the per-class recalls over the classes that have clips."""
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
    """Difference in mean recall of two models on the same clips, resampled by subject with the same draws for both."""
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
    """Share of the clips of one emotion that are taken for another: a cell of the row-normalised confusion matrix."""
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
    """One evaluation per value of a group column (database, sex, age ...)."""
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
    """`by_group` of every group column that tells clips apart; clips without a value stand under `(none)`."""
    told_apart = {name: [v or "(none)" for v in values] for name, values in columns.items() if len(set(values)) > 1}
    return {name: by_group(verdicts, labels, subjects, values, classes) for name, values in told_apart.items()}


def _confusions(verdicts: np.ndarray, labels: np.ndarray, subjects: Sequence[str], k: int) -> np.ndarray:
    """(S, k, k) counts of every subject."""
    names, place = np.unique(np.array(subjects), return_inverse=True)
    counts = np.zeros((len(names), k, k), dtype=np.int64)
    np.add.at(counts, (place, labels, verdicts), 1)
    return counts


def subject_draws(n_subjects: int, seed: int) -> np.ndarray:
    """(RESAMPLES, S) how often every subject is drawn: the resampling that all intervals rest on."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=RESAMPLES)


def _recalls(confusions: np.ndarray) -> np.ndarray:
    """(m, k) recalls of (m, k, k) matrices. By hand: scikit-learn takes one matrix at a time, an interval has 2000."""
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
