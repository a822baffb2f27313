"""Select a trial: the best within the time budget, after the best few were cross-validated again with other folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_core.config import SearchConfig
from fer_core.dataset.table import FeatureTable
from fer_core.errors import TrainingError
from fer_core.evaluation.abstention import Ranking, ranking
from fer_core.evaluation.metrics import Difference, clip_verdicts, mean_recall, paired_difference
from fer_core.experiments.search.trial import OBJECTIVE, TrialResult, out_of_fold_scores

SELECTED, FINALIST = "selected", "a finalist, lower on average"
Trials = Sequence[tuple[TrialResult, Path]]


@dataclass(frozen=True)
class Compared:
    """A complete trial compared with the selected one, on the same people and the same folds.

    Args:
        trial: the trial.
        value: mean recall, averaged over all cross-validations that both have.
        cost: CPU milliseconds a clip; see `costs_of`.
        difference: mean recall of the selected trial minus that of this one.
        reason: why it was selected or passed over.
    """

    trial: TrialResult
    value: float
    cost: float
    difference: Difference
    reason: str

    def row(self) -> dict[str, Any]:
        """Return the trial as a table row; differences in points."""
        return {
            "trial": self.trial.title.removeprefix("trial "),
            "model": self.trial.train.model,
            "backbone": self.trial.backbone,
            "mean recall (%)": f"{100 * self.value:.1f}",
            "behind the selected one, 95 % interval": "" if self.reason == SELECTED else _points(self.difference),
            "CPU ms a clip": round(self.cost, 1),
            "why": self.reason,
        }


@dataclass(frozen=True)
class Choice:
    """The selected trial, the best trial by its first value, and the reason for the selection.

    Args:
        selected: the selected trial, or the average of the finalists.
        folder: its folder.
        best: the trial with the highest value in the search.
        compared: the selected trial and those that were passed over, best first.
        cross_validations: number of cross-validations by which the finalists were compared.
        reason: one sentence for the report.
        rankings: number of a complete trial -> quality of its confidence.
    """

    selected: TrialResult
    folder: Path
    best: TrialResult
    compared: tuple[Compared, ...]
    cross_validations: int
    reason: str
    rankings: Mapping[int, Ranking]


def finalists(trials: Trials, table: FeatureTable, cfg: SearchConfig) -> Trials:
    """Return the best `cfg.finalists` trials within the budget that are as good as the best of them.

    A trial is as good as another if the 95 % interval of their paired difference in mean recall, resampled by subject,
    contains 0.

    Args:
        trials: results and their folders; trials that are not complete are ignored.
        table: the table that the trials were run on.
    Raises:
        TrainingError: no trial is complete, or none is within `cfg.max_ms`.
    """
    complete = _complete(trials)
    costs = costs_of([result for result, _ in complete])
    within = [(r, folder) for r, folder in complete if cfg.max_ms is None or costs[r.number] <= cfg.max_ms]
    if not within:
        fastest = min(costs.values())
        raise TrainingError(
            f"none of {len(complete)} complete trials takes at most {cfg.max_ms:g} CPU ms a clip, the fastest takes "
            f"{fastest:.1f}; raise search.max_ms and run the same search again: its trials are kept"
        )
    ordered = sorted(within, key=lambda pair: (-pair[0].value, costs[pair[0].number], pair[0].number))
    leader = _verdicts([ordered[0][1]], table)
    tied = [pair for pair in ordered if _difference(leader, _verdicts([pair[1]], table), table).low <= 0]
    return tied[: cfg.finalists]


def choose(
    trials: Trials,
    table: FeatureTable,
    cfg: SearchConfig,
    last: Trials | None = None,
    repeated: Mapping[int, Trials] | None = None,
    averaged: Trials = (),
) -> Choice:
    """Select the finalist with the highest mean recall, averaged over its cross-validations; of equal
    ones the cheapest.

    Args:
        trials: see `finalists`.
        table: the table that the trials were run on.
        last: the finalists; None: they are found here.
        repeated: number of a finalist -> its cross-validations with other folds; see `repeat_trials`. None: the
            finalists are compared by their first cross-validation.
        averaged: the average of the finalists, once for each cross-validation; see `average_finalists`. It is selected
            if it is within the budget and the whole 95 % interval of its gain over the selected finalist is above 0.
    Raises:
        TrainingError: no trial is complete or within the budget, or every finalist diverged with other folds.
    """
    complete, last = _complete(trials), last or finalists(trials, table, cfg)
    costs = costs_of([result for result, _ in complete])
    again = {
        number: [folder for r, folder in found if r.state == "complete"] for number, found in (repeated or {}).items()
    }
    asked = max((len(found) for found in (repeated or {}).values()), default=0)
    stable = [(r, folder) for r, folder in last if len(again.get(r.number, [])) == asked]
    if not stable:
        raise TrainingError(
            f"all {len(last)} finalists diverged when they were cross-validated with other folds; lower search.lr"
        )
    verdicts = {r.number: _verdicts([folder, *again.get(r.number, [])], table) for r, folder in stable}
    values = {number: _value(found, table) for number, found in verdicts.items()}
    selected = min((r for r, _ in stable), key=lambda r: (-round(values[r.number], 9), costs[r.number], r.number))
    best = min((r for r, _ in complete), key=lambda r: (-r.value, r.number))
    folders = {r.number: folder for r, folder in stable}
    single, gain = selected, None
    if len(averaged) == 1 + asked:
        average, folder = averaged[0]
        verdicts[average.number] = _verdicts([of for _, of in averaged], table)
        values[average.number] = _value(verdicts[average.number], table)
        costs[average.number], folders[average.number] = average.ms_per_clip, folder
        gain = _difference(verdicts[average.number], verdicts[single.number], table)
        if gain.low > 0 and (cfg.max_ms is None or average.ms_per_clip <= cfg.max_ms):
            selected = average
    first = {r.number: _verdicts([folder], table) for r, folder in complete}
    reference = verdicts[selected.number]
    compared = [
        Compared(r, values[r.number], costs[r.number], _difference(reference, verdicts[r.number], table), FINALIST)
        for r, _ in (*stable, *averaged[:1])
        if r.number in verdicts
    ]
    for result, _ in complete:
        if result.number not in verdicts:
            difference = _difference(first[single.number], first[result.number], table)
            reason = _passed_over(result, difference, costs[result.number], last, cfg)
            compared.append(Compared(result, result.value, costs[result.number], difference, reason))
    compared.sort(key=lambda c: (c.trial.number != selected.number, c.reason != FINALIST, -c.value, c.trial.number))
    compared[0] = replace(compared[0], reason=SELECTED)
    return Choice(
        selected, folders[selected.number], best, tuple(compared), 1 + asked,
        _reason(selected, single, best, gain, values, costs, compared, asked, cfg),
        {r.number: _ranking(folder, table) for r, folder in (*complete, *averaged[:1])},
    )  # fmt: skip


def _passed_over(trial: TrialResult, difference: Difference, cost: float, last: Trials, cfg: SearchConfig) -> str:
    """Return why a trial was not compared with other folds, or not to the end."""
    if cfg.max_ms is not None and cost > cfg.max_ms:
        return f"above the budget of {cfg.max_ms:g} ms"
    if any(trial.number == r.number for r, _ in last):
        return "diverged with other folds"
    if difference.low > 0:
        return "worse on the same people"
    return f"as good, but not among the best {cfg.finalists}"


def costs_of(trials: Sequence[TrialResult]) -> dict[int, float]:
    """Return number -> CPU milliseconds a clip: the median over all trials with the same backbone and number of
    parameters, since one measurement may have been taken on a busy machine."""
    alike: dict[tuple[str, int], list[float]] = {}
    for trial in trials:
        alike.setdefault((trial.backbone, trial.n_weights), []).append(trial.ms_per_clip)
    return {t.number: float(np.median(alike[t.backbone, t.n_weights])) for t in trials}


def _reason(
    selected: TrialResult,
    single: TrialResult,
    best: TrialResult,
    gain: Difference | None,
    values: Mapping[int, float],
    costs: Mapping[int, float],
    compared: Sequence[Compared],
    repeats: int,
    cfg: SearchConfig,
) -> str:
    """Return why `selected` was selected: `single` is the selected finalist, `gain` the average's difference to it."""
    n = len(values) - (gain is not None)
    reason = f"{single.title} has the highest mean recall ({100 * values[single.number]:.1f}"
    if repeats:
        reason += f" on average over {1 + repeats} cross-validations with different folds"
    reason += f") of {n} finalist{'s' * (n > 1)}"
    if cfg.max_ms is not None:
        reason += f", at {costs[single.number]:.1f} CPU ms a clip of at most {cfg.max_ms:g}"
    if single.number != best.number:
        passed = next(c for c in compared if c.trial.number == best.number)
        reason += f"; {best.title}, the best in the search ({100 * best.value:.1f}), was passed over: {passed.reason}"
    if gain is not None:
        chosen = selected.number != single.number
        reason += f"; averaging the finalists {'gains' if chosen else 'is not clearly better:'} {_points(gain)}"
        reason += ", so the average is selected" * chosen
    return reason


