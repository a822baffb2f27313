"""compare: the same folds for all, nobody on two sides, what was done is not done again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_core.clips.splits import grouped_folds
from fer_core.config import TrainConfig
from fer_core.errors import DataError, TrainingError
from fer_core.evaluation.abstention import confidence_auroc, coverage_curve
from fer_core.evaluation.calibration import calibrated_apart
from fer_core.evaluation.metrics import evaluate, paired_difference
from fer_core.experiments.comparison import compare
from fer_core.models.registry import models_of
from fer_core.reports.comparison import comparison_markdown, comparison_page, comparison_row
from fer_core.reports.comparison_plot import comparison_figure
from fer_core.store import EntryStore
from tests.models.spy import Spy

TRAIN = TrainConfig(widths=(), epochs=3, batch_size=30)
HOW = {"folds": 3, "seed": 0, "fit_seed": 0, "inner_share": 0.2}
NAMES = ["head-mean", "head-vote", "lstm", "lbp-svm"]


@pytest.fixture(scope="module")
def found(drawn):
    return compare(models_of(NAMES, TRAIN, epochs=2), drawn, **HOW)


def test_an_entrys_numbers_are_those_of_its_scores(drawn, found):
    table = drawn
    assert [e.name for e in found.entries] == NAMES
    first = found.entries[0].scores.argmax(axis=1)
    assert found.entries[0].difference is None
    for entry in found.entries:
        verdicts = entry.scores.argmax(axis=1)
        assert np.allclose(entry.scores.sum(axis=1), 1)
        expected = evaluate(verdicts, table.labels, table.subjects)
        assert entry.evaluation.to_json() == expected.to_json()
        calibrated = calibrated_apart(entry.scores, table.labels, table.subjects)
        assert entry.ranking.mean_risk == coverage_curve(calibrated, table.labels, table.subjects).mean_risk
        assert np.array_equal(entry.ranking.auroc, confidence_auroc(calibrated, table.labels), equal_nan=True)
        assert entry.ms_per_clip > 0 and entry.seconds > 0 and entry.n_parameters > 0
        if entry.difference:
            assert entry.difference == paired_difference(verdicts, first, table.labels, table.subjects, 6)
    assert [len(e.histories) for e in found.entries] == [3, 3, 3, 0]
    assert found.synthetic and (found.n_clips, found.n_subjects) == (72, 12)


def test_nobody_scored_was_trained_or_stopped_on_and_a_cheat_gains_nothing(drawn):
    spy = Spy()
    found = compare([spy], drawn, **HOW)
    everyone = [subject for _, _, scored in spy.told() for subject in scored]
    assert sorted(everyone) == sorted(set(drawn.subjects)), "everyone is scored once"
    assert found.entries[0].evaluation.mean_recall.value == pytest.approx(1 / 6)


def test_the_seed_of_the_fits_is_not_that_of_the_folds(drawn):
    quick = TRAIN.model_copy(update={"epochs": 1})
    a, b = (compare(models_of(["head-mean"], quick), drawn, **HOW | {"fit_seed": seed}).entries[0] for seed in (0, 1))
    assert not np.array_equal(a.scores, b.scores)


def test_the_folds_are_those_of_a_search(drawn):
    spy = Spy()
    compare([spy], drawn, **HOW)
    table = drawn
    folds = grouped_folds(table.subjects, table.labels, HOW["folds"], HOW["seed"])
    expected = [frozenset(table.subjects[c] for c in test) for _, test in folds]
    assert [scored for _, _, scored in spy.told()] == expected


def test_what_was_compared_before_is_read_back(drawn, tmp_path):
    store = EntryStore(tmp_path, "comparisons")
    lstm, spy = models_of(["lstm"], TRAIN, epochs=1)[0], Spy()
    before = compare([lstm, spy], drawn, **HOW, store=store)
    fits = len(spy.shown)
    seen: list[tuple[int, int]] = []
    again = compare([spy, lstm], drawn, **HOW, store=store, progress=lambda *done: seen.append(done))
    assert len(spy.shown) == fits and seen == [(i, 6) for i in range(1, 7)]
    for a, b in zip(before.entries, again.entries[::-1], strict=True):
        assert np.array_equal(a.scores, b.scores) and a.histories == b.histories
        assert (a.seconds, a.ms_per_clip, a.n_parameters) == (b.seconds, b.ms_per_clip, b.n_parameters)
    other = replace(drawn, part_keys={**drawn.part_keys, "people": "others"})
    compare([spy], other, **HOW, store=store)
    assert len(spy.shown) == 2 * fits, "another table is another comparison"


def test_a_model_that_diverges_is_told_of_and_the_others_go_on(drawn):
    wild = TRAIN.model_copy(update={"lr": 1.0, "optimizer": "sgd", "epochs": 60, "widths": (64, 64), "dropout": 0.0})
    lost, kept = models_of(["head-mean"], wild)[0], models_of(["lbp-svm"], TRAIN)[0]
    features = (drawn.features.float() * 5000).clamp(-60000, 60000).half()
    huge = replace(drawn, features=features)
    found = compare([lost, kept], huge, **HOW)
    assert [e.name for e in found.entries] == ["lbp-svm"] and found.entries[0].difference is None
    assert "diverged" in found.failed["head-mean"]
    assert "head-mean has no row: the loss became" in comparison_markdown(found)
    with pytest.raises(TrainingError, match="none of 1 models could be fitted: the loss became"):
        compare([lost], huge, **HOW)


def test_a_class_that_a_fold_lacks_is_named(drawn):
    labels = drawn.labels.copy()
    labels[6:][labels[6:] == 2] = 5  # only the first person shows fear
    with pytest.raises(TrainingError, match=r"no training clips of fear; every class needs clips of several subjects"):
        compare(models_of(["lbp-svm"], TRAIN), replace(drawn, labels=labels), **HOW)


def test_too_few_people_for_the_folds_are_refused(drawn):
    with pytest.raises(DataError, match="13 subject-disjoint folds need 13 subjects"):
        compare(models_of(["lbp-svm"], TRAIN), drawn, **HOW | {"folds": 13})


def test_tables_and_page_show_every_model_once(found):
    markdown = comparison_markdown(found)
    page = comparison_page(found, data="ab" * 16, backbone="pictures")
    for entry in found.entries:
        row = comparison_row(entry)
        assert markdown.count(f"| {entry.name} |") == 1
        assert str(entry.evaluation.mean_recall) in markdown and row["mean recall %"] in page
        assert f"{entry.name}<small>" in page
    assert comparison_row(found.entries[0])["minus first"] == "–"
    assert "say nothing about people" in markdown and "say nothing about people" in page
    assert "Content-Security-Policy" in page and page.count('src="data:image/png') == 1


def test_the_figure_has_a_line_for_every_model(found):
    figure = comparison_figure(found)
    left, right = figure.axes
    assert [t.get_text() for t in left.get_yticklabels()] == [e.title for e in found.entries]
    assert len(left.lines) == 2 * len(NAMES) + 1 and len(right.lines) == 2 * (len(NAMES) - 1) + 1
