"""The search as a whole: real trials in real processes on a small table."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
from functools import partial

import numpy as np
import pytest
import torch
from filelock import FileLock
from pebble import ProcessExpired
from safetensors.numpy import save_file

from fer_core.clips.splits import grouped_folds
from fer_core.config import BackboneConfig, SearchConfig, TrainConfig
from fer_core.dataset.table import DESCRIBED, Part, build_table
from fer_core.errors import StoreError, TrainingError
from fer_core.experiments.search.choice import choose
from fer_core.experiments.search.ledger import existing_study
from fer_core.experiments.search.processes import trial_processes
from fer_core.experiments.search.study import DEATHS, OnBackbone, cross_validate, open_study, refit, search
from fer_core.experiments.search.trial import (
    TrialResult,
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
from tests.executors import InProcess
from tests.models.spy import Spy
from tests.tables import drawn_clips, drawn_table, equal_heads

BASE = TrainConfig(epochs=6)
SPACE = SearchConfig(trials=4, folds=3, widths=((), (16,)), workers=2)


@pytest.fixture
def table(tmp_path):
    return drawn_table(tmp_path)


def table_path(tmp_path, table):
    return FeatureStore(tmp_path / "store").tables.path(table.key)


def test_search_runs_every_trial_in_a_process_and_keeps_the_best(tmp_path, table):
    space = SPACE.model_copy(update={"trials": 3})  # two presets, and one that is drawn
    study = open_study(tmp_path, table, space, BASE)
    seen = []
    with trial_processes(2) as executor:
        found = search(
            study, table, table_path(tmp_path, table), space, BASE, executor, workers=2, on_trial=seen.append
        )
    assert [r.number for r, _ in found] == [0, 1, 2] and len(seen) == 3
    assert [(r.train.lr, r.train.batch_size) for r, _ in found[:2]] == [(0.005, 20), (0.001, 30)]
    assert [r.preset for r, _ in found[:2]] == ["table-4.1", "section-4.2.2"]
    for result, folder in found:
        assert result.state in ("complete", "pruned")
        if result.state == "complete":
            assert np.isfinite(out_of_fold_scores(folder)).all()
            assert len(histories(folder)) == SPACE.folds == len(fold_values(folder))
    choice = choose(found, table, space)
    assert choice.best.value == max(r.value for r, _ in found if r.state == "complete") > 0.5
    assert choice.selected == choice.best
    assert [*choice.rankings] == [r.number for r, _ in found if r.state == "complete"]
    fitted = refit(table, choice.selected)
    assert fitted.selected["steps"] == int(np.median([fold["steps"] for fold in choice.selected.selected]))


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


def test_fault_98_a_trial_whose_coordinator_died_is_run_again_with_its_own_parameters(tmp_path, table):
    """RUNNING trials of a dead coordinator are finished, not left or drawn anew."""
    study = open_study(tmp_path, table, SPACE, BASE)
    path = table_path(tmp_path, table)

    class Dies(InProcess):
        def submit(self, fn, /, *args, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(study, table, path, SPACE, BASE, Dies())
    left = existing_study(study)
    assert left is not None and [t.state.name for t in left.trials[:1]] == ["WAITING"]
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


def test_fault_88_a_diverging_trial_fails_with_its_reason_and_is_never_chosen(tmp_path, table):
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
        choose(found, table, cfg)


@pytest.mark.parametrize(("deaths", "state"), [(DEATHS - 1, "complete"), (DEATHS, "failed")])
def test_fault_85_a_trial_whose_process_dies_is_tried_again_twice_then_it_has_failed(tmp_path, table, deaths, state):
    """Killed from outside, by the system when memory runs out for instance."""
    cfg = SearchConfig(trials=2, folds=2, widths=((),), presets=False)
    study = open_study(tmp_path, table, cfg, BASE)
    left = iter([ProcessExpired("Abnormal termination")] * deaths)

    def dies_first(folder):
        for death in left:
            raise death
        return run_trial(folder)

    found = search(study, table, table_path(tmp_path, table), cfg, BASE, InProcess(), job=dies_first)
    assert [r.state for r, _ in found] == [state, "complete"]
    if state == "failed":
        assert "its process ended 3 times without a result (ProcessExpired: Abnormal" in found[0][0].reason
        assert "lower search.workers" in found[0][0].reason


def test_a_killed_process_is_started_again(tmp_path, table):
    cfg = SearchConfig(trials=1, folds=2, widths=((),), presets=False)
    study = open_study(tmp_path, table, cfg, BASE)
    with trial_processes(1) as executor:
        found = search(study, table, table_path(tmp_path, table), cfg, BASE, executor, job=die_first)
    assert [r.state for r, _ in found] == ["complete"]


def die_first(folder):
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return run_trial(folder)


def test_a_result_stands_though_its_process_dies_before_it_has_ended(tmp_path, table):
    cfg = SearchConfig(trials=1, folds=2, widths=((),), presets=False)
    study = open_study(tmp_path, table, cfg, BASE)
    with trial_processes(1) as executor:
        found = search(study, table, table_path(tmp_path, table), cfg, BASE, executor, job=die_after)
    assert [r.state for r, _ in found] == ["complete"]


def die_after(folder):
    run_trial(folder)
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_of_the_trial_itself_is_not_tried_again(tmp_path, table):
    cfg = SearchConfig(trials=1, folds=2, widths=((),), presets=False)
    tried = []

    def refuses(folder):
        tried.append(folder)
        raise TrainingError("no training clips of fear")

    study = open_study(tmp_path, table, cfg, BASE)
    found = search(study, table, table_path(tmp_path, table), cfg, BASE, InProcess(), job=refuses)
    assert found[0][0].state == "failed" and "no training clips of fear" in found[0][0].reason and len(tried) == 1


def test_a_full_disk_ends_the_search_with_one_sentence_and_the_trial_goes_on_later(tmp_path, table):
    cfg = SearchConfig(trials=2, folds=2, widths=((),), presets=False)
    study, path = open_study(tmp_path, table, cfg, BASE), table_path(tmp_path, table)

    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StoreError, match=r"trial 0 stopped: .*No space left on device.*run the same search again"):
        search(study, table, path, cfg, BASE, InProcess(), job=full)
    assert [r.state for r, _ in search(study, table, path, cfg, BASE, InProcess())] == ["complete", "complete"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A way to search one trial: searched once, so that calling it again finds that trial or mends it."""
    root = tmp_path_factory.mktemp("searched")
    table, cfg = drawn_table(root), SPACE.model_copy(update={"trials": 1})
    study = open_study(root, table, cfg, BASE)
    again = partial(search, study, table, table_path(root, table), cfg, BASE, InProcess())
    again()
    return again


