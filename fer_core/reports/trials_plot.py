"""Plot the trials of a study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fer_core.experiments.search.choice import Choice
from fer_core.experiments.search.trial import OBJECTIVE, TrialResult

_STATES = {"complete": "#0072B2", "pruned": "#9aa0a6"}


def trials_figure(trials: Sequence[TrialResult], choice: Choice) -> Figure:
    """Plot out-of-fold mean recall of the trials with 95 % intervals by subject, the best so far, and the selected one.

    Failed trials are left out.
    """
    figure = Figure(figsize=(8, 4), layout="constrained")
    ax = figure.subplots()
    for state, color in _STATES.items():
        members = [t for t in trials if t.state == state]
        if not members:
            continue
        value, low, high = np.array([t.evaluations[OBJECTIVE]["mean_recall"] for t in members], dtype=float).T
        errors = np.clip([value - low, high - value], 0, None)
        numbers = [t.number for t in members]
        ax.errorbar(numbers, value, errors, fmt="o", color=color, ecolor=color, elinewidth=1, alpha=0.8, label=state)
    complete = [t for t in trials if t.state == "complete"]
    best = np.maximum.accumulate([t.value for t in complete])
    ax.step([t.number for t in complete], best, where="post", color="#30343b", lw=1, label="best so far")
    place = choice.selected.number if choice.selected.number >= 0 else len(trials)  # the average comes last
    ax.plot(place, choice.selected.value, "o", ms=13, mfc="none", mec="#D55E00", mew=2, label="chosen")
    ax.set_xlabel("trial")
    ax.set_title("Out-of-fold mean recall, 95 % interval by subject", loc="left", fontsize=11, fontweight="bold")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#e3e5e8")
    ax.legend(loc="lower right", frameon=False, ncols=4, fontsize=9)
    return figure
