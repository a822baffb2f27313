"""A registered version on labelled clips it has not seen, and on the same clips changed (`ferflow evaluate`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest
from fer_core.evaluation.calibration import Reliability, brier_score, reliability
from fer_core.evaluation.metrics import Evaluation, by_columns, evaluate
from fer_core.experiments.stability import Progress, Stability, about, scored, stressed, subjects_of, with_verdict
from fer_core.scoring.inputs import Item
from fer_core.scoring.scorer import ClipScorer


@dataclass(frozen=True, kw_only=True)
class VersionEvaluation(Stability):
    """A version on labelled clips of people it was not trained on.

    Args:
        evaluation: recall of each class, confusion, accuracy.
        reliability: of the version's own confidence, as it would be shown to a user; brier: its score.
        answered_right: share of the clips on which it does not abstain that are right.
        groups: column -> value -> evaluation, of the manifest's `group_*` columns and its databases.
    """

    evaluation: Evaluation
    reliability: Reliability
    brier: float
    calibrated: bool
    answered_right: float
    groups: Mapping[str, Mapping[str, Evaluation]]

    def to_json(self) -> dict[str, Any]:
        """JSON-able; NaN becomes None."""
        return {
            **super().to_json(),
            **self.evaluation.to_json(),
            "calibration_error": self.reliability.expected_error,
            "brier": self.brier,
            "answered_right": None if np.isnan(self.answered_right) else self.answered_right,
            "groups": {c: {v: e.to_json() for v, e in values.items()} for c, values in self.groups.items()},
        }

    def metrics(self) -> dict[str, float]:
        """Numbers for a run, beside those of `evaluation`."""
        return super().metrics() | {
            "calibration/error": self.reliability.expected_error,
            "calibration/brier": self.brier,
            "abstention/answered_right": self.answered_right,
        }


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
            chosen.append(Item(clip, root=clip.root))
    kept, rows = with_verdict(chosen, scored(scorer, chosen, None, progress), left_out)
    clips, classes = [item.clip for item in kept], scorer.classes
    subjects = subjects_of(clips)
    labels = np.array([classes.index(str(clip.emotion)) for clip in clips])
    verdicts = np.array([classes.index(str(row.emotion)) for row in rows])
    probabilities = np.stack([row.probabilities for row in rows if row.probabilities is not None])
    answered = np.array([not row.abstained for row in rows])
    columns = {
        **{name: [c.groups.get(name, "") for c in clips] for name in sorted({n for c in clips for n in c.groups})},
        "database": [clip.dataset for clip in clips],
    }
    return VersionEvaluation(
        **about(kept, rows, left_out),
        evaluation=evaluate(verdicts, labels, subjects, classes),
        reliability=reliability(probabilities, labels),
        brier=brier_score(probabilities, labels),
        calibrated=scorer.calibrated,
        answered_right=float((verdicts == labels)[answered].mean()) if answered.any() else float("nan"),
        groups=by_columns(verdicts, labels, subjects, columns, classes),
        stress=stressed(scorer, kept, verdicts, labels, progress) if stress else (),
    )


def _left_out(clip: Clip, scorer: ClipScorer) -> str:
    """Why a clip is not evaluated on; empty where it is."""
    if clip.emotion is None:
        return "without a label"
    if clip.emotion not in scorer.classes:
        return "of a class that the version does not know"
    return "of people it was trained on" if scorer.seen_in_training(clip) else ""