@pytest.mark.parametrize("name", ["result.json", "trial.json", "scores.safetensors", "fold-00.safetensors"])
@pytest.mark.parametrize("left", [b"", b'{"number": 0, "sta'], ids=["empty", "truncated"])
def test_a_damaged_file_of_a_trial_is_made_again(searched, name, left):
    [(before, folder)] = searched()
    scores = out_of_fold_scores(folder)
    (folder / name).write_bytes(left)
    if name.startswith("fold"):
        (folder / "result.json").unlink()  # or nobody reads it
    [(again, _)] = searched()
    assert (folder / name).read_bytes() != left
    assert again.value == before.value and np.array_equal(out_of_fold_scores(folder), scores)


def test_a_folder_of_another_setting_is_emptied_not_read(tmp_path, table):
    """The ledger was lost, or is in another database: trials are numbered from 0 again."""
    folder = tmp_path / "trial-0000"
    spec = TrialSpec(number=0, study="s", train=BASE, table=table_path(tmp_path, table), folds=2, seed=0)
    write_spec(folder, spec)
    run_trial(folder)
    write_spec(folder, spec.model_copy(update={"train": BASE.model_copy(update={"device": "cpu"})}))
    assert read_result(folder) is not None, "where it is fitted is no setting"
    write_spec(folder, spec.model_copy(update={"train": BASE.model_copy(update={"lr": 0.1})}))
    assert read_result(folder) is None and not list(folder.glob("fold-*"))


def test_fault_94_two_searches_of_one_study_do_not_run_at_once(tmp_path, table):
    study = open_study(tmp_path, table, SPACE, BASE)
    with study.held(), study.held():
        pass
    assert (study.folder / "holder").read_text().startswith(f"process {os.getpid()} on ")
    with (
        FileLock(study.folder / "lock"),
        pytest.raises(StoreError, match=f"searched by process {os.getpid()} on .* since"),
    ):
        search(study, table, table_path(tmp_path, table), SPACE, BASE, InProcess())


def test_a_trial_is_pruned_after_two_folds_where_it_is_worse_on_the_same_people(tmp_path, table):
    path = table_path(tmp_path, table)
    spec = TrialSpec(number=0, study="s", train=BASE, table=path, folds=4, seed=0)
    best = tmp_path / "trial-0000"
    write_spec(best, spec)
    assert run_trial(best).state == "complete"
    for name, train in (("hopeless", TrainConfig(epochs=1, lr=1e-6)), ("equal", BASE)):
        write_spec(tmp_path / name, spec.model_copy(update={"number": 1, "train": train, "best": best}))
    hopeless, equal = run_trial(tmp_path / "hopeless"), run_trial(tmp_path / "equal")
    assert hopeless.state == "pruned" and len(hopeless.selected) == 2
    assert hopeless.reason.endswith("against trial-0000 on the 6 people evaluated so far")
    assert equal.state == "complete" and equal.value == read_result(best).value


