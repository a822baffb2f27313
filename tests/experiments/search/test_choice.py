"""Which trial is selected, who is passed over and why, and what is computed before it: repetitions and the estimate."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from fer_core.clips.splits import grouped_folds
from fer_core.config import SearchConfig, TrainConfig
from fer_core.errors import TrainingError
from fer_core.experiments.search.average import average_finalists
from fer_core.experiments.search.choice import FINALIST, SELECTED, choose, finalists
from fer_core.experiments.search.estimate import estimate_seconds
from fer_core.experiments.search.repeats import repeat_trials
from fer_core.experiments.search.study import open_study, refit, search
from fer_core.experiments.search.trial import (
    AVERAGE_NUMBER,
    TrialResult,
    TrialSpec,
    out_of_fold_scores,
    read_spec,
    run_trial,
    write_spec,
)
from fer_core.features.store import FeatureStore
from fer_core.models.base import build_classifier
from tests.executors import InProcess
from tests.tables import drawn_table

BASE = TrainConfig(epochs=2, widths=())
CFG = SearchConfig(trials=3, folds=2, widths=((),), presets=False, finalists=2, repeats=1)


@pytest.fixture
def table(tmp_path):
    return drawn_table(tmp_path)


@pytest.fixture
def judged(tmp_path, table):
    """Make a complete trial that calls the first clips of every person wrong, the others right."""

    def make(number, wrong, *, ms=1.0, weights=1, state="complete", folder=None):
        folder = tmp_path / (folder or f"trial-{number:04d}")
        write_spec(folder, TrialSpec(number=number, study="s", train=BASE, table=tmp_path, folds=2, seed=0))
        labels, seen = table.labels.copy(), dict.fromkeys(table.subjects, 0)
        for clip, subject in enumerate(table.subjects):
            seen[subject] += 1
            if seen[subject] <= wrong:
                labels[clip] = (labels[clip] + 1) % len(table.classes)
        frames = np.repeat(labels, np.diff(table.offsets))
        scores = np.eye(len(table.classes), dtype=np.float32)[frames]
        save_file({"scores": scores}, folder / "scores.safetensors")
        result = TrialResult(
            number=number, state=state, train=BASE, value=float((labels == table.labels).mean()), n_weights=weights,
            ms_per_clip=ms, reason="" if state == "complete" else "diverged",
        )  # fmt: skip
        (folder / "result.json").write_text(result.model_dump_json())
        return result, folder

    return make


def why(choice):
    return {c.trial.number: c.reason for c in choice.compared}


def test_the_best_is_selected_however_slow_and_the_worse_are_named(table, judged):
    trials = [judged(0, 3), judged(1, 1, ms=5.0, weights=3), judged(2, 0, ms=900.0, weights=2)]
    choice = choose(trials, table, CFG.model_copy(update={"finalists": 1}))
    assert choice.selected.number == choice.best.number == 2
    assert why(choice) == {2: SELECTED, 1: "worse on the same people", 0: "worse on the same people"}
    worse = choice.compared[-1].difference
    assert 0 < worse.low <= worse.value <= worse.high
    assert "trial 2 has the highest mean recall (100.0) of 1 finalist" in choice.reason


def test_time_counts_above_a_stated_budget_only(table, judged):
    trials = [judged(0, 3, ms=4.0), judged(1, 0, ms=500.0, weights=2)]
    choice = choose(trials, table, CFG.model_copy(update={"max_ms": 5.0}))
    assert choice.selected.number == 0 and choice.best.number == 1
    assert why(choice)[1] == "above the budget of 5 ms"
    assert "trial 1, the best in the search (100.0), was passed over: above the budget of 5 ms" in choice.reason
    with pytest.raises(TrainingError, match=r"none of 2 complete trials takes at most 1 CPU ms a clip.* takes 4.0;"):
        choose(trials, table, CFG.model_copy(update={"max_ms": 1.0}))


def test_what_the_clock_reads_does_not_select_among_trials_of_equal_cost(table, judged):
    """Trials with equally many parameters cost the same, though one was timed while the machine was busy."""
    dear = judged(2, 0, ms=90.0, weights=99)
    assert choose([dear, judged(3, 0, ms=20.0)], table, CFG).selected.number == 3, "of equal ones the cheapest"
    trials = [judged(0, 0, ms=40.0, weights=9), judged(1, 0, ms=20.0, weights=9)]
    assert choose(trials, table, CFG).selected.number == 0
    assert {c.cost for c in choose(trials, table, CFG).compared} == {30.0}


def test_only_the_best_few_that_are_as_good_are_finalists(table, judged):
    trials = [judged(0, 3), *(judged(n, 0) for n in (1, 2, 3))]
    assert [r.number for r, _ in finalists(trials, table, CFG)] == [1, 2]
    assert why(choose(trials, table, CFG))[3] == "as good, but not among the best 2"


def test_other_folds_decide_between_finalists(table, judged):
    trials = [judged(0, 0), judged(1, 0)]
    repeated = {0: [judged(0, 4, folder="a")], 1: [judged(1, 0, folder="b")]}
    choice = choose(trials, table, CFG, repeated=repeated)
    assert choice.best.number == 0 and choice.selected.number == 1 and choice.cross_validations == 2
    assert "average over 2 cross-validations" in choice.reason and "trial 0, the best in the search" in choice.reason
    assert choice.compared[1].value < choice.compared[0].value == 1.0


def test_a_finalist_that_diverges_with_other_folds_is_passed_over(table, judged):
    trials = [judged(0, 0), judged(1, 0)]
    diverged = judged(0, 0, folder="a", state="failed")
    choice = choose(trials, table, CFG, repeated={0: [diverged], 1: [judged(1, 2, folder="b")]})
    assert choice.selected.number == 1 and why(choice)[0] == "diverged with other folds"
    with pytest.raises(TrainingError, match="all 1 finalists diverged"):
        choose(trials[:1], table, CFG, repeated={0: [diverged]})


def test_the_average_is_selected_where_it_is_clearly_better_and_within_the_budget(table, judged):
    trials = [judged(0, 2), judged(1, 2, weights=2)]
    average = judged(AVERAGE_NUMBER, 0, ms=9.0, weights=3)
    choice = choose(trials, table, CFG, averaged=[average])
    assert choice.selected == average[0] and choice.folder == average[1] and choice.best.number == 0
    assert "averaging the finalists gains" in choice.reason and choice.reason.endswith("so the average is selected")
    assert why(choice) == {AVERAGE_NUMBER: SELECTED, 0: FINALIST, 1: FINALIST}
    within = choose(trials, table, CFG.model_copy(update={"max_ms": 5.0}), averaged=[average])
    assert within.selected.number == 0 and within.folder == trials[0][1]
    level = choose(trials, table, CFG, averaged=[judged(AVERAGE_NUMBER, 2, folder="level")])
    assert level.selected.number == 0 and "is not clearly better" in level.reason
    assert why(level)[AVERAGE_NUMBER] == FINALIST


def test_the_average_of_finalists_has_the_scores_that_fitting_it_would_give(tmp_path, table):
    study = open_study(tmp_path, table, CFG, BASE)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    trials = search(study, table, path, CFG, BASE, InProcess())
    repeated = repeat_trials(trials, 1, InProcess())
    averaged = average_finalists(trials, repeated, table)
    assert len(averaged) == 2
    for result, folder in averaged:
        write_spec(tmp_path / "fitted" / folder.name, read_spec(folder))
        fitted = run_trial(tmp_path / "fitted" / folder.name)
        assert np.allclose(out_of_fold_scores(folder), out_of_fold_scores(tmp_path / "fitted" / folder.name), atol=1e-6)
        assert (fitted.selected, fitted.n_weights) == (result.selected, result.n_weights)
        assert fitted.value == pytest.approx(result.value) and fitted.evaluations == result.evaluations
    assert averaged[0][0].title == "the average of trials 0, 1, 2"
    classifier = refit(table, averaged[0][0]).classifier
    again = build_classifier(classifier.to_record(), classifier.to_tensors(), len(table.classes))
    every = np.arange(table.n_clips)
    members = [refit(table, result).classifier.scores(table, every) for result, _ in trials]
    assert np.array_equal(again.scores(table, every), classifier.scores(table, every))
    assert np.allclose(classifier.scores(table, every), np.mean(members, axis=0))


def test_what_cannot_be_averaged_is_left_out(tmp_path, table):
    study = open_study(tmp_path, table, CFG, BASE)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    first, second, third = search(study, table, path, CFG, BASE, InProcess())
    other = (second[0].model_copy(update={"backbone": "vgg16"}), second[1])
    assert average_finalists([first], {}, table) == [] == average_finalists([first, other], {}, table)
    diverged = {third[0].number: [(third[0].model_copy(update={"state": "failed"}), third[1])]}
    assert average_finalists([first, third], diverged, table) == []


def test_repetitions_draw_other_folds_and_are_computed_once(tmp_path, table):
    study = open_study(tmp_path, table, CFG, BASE)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    trials = search(study, table, path, CFG, BASE, InProcess())
    last = finalists(trials, table, CFG)
    seen = []
    first = repeat_trials(last, 1, InProcess(), on_repeat=lambda done, total: seen.append((done, total)))
    assert seen == [(n, len(last)) for n in range(1, len(last) + 1)]
    (result, folder), *_ = first[last[0][0].number]
    assert result.state == "complete" and read_spec(folder).seed == CFG.seed + 1
    once, again = (grouped_folds(table.subjects, table.labels, 2, seed) for seed in (0, 1))
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(once, again, strict=True))
    write_spec(tmp_path / "alone", read_spec(folder))
    run_trial(tmp_path / "alone")
    assert np.array_equal(out_of_fold_scores(tmp_path / "alone"), out_of_fold_scores(folder))

    class Refuses(InProcess):
        def submit(self, fn, /, *args, **kwargs):
            raise AssertionError("computed again")

    assert repeat_trials(last, 1, Refuses()) == first
    assert choose(trials, table, CFG, last, first).cross_validations == 2


def test_after_its_minutes_a_search_starts_no_trial_and_goes_on_when_called_again(tmp_path, table, caplog):
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    short = CFG.model_copy(update={"minutes": 1e-9})
    study = open_study(tmp_path, table, short, BASE)
    assert study == open_study(tmp_path, table, CFG, BASE)
    assert search(study, table, path, short, BASE, InProcess()) == []
    assert "with 0 of 3 trials; the same search again goes on" in caplog.text
    assert len(search(study, table, path, CFG, BASE, InProcess())) == 3


def test_the_estimate_bounds_a_search_and_later_rests_on_its_trials(tmp_path, table):
    study = open_study(tmp_path, table, CFG, BASE)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    seconds, bound = estimate_seconds(study, table, CFG, BASE, 1)
    more, _ = estimate_seconds(study, table, CFG, BASE.model_copy(update={"epochs": 500}), 1)
    assert bound and 0 < seconds < more
    search(study, table, path, CFG, BASE, InProcess())
    longer = CFG.model_copy(update={"trials": 5, "repeats": 0})
    seconds, bound = estimate_seconds(study, table, longer, BASE, 2)
    trial_seconds = [r.seconds for r, _ in search(study, table, path, CFG, BASE, InProcess())]
    assert not bound and seconds == pytest.approx(2 * float(np.median(trial_seconds)) / 2)
