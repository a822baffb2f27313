"""Plots of a search: the value by each setting, importance of the settings, all settings at once, and cost.

They are drawn from the drawn parameters of the trials and their results; the history is `trials_plot`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_core.experiments.search.trial import TrialResult
from fer_core.reports.plots import INK, STYLE, canvas

LEAST = 4  # complete trials, before importance means anything
_BLUE, _ORANGE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Drawn:
    """A complete trial with its drawn parameters, by Optuna's names."""

    result: TrialResult
    params: Mapping[str, Any]


def importances(trials: Sequence[Drawn], seed: int = 0) -> dict[str, dict[str, float]]:
    """Return name of an evaluator -> parameter -> importance; empty with fewer than `LEAST` trials.

    PED-ANOVA (Watanabe et al. 2023) says what tells the best tenth of the trials from the rest; fANOVA (Hutter et al.
    2014) what share of the variance of all values a parameter explains. They may disagree. Only parameters that all
    trials drew, with more than one value, are compared.
    """
    names = [name for name in _shared(trials) if len({str(t.params[name]) for t in trials}) > 1]
    if len(trials) < LEAST or not names or len({t.result.value for t in trials}) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    space = {name: _distribution([t.params[name] for t in trials]) for name in names}
    for trial in trials:
        params = {name: trial.params[name] for name in names}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=trial.result.value))
    evaluators = {
        "PED-ANOVA": optuna.importance.PedAnovaImportanceEvaluator(),
        "fANOVA": optuna.importance.FanovaImportanceEvaluator(seed=seed),
    }
    return {
        name: {k: float(v) for k, v in optuna.importance.get_param_importances(study, evaluator=evaluator).items()}
        for name, evaluator in evaluators.items()
    }


def pareto_front(trials: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the trials that no other beats in recall at equal or lower cost, from the cheapest to the best."""
    front: list[TrialResult] = []
    for trial in sorted(trials, key=lambda t: (t.ms_per_clip, -t.value)):
        if not front or trial.value > front[-1].value:
            front.append(trial)
    return front


def slice_figure(trials: Sequence[Drawn]) -> Figure:
    """Plot the mean recall of the trials over each parameter."""
    names = _shared(trials)
    with rc_context(STYLE):
        columns = min(3, len(names))
        rows = -(-len(names) // columns)
        figure = canvas(3.6 * columns, 2.7 * rows)
        axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
        for ax, name in zip(axes, names, strict=False):
            values = [t.params[name] for t in trials]
            ax.scatter(_positions(ax, name, values), [t.result.value for t in trials], s=22, color=_BLUE, alpha=0.7)
            ax.set_title(name)
            ax.yaxis.set_major_formatter(PercentFormatter(1))
            ax.grid(axis="y")
        for ax in axes[len(names) :]:
            ax.set_visible(False)
        return figure


def importance_figure(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """Plot the importance of each parameter by both evaluators."""
    names = sorted(next(iter(found.values())), key=lambda name: sum(values[name] for values in found.values()))
    with rc_context(STYLE):
        figure = canvas(6.4, 1.2 + 0.5 * len(names))
        ax = figure.subplots()
        for i, (evaluator, values) in enumerate(found.items()):
            places = np.arange(len(names)) + 0.2 - 0.4 * i
            ax.barh(places, [values[name] for name in names], 0.38, color=(_BLUE, _ORANGE)[i], label=evaluator)
        ax.set_yticks(range(len(names)), names)
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.legend(loc="lower right")
        return figure


def parallel_figure(trials: Sequence[Drawn]) -> Figure:
    """Plot each trial as a line over all parameters, coloured by its mean recall; the best lie on top."""
    names = _shared(trials)
    values = np.array([t.result.value for t in trials])
    spread = np.ptp(values) or 1.0
    with rc_context(STYLE):
        figure = canvas(1.6 * len(names) + 2.4, 3.8)
        ax = figure.subplots()
        heights = np.array([_heights([t.params[name] for t in trials]) for name in names]).T
        for i in np.argsort(values):
            shade = colormaps["viridis"]((values[i] - values.min()) / spread)
            ax.plot(range(len(names)), heights[i], color=shade, linewidth=1.6, alpha=0.85)
        for x, name in enumerate(names):
            for height, text in _ticks([t.params[name] for t in trials]):
                ax.text(x, height, text, fontsize=8, color=INK, bbox={"fc": "white", "ec": "none", "pad": 1})
        ax.set_xticks(range(len(names)), names)
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
        ax.grid(axis="x")
        ends = f"dark {100 * values.min():.1f} %, bright {100 * values.max():.1f} %"
        ax.set_title(f"Mean recall: {ends}")
        return figure


def pareto_figure(trials: Sequence[Drawn]) -> Figure:
    """Plot mean recall over CPU milliseconds a clip, with the trials that no other beats in both."""
    front = pareto_front([t.result for t in trials])
    with rc_context(STYLE):
        figure = canvas(6.4, 4.0)
        ax = figure.subplots()
        points = np.array([(t.result.ms_per_clip, t.result.value) for t in trials])
        ax.scatter(points[:, 0], points[:, 1], s=24, color="#9aa0a6")
        best = np.array([(t.ms_per_clip, t.value) for t in front])
        ax.step(best[:, 0], best[:, 1], where="post", color=_ORANGE)
        ax.scatter(best[:, 0], best[:, 1], s=34, color=_ORANGE, zorder=3)
        for trial in front:
            at = (trial.ms_per_clip, trial.value)
            ax.annotate(str(trial.number), at, xytext=(4, 4), textcoords="offset points", fontsize=9)
        ax.set(xlabel="CPU ms a clip", ylabel="mean recall")
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.grid()
        return figure


def _shared(trials: Sequence[Drawn]) -> list[str]:
    """Return the parameters that every trial drew, in the order of the first trial."""
    return [name for name in trials[0].params if all(name in t.params for t in trials)]


def _is_number(values: Sequence[Any]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _is_log(values: Sequence[Any]) -> bool:
    return _is_number(values) and min(values) > 0 and max(values) / min(values) >= 20


def _distribution(values: Sequence[Any]) -> optuna.distributions.BaseDistribution:
    if all(isinstance(v, float) for v in values):
        return optuna.distributions.FloatDistribution(min(values), max(values), log=_is_log(values))
    return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))


def _positions(ax: Axes, name: str, values: Sequence[Any]) -> list[Any]:
    """Return the x of each value, and set up the axis."""
    if all(isinstance(v, float) for v in values):
        ax.set_xscale("log" if _is_log(values) else "linear")
        return list(values)
    names = _choices(values)
    ax.set_xticks(range(len(names)), [str(n) for n in names], rotation=20, ha="right", fontsize=8)
    return [names.index(v) for v in values]


def _choices(values: Sequence[Any]) -> list[Any]:
    return sorted(set(values)) if _is_number(values) else sorted(set(values), key=str)


def _heights(values: Sequence[Any]) -> np.ndarray:
    """Return the values as heights from 0 to 1."""
    if all(isinstance(v, float) for v in values):
        raw = np.log(values) if _is_log(values) else np.array(values)
    else:
        raw = np.array([_choices(values).index(v) for v in values], dtype=float)
    return (raw - raw.min()) / (np.ptp(raw) or 1.0)


def _ticks(values: Sequence[Any]) -> list[tuple[float, str]]:
    if all(isinstance(v, float) for v in values):
        return [(0.0, f"{min(values):.2g}"), (1.0, f"{max(values):.2g}")]
    names = _choices(values)
    return [(i / max(len(names) - 1, 1), str(name)) for i, name in enumerate(names)]