def test_trials_are_pruned_once_five_are_complete_against_the_best_of_them(tmp_path, table):
    study, path = open_study(tmp_path, table, SPACE, BASE), table_path(tmp_path, table)
    found = search(study, table, path, SPACE.model_copy(update={"trials": 7}), BASE, InProcess())
    against = [read_spec(folder).best for _, folder in found]
    assert against[:5] == [None] * 5
    best = max((r for r, _ in found[:5]), key=lambda r: r.value)
    assert against[5] == study.trial_folder(best.number)
    assert all(r.state == "complete" for r, _ in found[:5])
    (against[5] / "scores.safetensors").write_bytes(b"")  # the best one is made again, and not against itself
    again = search(study, table, path, SPACE.model_copy(update={"trials": 7}), BASE, InProcess())
    assert [r.value for r, _ in again] == [r.value for r, _ in found]


@pytest.mark.parametrize("models", [(), ("head", "lbp-svm")], ids=["one model", "several"])
def test_a_search_that_was_stopped_draws_what_an_undisturbed_one_draws(tmp_path, table, models, monkeypatch):
    """Past the ten random trials with which the sampler starts; no trial is repeated in a later session."""
    table = with_texture(tmp_path, table, np.zeros((table.n_clips, 3)))
    path = table_path(tmp_path, table)
    space = SPACE.model_copy(update={"models": models, "presets": False, "trials": 14})

    def drawn(workspace, *sessions):
        study = open_study(workspace, table, space, BASE)
        for trials in sessions:
            cfg = space.model_copy(update={"trials": trials})
            found = search(study, table, path, cfg, BASE, InProcess(), job=valued)
        return [r.train for r, _ in found]

    undisturbed = drawn(tmp_path / "whole", 14)
    assert drawn(tmp_path / "stopped", 3, 6, 12, 14) == undisturbed
    settings = [t.model_dump_json() for t in undisturbed if t.model == "head"]
    assert len(set(settings)) == len(settings)


def valued(folder):
    """A trial whose value is a function of its setting; nothing is fitted."""
    spec = read_spec(folder)
    value = 1 / (1 + abs(np.log(spec.train.lr / 1e-3))) + 0.1 * (spec.train.model == "head")
    k = 6 * 4 * 12
    save_file({"scores": np.zeros((k, 6), np.float32)}, folder / "scores.safetensors")
    result = TrialResult(number=spec.number, state="complete", train=spec.train, value=value)
    (folder / "result.json").write_text(result.model_dump_json())
    return result


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
        study, both, table_path(tmp_path, both), space, BASE, InProcess(), latency={"features": 20.0, "texture": 2.0}
    )
    assert [r.preset for r, _ in found[:3]] == ["table-4.1", "section-4.2.2", "lbp-svm"]
    by_model = {r.train.model: r for r, _ in found if r.state == "complete"}
    assert set(by_model) == {"head", "lbp-svm"}
    assert by_model["lbp-svm"].ms_per_clip < 20 < by_model["head"].ms_per_clip
    assert set(by_model["lbp-svm"].evaluations) == {"mean_scores"} and len(by_model["head"].evaluations) == 3
    assert {"cost", "temperature"} == set(by_model["lbp-svm"].selected[0])
    choice = choose(found, both, space.model_copy(update={"max_ms": 20.0}))
    assert choice.selected.train.model == "lbp-svm"
    assert refit(both, choice.selected).classifier.descriptors == ("texture",)


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


def test_a_searched_backbone_gives_a_trial_its_features_and_its_cost(tmp_path, table):
    """Two tables of the same clips, one of noise: the trials on the other are better, and each says what it cost."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(table.features.shape, generator=rng).half().split(4)
    store, keys = FeatureStore(tmp_path / "store"), [f"{i:030x}ff" for i in range(table.n_clips)]
    poor = build_table(drawn_clips(tmp_path), [rows.numpy() for rows in noise], keys, store, {"fingerprint": "0" * 32})
    backbones = {
        name: OnBackbone(
            BackboneConfig(name=name), of, store.tables.path(of.key), latency={"features": ms}
        )
        for name, of, ms in (("resnet18", poor, 1.0), ("fer2013", table, 1000.0))
    }  # fmt: skip
    space = SPACE.model_copy(update={"backbones": tuple(backbones), "prune": False, "trials": 5})
    study = open_study(tmp_path, poor, space, BASE, backbones=backbones)
    assert study != open_study(tmp_path, poor, space, BASE, backbones=backbones | {"fer2013": backbones["resnet18"]})
    found = search(
        study, poor, store.tables.path(poor.key), space, BASE, InProcess(), backbones=backbones
    )  # fmt: skip
    assert [r.backbone for r, _ in found[:4]] == ["resnet18", "fer2013"] * 2, "the presets, with each of them"
    for result, folder in found:
        assert read_spec(folder).backbone == BackboneConfig(name=result.backbone)
        assert (result.value > 0.3) == (result.backbone == "fer2013") == (result.ms_per_clip > 1000)
    assert choose(found, poor, space).selected.backbone == "fer2013"
