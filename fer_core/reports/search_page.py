"""The page of a search: which trial was chosen and why, and what the settings do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from fer_core.experiments.search.choice import Choice
from fer_core.experiments.search.trial import TrialResult
from fer_core.reports.page import data_uri, render_page
from fer_core.reports.plots import figure_png
from fer_core.reports.search_plots import (
    LEAST,
    Drawn,
    importance_figure,
    importances,
    parallel_figure,
    pareto_figure,
    pareto_front,
    slice_figure,
)
from fer_core.reports.trials_plot import trials_figure

SHOWN = 20  # rows of the table of trials that were passed over
TITLES = {
    "history": ("History", "Mean recall of each trial with its 95 % interval by person, and the best so far."),
    "pareto": ("Recall against time", "Trials that no other beats in both are orange, with their numbers."),
    "slice": ("Setting by setting", "Mean recall of the complete trials over each setting."),
    "importance": (
        "What matters",
        "PED-ANOVA: what tells the best tenth of the trials from the rest. fANOVA: what explains the differences "
        "between all trials. They may disagree, and with few trials both are rough.",
    ),
    "parallel": ("All settings at once", "A line per trial; bright lines are good trials."),
}


def search_figures(
    trials: Sequence[TrialResult], params: Mapping[int, Mapping[str, Any]], choice: Choice
) -> dict[str, Figure]:
    """Return name -> figure; those that need more trials than there are, are left out.

    Args:
        trials: all trials.
        params: number of a trial -> its drawn parameters, by Optuna's names.
    """
    drawn = [Drawn(t, params[t.number]) for t in trials if t.state == "complete" and params.get(t.number)]
    figures = {"history": trials_figure(trials, choice)}
    if len(drawn) < 2:
        return figures
    figures |= {"pareto": pareto_figure(drawn), "slice": slice_figure(drawn)}
    if found := importances(drawn):
        figures["importance"] = importance_figure(found)
    return figures | {"parallel": parallel_figure(drawn)}


def search_page(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Figure],
    choice: Choice,
    *,
    synthetic: bool,
) -> str:
    """Return the self-contained HTML page.

    Args:
        name: name of the study.
        rows: one row per trial, with the same columns.
        figures: those of `search_figures`.
        synthetic: True if any face was drawn or rendered.
    """
    shown = [(*TITLES[key], data_uri(figure_png(figure, dpi=130), "image/png")) for key, figure in figures.items()]
    complete = [row for row in rows if row["state"] == "complete"]
    front = {trial.number for trial in pareto_front([c.trial for c in choice.compared])}
    compared = [{**c.row(), "no other beats it": "yes" if c.trial.number in front else ""} for c in choice.compared]
    return render_page(
        "search.html.j2", extra_css="compare.css", name=name, reason=choice.reason, rows=rows, columns=list(rows[0]),
        figures=shown, synthetic=synthetic, n_complete=len(complete), least=LEAST, compared=compared[:SHOWN],
        left_out=len(compared[SHOWN:]), cross_validations=choice.cross_validations,
    )  # fmt: skip
