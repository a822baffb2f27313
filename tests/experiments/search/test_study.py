"""The search as a whole: real trials in real processes on a small table."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor, Future

import numpy as np
import optuna
import pytest
from filelock import FileLock

from fer_core.clips.splits import grouped_folds
from fer_core.config import SearchConfig, TrainConfig
from fer_core.dataset.table import DESCRIBED, Part, build_table
from fer_core.errors import StoreError, TrainingError
from fer_core.experiments.search.choice import choose
from fer_core.experiments.search.processes import trial_processes
from fer_core.experiments.search.study import cross_validate, open_study, refit, search
from fer_core.experiments.search.trial import (
    TrialSpec,
    fold_values,
    histories,
    out_of_fold_scores,
    read_result,
    read_spec,
    run_trial,
    write_spec,
)
from fer_core.features.store import FeatureStore
from fer_core.models.base import read_of
from fer_core.models.registry import model_of
from fer_core.store import EntryStore
from tests.models.spy import Spy
from tests.tables import drawn_clips, drawn_table, equal_heads

BASE = TrainConfig(epochs=6)
SPACE = SearchConfig(trials=4, folds=3, widths=((), (16,)), workers=2)


@pytest.fixture
def table(tmp_path):
    return drawn_table(tmp_path)


def table_path(tmp_path, table):
    return FeatureStore(tmp_path / "store").tables.path(table.key)


class InProcess(Executor):
    """Runs each trial at once, here: for what has nothing to do with processes."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as exc:
            future.set_exception(exc)
        return future


def test_search_runs_every_trial_in_a_process_and_keeps_the_cheapest_of_the_best(tmp_path, table):
    study = open_study(tmp_path, table, SPACE, BASE)
    seen = []
    with trial_processes(2) as executor:
        found = search(
            study, table, table_path(tmp_path, table), SPACE, BASE, executor, workers=2, on_trial=seen.append
        )
    assert [r.number for r, _ in found] == [0, 1, 2, 3] and len(seen) == 4
    assert [(r.train.lr, r.train.batch_size) for r, _ in found[:2]] == [(0.005, 20), (0.001, 30)]
    assert [r.preset for r, _ in found[:2]] == ["table-4.1", "section-4.2.2"]
    for result, folder in found:
        assert result.state in ("complete", "pruned")
        if result.state == "complete":
            assert np.isfinite(out_of_fold_scores(folder)).all()
            assert len(histories(folder)) == SPACE.folds == len(fold_values(folder))
    choice = choose(found, table)
    assert choice.best.value == max(r.value for r, _ in found if r.state == "complete") > 0.5
    assert choice.chosen.n_weights <= choice.best.n_weights and choice.chosen.number in choice.within
    fitted = refit(table, choice.chosen)
    assert fitted.chosen["steps"] == int(np.median([fold["steps"] for fold in choice.chosen.chosen]))


def test_a_second_search_repeats_nothing_and_a_longer_one_adds_the_rest(tmp_path, table):
    path = table_path(tmp_path, table)
    study = open_study(tmp_path, table, SPACE, BASE)
    search(study, table, path, SPACE, BASE, InProcess())
    seen = []
    search(study, table, path, SPACE, BASE, InProcess(), on_trial=seen.append)
    assert seen == []
    longer = SPACE.model_copy(update={"trials": 6})
    assert open_study(tmp_path, table, longer, BASE) == study
    search(study, table, path, longer, BASE, InProcess(), on_trial=seen.append)
    assert [r.number for r in seen] == [4, 5]


