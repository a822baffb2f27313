"""Plots and page of a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fer_core.config import TrainConfig
from fer_core.evaluation.metrics import Difference
from fer_core.experiments.search.choice import SELECTED, Choice, Compared
from fer_core.experiments.search.trial import TrialResult
from fer_core.reports.search_page import search_figures, search_page
from fer_core.reports.search_plots import Drawn, importances, pareto_front


def trial(number: int, value: float, ms: float = 1.0) -> TrialResult:
    recall = {"mean_scores": {"mean_recall": [value, value - 0.05, value + 0.05]}}
    return TrialResult(
        number=number, state="complete", train=TrainConfig(), value=value, ms_per_clip=ms, evaluations=recall
    )  # fmt: skip


@pytest.fixture
def drawn() -> list[Drawn]:
    """Twenty trials in which the learning rate decides, and the widths nothing."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(20):
        lr, widths = float(10 ** rng.uniform(-5, -2)), str(rng.choice(["64", "256"]))
        value = 0.5 - 0.1 * abs(np.log10(lr) + 3)
        made.append(Drawn(trial(number, float(value), ms=5 + number % 3), {"lr": lr, "widths": widths}))
    return made


def test_both_evaluators_find_the_setting_that_decides(drawn):
    found = importances(drawn)
    assert set(found) == {"PED-ANOVA", "fANOVA"}
    assert all(values["lr"] > values["widths"] for values in found.values())
    assert importances(drawn[:3]) == {} and importances([Drawn(t.result, {"lr": 0.1}) for t in drawn]) == {}


def test_the_front_holds_the_trials_that_no_other_beats():
    trials = [trial(0, 0.5, 2.0), trial(1, 0.6, 3.0), trial(2, 0.55, 3.5), trial(3, 0.6, 4.0), trial(4, 0.4, 2.0)]
    assert [t.number for t in pareto_front(trials)] == [0, 1]


def test_the_page_shows_every_plot_and_the_reason(drawn):
    results = [t.result for t in drawn]
    best = max(results, key=lambda t: t.value)
    compared = [
        Compared(t, t.value, t.ms_per_clip, Difference(best.value - t.value, 0.01, 0.0, 0.2), "worse <i>")
        for t in results
        if t is not best
    ]
    first = Compared(best, best.value, best.ms_per_clip, Difference(0.0, 0.0, 0.0, 0.0), SELECTED)
    choice = Choice(best, Path("trial"), best, (first, *compared), 3, "trial <b> is best", {})
    figures = search_figures(results, {t.result.number: t.params for t in drawn}, choice)
    assert list(figures) == ["history", "pareto", "slice", "importance", "parallel"]
    rows = [{"trial": t.number, "state": t.state} for t in results]
    page = search_page("study", rows, figures, choice, synthetic=True)
    assert "cross-validated 3 times" in page and "worse &lt;i&gt;" in page
    assert "trial &lt;b&gt; is best" in page and "Synthetic faces" in page and page.count("data:image/png") == 5
    assert list(search_figures(results[:1], {}, choice)) == ["history"]