def _points(d: Difference) -> str:
    return f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def _complete(trials: Trials) -> list[tuple[TrialResult, Path]]:
    complete = [(result, folder) for result, folder in trials if result.state == "complete"]
    if not complete:
        reasons = "; ".join(sorted({r.reason for r, _ in trials if r.reason})) or "all were pruned"
        raise TrainingError(f"none of {len(trials)} trials is complete ({reasons}); widen the space or add trials")
    return complete


def _verdicts(folders: Sequence[Path], table: FeatureTable) -> np.ndarray:
    """(r * C,) predicted classes of all clips, from each of r cross-validations in turn."""
    clips = np.arange(table.n_clips)
    scores = (out_of_fold_scores(folder) for folder in folders)
    return np.concatenate([clip_verdicts(found, table.offsets, clips, OBJECTIVE)[0] for found in scores])


def _difference(a: np.ndarray, b: np.ndarray, table: FeatureTable) -> Difference:
    """Return the paired difference of two trials' verdicts, all cross-validations of a person drawn together."""
    repeats = len(a) // table.n_clips
    return paired_difference(a, b, np.tile(table.labels, repeats), [*table.subjects] * repeats, len(table.classes))


def _value(verdicts: np.ndarray, table: FeatureTable) -> float:
    repeats = len(verdicts) // table.n_clips
    return mean_recall(verdicts, np.tile(table.labels, repeats), len(table.classes))


def _ranking(folder: Path, table: FeatureTable) -> Ranking:
    _, scores = clip_verdicts(out_of_fold_scores(folder), table.offsets, np.arange(table.n_clips), OBJECTIVE)
    return ranking(scores, table.labels, table.subjects)