def test_a_trial_whose_coordinator_died_is_run_again_with_its_own_parameters(tmp_path, table):
    """Item 98's Optuna half: RUNNING trials of a dead coordinator are finished, not left or drawn anew."""
    study = open_study(tmp_path, table, SPACE, BASE)
    path = table_path(tmp_path, table)

    class Dies(InProcess):
        def submit(self, fn, /, *args, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(study, table, path, SPACE, BASE, Dies())
    lost = read_spec(study.trial_folder(0)).train
    found = search(study, table, path, SPACE, BASE, InProcess())
    assert len(found) == SPACE.trials
    assert found[0][0].train == lost


def test_a_resumed_trial_gives_the_same_scores_as_one_that_was_never_stopped(tmp_path, table):
    spec = TrialSpec(number=0, study="s", train=BASE, table=table_path(tmp_path, table), folds=3, seed=0)
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    for folder in (whole, halved):
        write_spec(folder, spec)
        run_trial(folder)
    for lost in ("result.json", "scores.safetensors", "fold-01.safetensors"):
        (halved / lost).unlink()
    run_trial(halved)
    assert np.array_equal(out_of_fold_scores(whole), out_of_fold_scores(halved))
    assert read_result(whole).value == read_result(halved).value


def test_nobody_scored_was_trained_or_stopped_on(tmp_path, table, monkeypatch):
    spy = Spy()
    monkeypatch.setattr("fer_core.experiments.search.trial.model_of", lambda *_, **__: spy)
    spec = TrialSpec(number=0, study="s", train=BASE, table=table_path(tmp_path, table), folds=3, seed=0)
    write_spec(tmp_path / "trial", spec)
    result = run_trial(tmp_path / "trial")
    folds = grouped_folds(table.subjects, table.labels, 3, 0)
    assert [scored for _, _, scored in spy.told()] == [{table.subjects[c] for c in judged} for _, judged in folds]
    assert result.value == pytest.approx(1 / 6), "a cheat gains nothing"


def test_a_diverging_trial_fails_with_its_reason_and_is_never_chosen(tmp_path, table):
    """Item 88."""
    wild = TrainConfig(epochs=3, optimizer="sgd", momentum=0.99)
    cfg = SearchConfig(trials=2, folds=2, lr=(0.9, 1.0), presets=False, widths=((64, 64),), batch_sizes=(4,))
    table = dataclasses.replace(table, features=table.features * 500)
    store = FeatureStore(tmp_path / "store")
    store.tables.put(
        "wild", {"features": table.features.numpy(), "offsets": table.offsets}, store.tables.get(table.key)[1]
    )
    study = open_study(tmp_path, table, cfg, wild)
    found = search(study, table, store.tables.path("wild"), cfg, wild, InProcess())
    assert {r.state for r, _ in found} == {"failed"}
    assert all("diverged" in r.reason for r, _ in found)
    with pytest.raises(TrainingError, match=r"none of 2 trials is complete .*diverged"):
        choose(found, table)


def test_a_process_that_dies_fails_its_trial_only(tmp_path, table):
    """Item 85 for trials."""
    cfg = SearchConfig(trials=2, folds=2, widths=((),), presets=False)
    study = open_study(tmp_path, table, cfg, BASE)
    with trial_processes(1) as executor:
        found = search(study, table, table_path(tmp_path, table), cfg, BASE, executor, job=die)
    assert [r.state for r, _ in found] == ["failed", "failed"]


def die(folder):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_two_searches_of_one_study_do_not_run_at_once(tmp_path, table):
    study = open_study(tmp_path, table, SPACE, BASE)
    with FileLock(study.folder / "lock"), pytest.raises(StoreError, match="searched by another process"):
        search(study, table, table_path(tmp_path, table), SPACE, BASE, InProcess())


def test_hopeless_trials_are_pruned_and_say_so(tmp_path, table):
    study = open_study(tmp_path, table, SPACE, BASE)
    path = table_path(tmp_path, table)
    ledger = optuna.create_study(study_name="other", storage=study.storage)
    assert ledger.direction == optuna.study.StudyDirection.MINIMIZE  # another study in the file does not disturb ours
    folder = study.trial_folder(0)
    folder.mkdir()
    (folder / "prune").touch()
    found = search(study, table, path, SPACE.model_copy(update={"trials": 1}), BASE, InProcess())
    assert found[0][0].state == "pruned" and len(found[0][0].chosen) == 1


def test_refit_is_reproducible(tmp_path, table):
    cfg = SPACE.model_copy(update={"trials": 1})
    study = open_study(tmp_path, table, cfg, BASE)
    [(result, _)] = search(study, table, table_path(tmp_path, table), cfg, BASE, InProcess())
    assert equal_heads(*(refit(table, result).classifier.head for _ in range(2)))


def test_models_compete_in_one_search_and_a_cheap_one_is_kept_where_it_is_as_good(tmp_path, table):
    """Heads over noisy features against a descriptor that tells the classes apart, and costs a tenth."""
    rng = np.random.default_rng(0)
    rows = np.eye(6)[table.labels] * 8 + rng.normal(size=(table.n_clips, 6))
    both = with_texture(tmp_path, table, rows)
    space = SPACE.model_copy(update={"models": ("head", "lbp-svm"), "trials": 5, "class_weights": ("none",)})
    study = open_study(tmp_path, both, space, BASE)
    found = search(
        study, both, table_path(tmp_path, both), space, BASE, InProcess(), costs={"features": 20.0, "texture": 2.0}
    )
    assert [r.preset for r, _ in found[:3]] == ["table-4.1", "section-4.2.2", "lbp-svm"]
    by_model = {r.train.model: r for r, _ in found if r.state == "complete"}
    assert set(by_model) == {"head", "lbp-svm"}
    assert by_model["lbp-svm"].ms_per_clip < 20 < by_model["head"].ms_per_clip
    assert set(by_model["lbp-svm"].evaluations) == {"mean_scores"} and len(by_model["head"].evaluations) == 3
    assert {"cost", "temperature"} == set(by_model["lbp-svm"].chosen[0])
    choice = choose(found, both)
    assert choice.chosen.train.model == "lbp-svm"
    assert refit(both, choice.chosen).classifier.descriptors == ("texture",)


def with_texture(tmp_path, table, rows):
    """The drawn table again, its clips described by (C, d) rows."""
    told = Part(DESCRIBED, ["d"], lambda: iter([rows.astype(np.float32)]), "texture")
    clips = drawn_clips(tmp_path)
    features = [table.features[table.frames_of(np.array([c]))].numpy() for c in range(table.n_clips)]
    keys = [f"{i:032x}" for i in range(len(clips))]
    return build_table(clips, features, keys, FeatureStore(tmp_path / "store"), {"fingerprint": "0" * 32}, parts=[told])


def test_a_trial_may_be_trained_from_a_table_that_holds_no_more_than_its_model_reads(tmp_path, table):
    """A search over models reads more than the one it chooses; other features, or other people, are another matter."""
    both = with_texture(tmp_path, table, np.zeros((table.n_clips, 3)))
    head, vectors = (model_of(TrainConfig(model=model)) for model in ("head", "lbp-svm"))
    assert both.key != table.key and read_of(both, head) == read_of(table, head)
    other = drawn_table(tmp_path / "other", n_subjects=11)
    assert read_of(other, head) != read_of(table, head)
    changed = dataclasses.replace(both, part_keys={**both.part_keys, "features": "others"})
    assert read_of(changed, vectors) == read_of(both, vectors) and read_of(changed, head) != read_of(both, head)


def test_other_layers_to_start_from_are_another_study_and_another_setting(tmp_path, table):
    train, one_fold = BASE.model_copy(update={"widths": (16,), "epochs": 1}), SPACE.model_copy(update={"folds": 2})
    path = table_path(tmp_path, table)
    weight = np.random.default_rng(0).normal(size=(16, table.n_features)).astype(np.float32)
    layers = EntryStore(tmp_path, "fc")
    layers.put("a1b2", {"0.weight": weight, "0.bias": np.zeros(16, np.float32)}, {"layers": 1})
    fc = layers.path("a1b2")
    plain, _ = cross_validate(tmp_path, table, path, one_fold, train, InProcess())
    started, folder = cross_validate(tmp_path, table, path, one_fold, train, InProcess(), fc=fc)
    assert (plain.pretrained, started.pretrained) == ((), (0,))
    assert cross_validate(tmp_path, table, path, one_fold, train, InProcess(), fc=fc)[1] == folder
    assert open_study(tmp_path, table, SPACE, BASE) != open_study(tmp_path, table, SPACE, BASE, fc=fc)


def test_epochs_given_are_another_study_where_other_models_take_them_over(tmp_path, table):
    space = SPACE.model_copy(update={"models": ("head", "c3d")})
    default = TrainConfig.model_fields["epochs"].default
    assert open_study(tmp_path, table, space, TrainConfig()) != open_study(
        tmp_path, table, space, TrainConfig(epochs=default)
    )
