"""Whether a verdict stays when its clip is changed in ways that leave the expression as it is (`--stress`).

The clips need no labels: a verdict is compared with the one that the unchanged clip had. With labels, the share of
right verdicts under each change is counted too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, fingerprint
from fer_core.errors import DataError
from fer_core.evaluation.metrics import Interval, evaluate
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
        accuracy: share that are right; a clip without a verdict is wrong. None for clips without labels.
        fallen: clips whose verdict is another, or gone; fallen_abstained: those of them that abstain.
    """

    change: Change
    stays: Interval
    accuracy: Interval | None
    fallen: int
    fallen_abstained: int

    @property
    def what(self) -> str:
        """The change in words."""
        return DESCRIPTIONS[self.change]


@dataclass(frozen=True, kw_only=True)
class Stability:
    """A version on clips of people it was not trained on: does it answer, and do its verdicts stay?

    Args:
        clips: those with a verdict, which all numbers rest on.
        left_out: reason -> clips that are not among them.
        unnamed: of `clips`, those that do not say whom they show; each counts as a person of its own.
        answered: share of the clips on which the version does not abstain.
        stress: one a change; empty where that was not asked for.
        fingerprint: of the clips.
        synthetic: whether a face among them is drawn or rendered.
    """

    clips: tuple[Clip, ...]
    left_out: dict[str, int]
    unnamed: int
    answered: float
    stress: tuple[Stress, ...]
    fingerprint: str
    synthetic: bool

    @property
    def n_subjects(self) -> int:
        """Number of people; a clip that does not say whom it shows counts as one."""
        return len(set(subjects_of(self.clips)))

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
            "answered": self.answered,
            "stress": [asdict(s) for s in self.stress],
        }

    def metrics(self) -> dict[str, float]:
        """Numbers for a run."""
        found = {"abstention/answered": self.answered}
        for s in self.stress:
            found[f"stress/{s.change}/stays"] = s.stays.value
            if s.accuracy is not None:
                found[f"stress/{s.change}/accuracy"] = s.accuracy.value
        return found | ({"stress/least_stays": self.least_stays} if self.stress else {})


def stress_version(scorer: ClipScorer, items: Sequence[Item], progress: Progress | None = None) -> Stability:
    """Score clips, whose labels are not read, and the same clips under every change of `preprocess.changes`.

    Args:
        scorer: of the version. items: clips of people it was trained on, and files that may not be opened, are left
            out, and counted.
        progress: called with (what is scored, clips done, clips in all).
    Raises:
        DataError: no clip is left. StoreError: faces or features cannot be stored.
    """
    left_out: Counter[str] = Counter()
    chosen = []
    for item in items:
        if item.refused is not None:
            left_out[f"without a verdict: {item.refused.status.value}"] += 1
        elif scorer.seen_in_training(item.clip):
            left_out["of people it was trained on"] += 1
        else:
            chosen.append(item)
    kept, rows = with_verdict(chosen, scored(scorer, chosen, None, progress), left_out)
    verdicts = np.array([scorer.classes.index(str(row.emotion)) for row in rows])
    return Stability(**about(kept, rows, left_out), stress=stressed(scorer, kept, verdicts, None, progress))


def with_verdict(
    items: Sequence[Item], rows: Sequence[ClipScore], left_out: Counter[str]
) -> tuple[list[Item], list[ClipScore]]:
    """Return the clips that have a verdict, and their rows; the others are counted in `left_out`.

    Raises:
        DataError: no clip has one.
    """
    left_out.update(f"without a verdict: {row.status.value}" for row in rows if row.emotion is None)
    kept = [(item, row) for item, row in zip(items, rows, strict=True) if row.emotion is not None]
    if not kept:
        reasons = "; ".join(f"{n} {why}" for why, n in left_out.most_common())
        raise DataError(f"no clip is left to evaluate on: {reasons or 'the manifest is empty'}")
    return [item for item, _ in kept], [row for _, row in kept]


def about(items: Sequence[Item], rows: Sequence[ClipScore], left_out: Counter[str]) -> dict[str, Any]:
    """Return the fields of `Stability` that no change is needed for."""
    clips = tuple(item.clip for item in items)
    return {
        "clips": clips,
        "left_out": dict(left_out),
        "unnamed": sum(not clip.subject for clip in clips),
        "answered": float(np.mean([not row.abstained for row in rows])),
        "fingerprint": fingerprint(
            Manifest.of_classes((replace(clip, split=None) for clip in clips), None),
            {row.clip: row.digest for row in rows},
        ),
        "synthetic": any(clip.synthetic for clip in clips),
    }


def subjects_of(clips: Sequence[Clip]) -> list[str]:
    """Return whom each clip shows; a clip that does not say is a person of its own."""
    return [clip.subject or f"clip:{clip.id}" for clip in clips]


def scored(
    scorer: ClipScorer, items: Sequence[Item], change: Change | None, progress: Progress | None
) -> list[ClipScore]:
    """Return the rows of the clips, unchanged or under a change."""

    def move(done: int, total: int) -> None:
        if progress is not None:
            progress("clips" if change is None else DESCRIPTIONS[change], done, total)

    return list(scorer.score_many(items, move, change))


def stressed(
    scorer: ClipScorer,
    items: Sequence[Item],
    verdicts: np.ndarray,
    labels: np.ndarray | None,
    progress: Progress | None,
) -> tuple[Stress, ...]:
    """Score the clips under every change.

    Args:
        verdicts: (n,) classes that the unchanged clips were given.
        labels: (n,) true classes; None: unknown.
    """
    subjects, found = subjects_of([item.clip for item in items]), []
    for change in CHANGES:
        rows = scored(scorer, items, change, progress)
        given = np.array([-1 if row.emotion is None else row.classes.index(str(row.emotion)) for row in rows])
        fallen = [row for row, stays in zip(rows, given == verdicts, strict=True) if not stays]
        found.append(
            Stress(
                change,
                stays=share_given(given, verdicts, subjects, len(scorer.classes)),
                accuracy=None if labels is None else share_given(given, labels, subjects, len(scorer.classes)),
                fallen=len(fallen),
                fallen_abstained=sum(row.abstained for row in fallen),
            )
        )
    return tuple(found)


def share_given(given: np.ndarray, wanted: np.ndarray, subjects: Sequence[str], n_classes: int) -> Interval:
    """Return the share of clips that were given the class that is wanted, with its interval by subject.

    Args:
        given, wanted: (n,) indices of classes; -1 in `given`: no verdict, which is never the wanted one.
    """
    other = np.where(given < 0, (wanted + 1) % n_classes, given)
    return evaluate(other, wanted, subjects, tuple(map(str, range(n_classes)))).accuracy
