"""Select a trial: the fastest of those that are not clearly worse than the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_core.dataset.table import FeatureTable
from fer_core.errors import TrainingError
from fer_core.evaluation.abstention import Ranking, ranking
from fer_core.evaluation.metrics import clip_verdicts, paired_difference
from fer_core.experiments.search.trial import OBJECTIVE, TrialResult, out_of_fold_scores

EQUAL_COST = 1.25


@dataclass(frozen=True)
class Choice:
    """The selected trial, the best trial by value, and the reason for the selection.

    Args:
        selected: the selected trial.
        best: the trial with the highest value.
        within: numbers of the trials within one standard error of the best.
        reason: one sentence for the report.
        rankings: number of a complete trial -> quality of its confidence.
    """

    selected: TrialResult
    best: TrialResult
    within: tuple[int, ...]
    reason: str
    rankings: Mapping[int, Ranking]


def choose(trials: Sequence[tuple[TrialResult, Path]], table: FeatureTable) -> Choice:
    """Select by the one-standard-error rule (Breiman et al. 1984): of the trials within one s.e. of the best, the
    fastest.

    The standard error is that of the paired difference in mean recall, resampled by subject. Latency is the CPU time
    per clip (median over all trials with the same backbone and number of parameters). Trials up to 25 % slower than the
    fastest count as equally fast, because repeated measurements differ by that much. Of these, the trial with the
    fewest parameters is selected, then the one with the higher value.

    Args:
        trials: results and their folders; trials that are not complete are ignored.
        table: the table that the trials were run on.
    Raises:
        TrainingError: no trial is complete.
    """
    complete = [(result, folder) for result, folder in trials if result.state == "complete"]
    if not complete:
        reasons = "; ".join(sorted({r.reason for r, _ in trials if r.reason})) or "all were pruned"
        raise TrainingError(f"none of {len(trials)} trials is complete ({reasons}); widen the space or add trials")
    clips = np.arange(table.n_clips)
    judged = {
        result.number: clip_verdicts(out_of_fold_scores(folder), table.offsets, clips, OBJECTIVE)
        for result, folder in complete
    }
    verdicts = {number: found for number, (found, _) in judged.items()}
    rankings = {number: ranking(scores, table.labels, table.subjects) for number, (_, scores) in judged.items()}
    best = max((result for result, _ in complete), key=lambda r: (r.value, -r.n_weights, -r.number))
    within = []
    for result, _ in complete:
        difference = paired_difference(
            verdicts[best.number], verdicts[result.number], table.labels, table.subjects, len(table.classes)
        )
        if difference.value <= difference.standard_error:
            within.append(result)
    times: dict[tuple[str, int], list[float]] = {}
    for result, _ in complete:
        times.setdefault((result.backbone, result.n_weights), []).append(result.ms_per_clip)
    cost = {alike: float(np.median(of)) for alike, of in times.items()}
    least = min(cost[r.backbone, r.n_weights] for r in within)
    cheap = [r for r in within if cost[r.backbone, r.n_weights] <= EQUAL_COST * least]
    chosen = min(cheap, key=lambda r: (r.n_weights, -r.value, r.number))
    if chosen.number == best.number:
        reason = (
            f"trial {best.number} is the best, and the cheapest of the {len(within)} within one standard error of it"
        )
    else:
        reason = (
            f"trial {best.number} is the best ({100 * best.value:.1f}); {len(within)} are within one standard error, "
            f"of which trial {chosen.number} ({100 * chosen.value:.1f}) is the cheapest: {chosen.ms_per_clip:.0f} ms "
            f"of CPU a clip and {chosen.n_weights:,} weights against {best.ms_per_clip:.0f} and {best.n_weights:,}"
        )
    return Choice(chosen, best, tuple(r.number for r in within), reason, rankings)
