"""A registered version on labelled clips it has not seen, and on the same clips changed (`ferflow evaluate`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, fingerprint
from fer_core.errors import DataError
from fer_core.evaluation.calibration import Reliability, brier_score, reliability
from fer_core.evaluation.metrics import Evaluation, Interval, by_columns, evaluate
from fer_core.preprocess.changes import DESCRIPTIONS, Change
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.inputs import Item
from fer_core.scoring.scorer import ClipScorer

CHANGES: tuple[Change, ...] = get_args(Change)
Progress = Callable[[str, int, int], None]  # what, clips done, clips in all


@dataclass(frozen=True)
class Stress:
    """Verdicts on changed clips.

    Args:
        stays: share of the clips whose verdict is the one they had unchanged, with its interval by subject.
        accuracy: share that are right; a clip without a verdict is wrong.
        fallen: clips whose verdict is another, or gone; fallen_abstained: those of them that abstain.
    """

    change: Change
    stays: Interval
    accuracy: Interval
    fallen: int
    fallen_abstained: int

    @property
    def what(self) -> str:
        """The change in words."""
        return DESCRIPTIONS[self.change]


@dataclass(frozen=True)
class VersionEvaluation:
    """A version on clips of people it was not trained on.

    Args:
        clips: those with a verdict, which all numbers rest on.
        left_out: reason -> clips of the manifest that are not among them.
        unnamed: of `clips`, those that do not say whom they show; each counts as a person of its own.
        evaluation: recall of each class, confusion, accuracy.
        reliability: of the version's own confidence, as it would be shown to a user; brier: its score.
        answered: share of the clips on which it does not abstain; answered_right: share of these that are right.
        groups: column -> value -> evaluation, of the manifest's `group_*` columns and its databases.
        stress: one a change; empty where that was not asked for.
        fingerprint: of the clips.
        synthetic: whether a face among them is drawn or rendered.
    """

    clips: tuple[Clip, ...]
    left_out: Mapping[str, int]
    unnamed: int
    evaluation: Evaluation
    reliability: Reliability
    brier: float
    calibrated: bool
    answered: float
    answered_right: float
    groups: Mapping[str, Mapping[str, Evaluation]]
    stress: tuple[Stress, ...]
    fingerprint: str
    synthetic: bool

    @property
    def least_stays(self) -> float:
        """The smallest share of verdicts that stay under a change; NaN without changes."""
        return min((s.stays.value for s in self.stress), default=float("nan"))

    def to_json(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        return {
            "clips": len(self.clips),
            "left_out": dict(self.left_out),
            "unnamed": self.unnamed,
            "fingerprint": self.fingerprint,
            "synthetic": self.synthetic,
            **self.evaluation.to_json(),
            "calibration_error": self.reliability.expected_error,
            "brier": self.brier,
            "answered": self.answered,
            "answered_right": None if np.isnan(self.answered_right) else self.answered_right,
            "groups": {c: {v: e.to_json() for v, e in values.items()} for c, values in self.groups.items()},
            "stress": [asdict(s) for s in self.stress],
        }

    def metrics(self) -> dict[str, float]:
        """Numbers for a run, beside those of `evaluation`."""
        found = {
            "calibration/error": self.reliability.expected_error,
            "calibration/brier": self.brier,
            "abstention/answered": self.answered,
            "abstention/answered_right": self.answered_right,
        }
        for s in self.stress:
            found |= {f"stress/{s.change}/stays": s.stays.value, f"stress/{s.change}/accuracy": s.accuracy.value}
        return found | ({"stress/least_stays": self.least_stays} if self.stress else {})


def evaluate_version(
    scorer: ClipScorer, manifest: Manifest, *, stress: bool = False, progress: Progress | None = None
) -> VersionEvaluation:
    """Score the labelled clips of people that the version was not trained on, and compare verdicts with labels.

    Args:
        scorer: of the version. manifest: its clips may be labelled as anything; other labels than the version's
            classes are left out, and counted.
        stress: score them again under every change of `preprocess.changes`.
        progress: called with (what is scored, clips done, clips in all).
    Raises:
        DataError: no clip is left. StoreError: faces or features cannot be stored.
    """
    left_out: Counter[str] = Counter()
    chosen = []
    for clip in manifest.clips:
        if why := _left_out(clip, scorer):
            left_out[why] += 1
        else:
            chosen.append(clip)
    rows = _scored(scorer, chosen, None, "clips", progress)
    left_out.update(f"without a verdict: {row.status.value}" for row in rows if row.emotion is None)
    kept = [(clip, row) for clip, row in zip(chosen, rows, strict=True) if row.emotion is not None]
    if not kept:
        reasons = "; ".join(f"{n} {why}" for why, n in left_out.most_common())
        raise DataError(f"no clip is left to evaluate on: {reasons or 'the manifest is empty'}")
    clips, rows = [clip for clip, _ in kept], [row for _, row in kept]
    classes, subjects = scorer.classes, [clip.subject or f"clip:{clip.id}" for clip in clips]
    labels = np.array([classes.index(str(clip.emotion)) for clip in clips])
    verdicts = np.array([classes.index(str(row.emotion)) for row in rows])
    probabilities = np.stack([row.probabilities for row in rows if row.probabilities is not None])
    answered = np.array([not row.abstained for row in rows])
    columns = {
        **{name: [c.groups.get(name, "") for c in clips] for name in sorted({n for c in clips for n in c.groups})},
        "database": [clip.dataset for clip in clips],
    }
    changes = CHANGES if stress else ()
    return VersionEvaluation(
        clips=tuple(clips),
        left_out=dict(left_out),
        unnamed=sum(not clip.subject for clip in clips),
        evaluation=evaluate(verdicts, labels, subjects, classes),
        reliability=reliability(probabilities, labels),
        brier=brier_score(probabilities, labels),
        calibrated=scorer.calibrated,
        answered=float(answered.mean()),
        answered_right=float((verdicts == labels)[answered].mean()) if answered.any() else float("nan"),
        groups=by_columns(verdicts, labels, subjects, columns, classes),
        stress=tuple(
            _stress(change, verdicts, labels, subjects, _scored(scorer, clips, change, DESCRIPTIONS[change], progress))
            for change in changes
        ),
        fingerprint=fingerprint(
            Manifest.of_classes((replace(c, split=None) for c in clips), None),
            {clip.id: row.digest for clip, row in kept},
        ),
        synthetic=any(clip.synthetic for clip in clips),
    )


def _left_out(clip: Clip, scorer: ClipScorer) -> str:
    """Why a clip is not evaluated on; empty where it is."""
    if clip.emotion is None:
        return "without a label"
    if clip.emotion not in scorer.classes:
        return "of a class that the version does not know"
    return "of people it was trained on" if scorer.seen_in_training(clip) else ""


def _scored(
    scorer: ClipScorer, clips: Sequence[Clip], change: Change | None, what: str, progress: Progress | None
) -> list[ClipScore]:
    def move(done: int, total: int) -> None:
        if progress is not None:
            progress(what, done, total)

    return list(scorer.score_many([Item(clip, root=clip.root) for clip in clips], move, change))


def _stress(
    change: Change, before: np.ndarray, labels: np.ndarray, subjects: Sequence[str], rows: Sequence[ClipScore]
) -> Stress:
    """What became of the verdicts `before`."""
    classes = rows[0].classes
    found = [None if row.emotion is None else classes.index(str(row.emotion)) for row in rows]

    def share(wanted: np.ndarray) -> Interval:
        """Share of the rows whose verdict is the wanted one; a row without a verdict has another."""
        given = [(w + 1) % len(classes) if f is None else f for f, w in zip(found, wanted.tolist(), strict=True)]
        return evaluate(np.array(given), wanted, subjects, classes).accuracy

    fallen = [row for row, f, b in zip(rows, found, before.tolist(), strict=True) if f != b]
    return Stress(change, share(before), share(labels), len(fallen), sum(row.abstained for row in fallen))
