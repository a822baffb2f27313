"""The claims of the thesis besides its accuracies, each compared with the results of a reproduction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fer_core.clips.clip import Split
from fer_core.emotions import Emotion
from fer_core.evaluation.metrics import Difference
from fer_core.published import BY_NUMBER, MEAN, VOTE
from fer_core.thesis.reproduction import THESIS_RULES, WINDOW, Outcome, Reproduction

_HIGH = 0.75  # validation accuracy that implementation 4 kept (§4.6)


@dataclass(frozen=True)
class Claim:
    """One claim, answered.

    Args:
        claim: the claim of the thesis.
        source: section of the thesis.
        answer: one sentence about the results on these clips.
        columns, rows: the results, as a table of strings.
    """

    claim: str
    source: str
    answer: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def answer_claims(found: Reproduction) -> tuple[Claim, ...]:
    """Return all claims that can be answered from the tested implementations."""
    answered: Sequence[Callable[[Reproduction], Claim | None]] = (
        _mean_beats_vote, _fear_for_surprise, _changes_help, _weak_and_strong, _gap,
    )  # fmt: skip
    return tuple(claim for answer in answered if (claim := answer(found)) is not None)


def points(value: float) -> str:
    """Format a difference of shares in percentage points, with sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\N{MINUS SIGN}")


def format_difference(difference: Difference) -> str:
    """Format a difference with its interval."""
    return f"{points(difference.value)} [{points(difference.low)}, {points(difference.high)}]"


def _mean_beats_vote(found: Reproduction) -> Claim | None:
    if not found.tested:
        return None
    ours = [found.rule_difference(o) for o in found.tested]
    rows = tuple(
        (f"{o.number}", f"{o.thesis.average[MEAN] - o.thesis.average[VOTE]:+.2f}", format_difference(d))
        for o, d in zip(found.tested, ours, strict=True)
    )
    return Claim(
        "Mean scores beat the majority vote in every implementation",
        "§4.3–4.6, chapter 5",
        _tally(ours),
        ("implementation", "thesis, points", "here, points [95 %]"),
        rows,
    )


def _fear_for_surprise(found: Reproduction) -> Claim | None:
    rows, more, cells = [], 0, 0
    for outcome in found.tested:
        for rule in THESIS_RULES:
            there = found.taken_for(outcome, rule, Emotion.FEAR, Emotion.SURPRISE)
            back = found.taken_for(outcome, rule, Emotion.SURPRISE, Emotion.FEAR)
            if np.isnan(there.value) or np.isnan(back.value):
                continue
            more, cells = more + (there.value > back.value), cells + 1
            rows.append((f"{outcome.number}, {rule.replace('_', ' ')}", str(there), str(back)))
    if not rows:
        return None
    return Claim(
        "Fear is taken for surprise, surprise rarely for fear",
        "§4.5, chapter 5",
        f"Fear goes to surprise more often than the reverse in {more} of {cells} matrices.",
        ("implementation, rule", "fear → surprise, %", "surprise → fear, %"),
        tuple(rows),
    )


def _changes_help(found: Reproduction) -> Claim | None:
    pairs = (
        (2, 1, "narrowed, plain loss"),
        (4, 3, "narrowed, weighted loss"),
        (3, 1, "weighted, wide layer"),
        (4, 2, "weighted, narrow layer"),
    )
    rows, ours = [], []
    for number, other, what in pairs:
        difference = found.network_difference(number, other)
        if difference is None:
            continue
        thesis = BY_NUMBER[number].average[MEAN] - BY_NUMBER[other].average[MEAN]
        rows.append((f"{number} against {other}: {what}", f"{thesis:+.2f}", format_difference(difference)))
        ours.append(difference)
    if not rows:
        return None
    return Claim(
        "A narrower second FC layer helps, and so does a weighted loss",
        "§4.4–4.6",
        _tally(ours),
        ("implementation", "thesis, points", "here, points [95 %]"),
        tuple(rows),
    )


def _weak_and_strong(found: Reproduction) -> Claim | None:
    rows, weakest = [], 0
    for outcome in found.tested:
        evaluation = outcome.tests[MEAN]
        recalls = {c: r.value for c, r in zip(evaluation.classes, evaluation.recall, strict=True) if r.value == r.value}
        order = sorted(recalls, key=lambda c: recalls[c])
        least = recalls[order[0]]
        weakest += recalls.get(Emotion.FEAR) == least
        best = ", ".join(f"{c} {100 * recalls[c]:.1f}" for c in order[:-4:-1])
        worst = ", ".join(f"{c} {100 * recalls[c]:.1f}" for c in order if recalls[c] == least)
        rows.append((f"{outcome.number}", worst, best))
    if not rows:
        return None
    return Claim(
        "Fear is the weakest class; disgust, happiness and surprise are the strong ones",
        "§4.3–4.6",
        f"Fear is the weakest, or as weak as any, in {weakest} of {len(rows)}.",
        ("implementation", "weakest, %", "strongest three, %"),
        tuple(rows),
    )


def _gap(found: Reproduction) -> Claim | None:
    gaps = {o.number: gap for o in found.tested if (gap := o.gap()) is not None}
    if not gaps:
        return None
    rows = tuple(
        (
            f"{o.number}",
            *(f"{100 * value:.1f}" for value in gaps[o.number][:2]),
            points(gaps[o.number][2]),
            f"{_above(o)} of {len(o.history)}",
        )
        for o in found.tested
        if o.number in gaps
    )
    pairs = [(a, b) for a, b in ((2, 1), (4, 3)) if a in gaps and b in gaps]
    narrower = [f"{a} against {b}" for a, b in pairs if gaps[a][2] < gaps[b][2]]
    answer = ""
    if pairs:
        which = f" ({', '.join(narrower)})" if narrower else ""
        answer = f"The gap of the narrowed network is the smaller one in {len(narrower)} of {len(pairs)} pairs{which}. "
    n = sum(found.data.clips.get(Split.VALIDATION, ()))
    answer += f"All rests on {n} validation clips. " if n else ""
    answer += (
        f"Means of the last {WINDOW} epochs; training accuracy is counted with dropout on, which hides some of it."
    )
    return Claim(
        "Fewer weights overfit less: the gap between the two curves",
        "§4.4, §4.6: implementation 4 keeps validation accuracy above 75 %",
        answer,
        ("implementation", "training, %", "validation, %", "gap", "epochs > 75 %"),
        rows,
    )


def _above(outcome: Outcome) -> int:
    return sum(value > _HIGH for value in outcome.history.column("validation_accuracy"))


def _tally(ours: Sequence[Difference]) -> str:
    """Return a sentence with the numbers of positive and negative differences, and of those beyond chance."""
    up, down = sum(d.value > 0 for d in ours), sum(d.value < 0 for d in ours)
    sure, surely_down = sum(d.low > 0 for d in ours), sum(d.high < 0 for d in ours)
    text = f"Here in {up} of {len(ours)}" + (f", the reverse in {down}" if down else "")
    if not sure and not surely_down:
        return f"{text}; {'none of it' if up + down else 'nothing'} beyond chance."
    return f"{text}; beyond chance in {sure}" + (f", and in {surely_down} the other way." if surely_down else ".")
