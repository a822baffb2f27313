"""Plots of the quality of a model's confidence: abstention, prediction sets, groups of people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_core.evaluation.abstention import SHOWN, CoverageCurve
from fer_core.evaluation.conformal import PredictionSets
from fer_core.evaluation.metrics import Evaluation, Interval
from fer_core.reports.plots import INK, STYLE, canvas

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#9aa0a6"


def coverage_figure(curve: CoverageCurve, title: str = "") -> Figure:
    """Plot the accuracy of the answered clips against coverage, with intervals by subject and the thresholds."""
    with rc_context(STYLE):
        figure = canvas(6.4, 4.0)
        ax = figure.subplots()
        ax.fill_between(curve.coverage, curve.low, curve.high, color=_BLUE, alpha=0.15, linewidth=0)
        ax.plot(curve.coverage, curve.accuracy, color=_BLUE, linewidth=2)
        for coverage in SHOWN:
            threshold, accuracy = curve.at(coverage)
            place = curve.coverage[np.flatnonzero(curve.threshold == threshold)[0]]
            ax.plot(place, accuracy.value, "o", color=_BLUE, markersize=5, clip_on=False)
            ax.annotate(
                f"≥ {100 * threshold:.0f} %", (place, accuracy.value), xytext=(0, 8), textcoords="offset points",
                ha="center", fontsize=8, color=INK,
            )  # fmt: skip
        ax.set_xlim(1, 0)
        ax.set_ylim(min(0.5, float(np.nanmin(curve.low))), 1.02)
        _percent(ax, x=True)
        ax.set(xlabel="share of clips answered, by calibrated confidence", ylabel="share of them right")
        ax.set_title(title)
        return figure


def sets_figure(sets: Sequence[PredictionSets], title: str = "") -> Figure:
    """Plot the achieved coverage of each class for each confidence level (left), and the sizes of the sets (right).

    Args:
        sets: at most three levels.
    """
    with rc_context(STYLE):
        figure = canvas(9.2, 3.8)
        ax, sizes = figure.subplots(1, 2, width_ratios=(2, 1))
        colors = (_BLUE, _ORANGE, INK)
        for i, (made, color) in enumerate(zip(sets, colors, strict=False)):
            offset = 0.22 * (i - (len(sets) - 1) / 2)
            intervals = [*made.covered.recall, made.covered.accuracy]
            ax.axhline(made.confidence, color=color, linestyle=":", linewidth=1)
            _marks(ax, np.arange(len(intervals)) + offset, intervals, color, f"{100 * made.confidence:g} % asked for")
            counts = np.bincount(made.sizes, minlength=made.sets.shape[1] + 1) / len(made.sizes)
            sizes.bar(np.arange(len(counts)) + offset, counts, width=0.2, color=color)
        names = [*(str(c) for c in sets[0].covered.classes), "all"]
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        lowest = [i.low for made in sets for i in made.covered.recall if not np.isnan(i.low)]
        ax.set_ylim(min(0.6, *lowest, *(made.confidence for made in sets)) - 0.02, 1.02)
        ax.set_ylabel("sets that hold the truth")
        ax.legend(loc="lower left", fontsize=8)
        ax.set_title(title)
        sizes.set_xlabel("emotions in a set")
        sizes.set_ylabel("clips")
        sizes.set_xticks(range(sets[0].sets.shape[1] + 1))
        _percent(ax)
        _percent(sizes)
        return figure


def groups_figure(column: str, groups: Mapping[str, Evaluation]) -> Figure:
    """Plot recall per class and mean recall for each value of a group column, with intervals by subject."""
    with rc_context(STYLE):
        classes = next(iter(groups.values())).classes
        figure = canvas(max(6.4, 1.0 * (len(classes) + 1)), 3.8)
        ax = figure.subplots()
        palette = (_BLUE, _ORANGE, "#009E73", "#AA4499", "#E69F00", _GREY)
        step = 0.7 / max(len(groups), 1)
        for i, (value, evaluation) in enumerate(groups.items()):
            offset = step * (i - (len(groups) - 1) / 2)
            label = f"{value}: {evaluation.n_clips} clips of {evaluation.n_subjects} people"
            intervals = [*evaluation.recall, evaluation.mean_recall]
            _marks(ax, np.arange(len(intervals)) + offset, intervals, palette[i % len(palette)], label)
        ax.set_xticks(range(len(classes) + 1), [*(str(c) for c in classes), "mean"])
        ax.set_ylim(0, 1.02)
        _percent(ax)
        ax.set_ylabel("recall")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.12), ncols=2, fontsize=8)
        ax.set_title(f"Recall by {column}")
        return figure


def _marks(ax: Axes, x: np.ndarray, intervals: Sequence[Interval], color: str, label: str) -> None:
    value, low, high = np.array([(i.value, i.low, i.high) for i in intervals]).T
    errors = np.clip([value - low, high - value], 0, None)
    ax.errorbar(x, value, errors, fmt="o", color=color, markersize=4, elinewidth=1.2, label=label)


def _percent(ax: Axes, *, x: bool = False) -> None:
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if x:
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_axisbelow(True)
    ax.grid(axis="y")
