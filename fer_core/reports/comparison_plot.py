"""Plot a comparison: mean recall of every model with interval, and its difference to the first model."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_core.experiments.comparison import Comparison

_FIRST, _OTHER, _SOFT = "#D55E00", "#0072B2", "#9aa0a6"


def comparison_figure(comparison: Comparison) -> Figure:
    """Plot mean recall with 95 % interval by subject (left) and the paired difference to the first model (right).

    A difference whose interval contains 0 is grey, because these clips do not show which model is better.
    """
    entries = comparison.entries
    n = len(entries)
    figure = Figure(figsize=(10, 1.3 + 0.36 * n), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, entry in enumerate(entries):
        first = entry.difference is None
        interval = entry.evaluation.mean_recall
        _interval(left, place, (interval.low, interval.value, interval.high), _FIRST if first else _OTHER)
        if entry.difference is not None:
            difference = entry.difference
            apart = difference.low > 0 or difference.high < 0
            _interval(right, place, (difference.low, difference.value, difference.high), _OTHER if apart else _SOFT)
    left.axvline(1 / len(comparison.classes), color=_SOFT, linestyle=":", linewidth=1.2)
    left.annotate(
        "chance", (1 / len(comparison.classes), 0), xytext=(4, 0), textcoords="offset points",
        xycoords=("data", "axes fraction"), fontsize=8, color="#5f6368", va="bottom",
    )  # fmt: skip
    right.axvline(0, color=_FIRST, linewidth=1)
    left.set_yticks(np.arange(n), [entry.title for entry in entries])
    left.set_ylim(n - 0.5, -0.5)
    left.set_xlim(0, 1)
    titles = (
        (left, "Mean recall, 95 % interval by subject", PercentFormatter(1, decimals=0)),
        (right, f"Minus {entries[0].name}, points", PercentFormatter(1, decimals=0, symbol="")),
    )
    for ax, title, form in titles:
        ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
        ax.xaxis.set_major_formatter(form)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color="#e3e5e8")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    return figure


def _interval(ax: Axes, place: int, ends: tuple[float, float, float], color: str) -> None:
    low, value, high = ends
    ax.plot([low, high], [place, place], color=color, linewidth=2.4, solid_capstyle="round", alpha=0.55)
    ax.plot(value, place, "o", color=color, markersize=6)
