"""The commands that run flows: what they refuse, they refuse before a server starts and before any face is made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fer_core.config import BackboneConfig, TrainConfig
from fer_core.emotions import SIX
from fer_core.errors import StoreError
from fer_core.experiments.search.trial import TrialResult, TrialSpec, write_spec
from flows.commands.run_flow import _full_disk_explained
from tests.flows.test_cli import manifest, run


class Begun(Exception):
    """A flow was run, that is: a server started."""


@pytest.fixture(autouse=True)
def no_flow(monkeypatch, workspace):
    def begin(session, module, flow, config, **arguments):
        raise Begun

    for module in ("runs", "compare", "reproduce"):
        monkeypatch.setattr(f"flows.commands.{module}.run_flow", begin)


@pytest.fixture
def clips(tmp_path) -> str:
    """`manifest=…` of eight people, a clip of each emotion; the files do not exist."""
    rows = (f"c{i}{e},c{i}{e}.mp4,s{i},{e},x," for i in range(8) for e in SIX)
    return f"manifest={manifest(tmp_path, *rows)}"


def trial(folder: Path, backbone: BackboneConfig | None = None, **result: object) -> Path:
    found = TrialResult.model_validate({"number": 0, **result})
    spec = TrialSpec(number=0, study="s", train=found.train, table=folder, folds=5, seed=0, backbone=backbone)
    write_spec(folder, spec)
    (folder / "result.json").write_text(found.model_dump_json())
    return folder


def refused(*args: object) -> str:
    done = run(*args)
    assert done.exit_code == 1 and "Traceback" not in done.stderr, done.exception
    return done.stderr.strip().splitlines()[-1]


def test_train_reads_its_trial_first(tmp_path, clips):
    assert "/nosuch holds no finished trial; name the folder of a complete one" in refused(
        "train", "--trial", "/nosuch", "--set", clips
    )
    pruned = trial(tmp_path / "pruned", state="pruned", train=TrainConfig())
    assert "is of a trial that is pruned" in refused("train", "--trial", pruned, "--set", clips)
    assert "name a trial or a model, not both" in refused("train", "--trial", pruned, "--model", "fan-self")


def test_train_asks_for_the_weights_that_its_trial_reads(tmp_path, clips):
    unused = trial(tmp_path / "svm", state="complete", train=TrainConfig().with_model("displacement-svm"))
    head = trial(tmp_path / "head", state="complete", train=TrainConfig())
    settings = ["--set", clips, "--set", "backbone.name=vgg16", "--set", "backbone.weights=/nowhere/vgg.safetensors"]
    assert isinstance(run("train", "--trial", unused, *settings).exception, Begun)
    assert "no weights file at /nowhere" in refused("train", "--trial", head, *settings)
    searched = BackboneConfig(name="resnet18", weights="/nowhere/searched.pth")
    other = trial(tmp_path / "other", backbone=searched, state="complete", train=TrainConfig())
    assert "no weights file at /nowhere/searched.pth" in refused("train", "--trial", other, "--set", clips)


def test_without_the_weights_of_the_default_backbone_the_demo_says_how_to_get_them(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("FERFLOW_WEIGHTS", str(tmp_path / "empty"))
    assert "fetch them with 'ferflow weights fetch fer2013'" in refused("demo")
    assert not list(workspace.rglob("*.mp4"))


@pytest.mark.parametrize(
    ("words", "others"),
    [
        (["compare", "displacement-svm", "landmarks-svm"], ["compare", "displacement-svm"]),
        (["train", "--model", "landmarks-motion"], ["train", "--model", "displacement-svm"]),
        (["search", "--set", "search.models=[landmarks-svm]"], ["search", "--set", "search.models=[displacement-svm]"]),
    ],
    ids=" ".join,
)
def test_a_model_of_landmarks_asks_for_its_network_before_any_work(clips, tmp_path, monkeypatch, words, others):
    monkeypatch.setenv("FERFLOW_WEIGHTS", str(tmp_path / "empty"))
    assert "fetch them with 'ferflow weights fetch face-landmarks'" in refused(*words, "--set", clips)
    assert isinstance(run(*others, "--set", clips).exception, Begun)


@pytest.mark.parametrize(
    "words",
    [["search"], ["train"], ["compare", "displacement-svm"], ["reproduce", "thesis", "--cross-validate"]],
    ids=" ".join,
)
def test_more_folds_than_people_are_refused_by_the_settings_name(clips, words):
    settings = ["--set", clips, "--set", "backbone.name=efficientnet-lite0", "--set", "split.test=0.2"]
    told = refused(*words, *settings, "--set", "search.folds=40")
    assert "40 subject-disjoint folds need 40 people, but there are 6 to train on" in told
    assert "; set search.folds to 6 or less" in told


def test_a_trial_brings_its_own_folds(tmp_path, clips):
    done = trial(tmp_path / "svm", state="complete", train=TrainConfig().with_model("displacement-svm"))
    assert isinstance(run("train", "--trial", done, "--set", clips, "--set", "search.folds=40").exception, Begun)


@pytest.mark.parametrize(
    "words", ["--only 4", "--shrink 3", "--fixed-epochs", "--cross-validate", "--setting table-4.1", "--out page"]
)
def test_a_run_again_takes_no_option_of_the_thesis(words):
    option = words.split()[0]
    assert f"'reproduce thesis' alone takes {option}; run" in refused("reproduce", "0" * 32, *words.split())
    several = refused("reproduce", "0" * 32, "--only", 4, "--shrink", 3)
    assert "alone takes --shrink and --only; run" in several


def test_a_run_again_takes_no_setting_that_would_change_nothing():
    told = refused("reproduce", "0" * 32, "--set", "train.lr=0.1")
    assert "--set train.lr=0.1 would change nothing" in told and "a manifest behind it" in told
    assert "cannot be read" in refused("reproduce", "0" * 32, "--set", "limits.max_quarantine=0.1")


def test_the_thesis_has_its_setting_without_being_told(clips, monkeypatch):
    begun = {}
    monkeypatch.setattr("flows.commands.reproduce.run_flow", lambda *_, **arguments: begun.update(arguments) or begun)
    settings = ["--set", clips, "--set", "backbone.name=efficientnet-lite0"]
    assert run("reproduce", "thesis", *settings).exit_code == 0
    assert (begun["setting"], begun["shrink"], begun["only"]) == ("table-4.1", 1, [])


@pytest.mark.parametrize("words", [["evaluate", "clips.csv"], ["demo"]], ids=lambda words: words[0])
def test_a_cluster_is_refused_by_what_would_not_use_it(words, tmp_path):
    (tmp_path / "run.yaml").write_text("runner: {kind: dask}\n")
    told = refused(*words, "--config", tmp_path / "run.yaml")
    assert "runs on this machine alone; set runner.kind=threads" in told


def test_a_word_that_is_no_run_is_told_where_ids_are():
    told = refused("reproduce", "Thesis")
    assert "there is none of this id at sqlite:" in told and "say 'ferflow reproduce thesis' for the thesis" in told


def test_a_version_that_is_not_there_is_refused_with_those_that_are():
    assert "version 99 of 'face-emotion' is not there at sqlite:" in refused("promote", "--version", 99)
    assert "make one with 'ferflow train'" in refused("promote", "--version", 99)
    assert "make a candidate with 'ferflow train'" in refused("promote")


@pytest.mark.parametrize(("free", "told"), [(4096, StoreError), (2**30, RuntimeError)], ids=["full", "not full"])
def test_what_fails_on_a_full_disk_is_told_in_one_sentence(tmp_path, monkeypatch, free, told):
    """Prefect, MLflow and Optuna each fail in a way of their own, with a traceback."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    told_so = "the disk that holds the workspace .* is full" if told is StoreError else "500"
    with pytest.raises(told, match=told_so), _full_disk_explained(tmp_path):
        raise RuntimeError("Server error '500 Internal Server Error'")


def test_manifest_is_named_behind_the_command(monkeypatch, tmp_path):
    rows = (f"c{i}{e},c{i}{e}.mp4,s{i},{e},x," for i in range(8) for e in SIX)
    path = manifest(tmp_path, *rows)
    taken = []

    def begin(session, module, flow, config, **arguments):
        taken.append(config.manifest)
        raise Begun

    for module in ("runs", "compare", "reproduce"):
        monkeypatch.setattr(f"flows.commands.{module}.run_flow", begin)
    small = ["--set", "split.test=0.2", "--set", "train.model=displacement-svm"]
    for words in (["preprocess", path], ["search", path], ["train", path], ["compare", path, "displacement-svm"]):
        assert isinstance(run(*words, *(small if words[0] != "preprocess" else [])).exception, Begun), words
    assert taken == [str(path)] * 4
    assert "two manifests are named" in refused("search", path, "--set", "manifest=other.csv")
    assert "name one manifest, not " in refused("compare", path, "other.csv")
