"""What a flow cannot do, it says before any work: none of the clips here exists, so that a look at one would fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_core.config import PromoteConfig, RunConfig, RunnerConfig, SearchConfig
from fer_core.errors import ConfigError, DataError, WeightsError
from flows.compare import compare_flow
from flows.cross_database import cross_database_flow
from flows.end_to_end import end_to_end_flow
from flows.promote import promote_flow
from flows.reproduce import reproduce_thesis_flow
from flows.search import search_flow
from tests.evaluation.test_gate import record_of
from tests.flows.test_cli import manifest


@pytest.fixture
def config(workspace: Path, tmp_path: Path) -> RunConfig:
    """Of eight people of one database, two clips each, none on the test side."""
    rows = (f"c{i}{e},c{i}{e}.mp4,s{i},{e},x,train" for i in range(8) for e in ("fear", "anger"))
    return RunConfig(manifest=str(manifest(tmp_path, *rows)))


def test_one_database_has_no_other_to_be_tested_on(config):
    with pytest.raises(DataError, match="all clips are of one database, 'x'; name two or more"):
        cross_database_flow.fn(config=config)


def test_the_thesis_needs_a_test_side(config):
    with pytest.raises(DataError, match="the split has no test side"):
        reproduce_thesis_flow.fn(config=config)


def test_other_peoples_clips_are_read_before_ours_are_compared_on(config, tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv: the manifest cannot be read"):
        compare_flow.fn(["displacement-svm"], external=str(tmp_path / "nowhere.csv"), config=config)


def test_the_whole_way_needs_people_for_its_folds(config):
    with pytest.raises(DataError, match="9 subject-disjoint folds need 9 people, but there are 8 to train on"):
        end_to_end_flow.fn(
            config=config.model_copy(update={"search": SearchConfig(folds=9), "classes": "from_manifest"})
        )


def test_a_cluster_is_refused_by_what_would_not_use_it(config):
    config = config.model_copy(update={"runner": RunnerConfig(kind="dask")})
    with pytest.raises(
        ConfigError, match=r"runs on this machine alone; set runner.kind=threads\. 'ferflow preprocess'"
    ):
        end_to_end_flow.fn(config=config)


@pytest.mark.parametrize("champion", [None, 1])
def test_a_no_of_the_gate_is_a_result(config, champion, monkeypatch, prefect_server):
    moved = []
    monkeypatch.setattr("flows.support.gate.champion_version", lambda tracking: champion)
    monkeypatch.setattr("flows.support.gate.load_out_of_fold_record", lambda tracking, version: record_of(0.5))
    monkeypatch.setattr("flows.support.gate.least_stays", lambda tracking, version: None)
    monkeypatch.setattr("flows.support.gate.promote", lambda *given, **named: moved.append(given))
    config = config.model_copy(update={"promote": PromoteConfig(min_mean_recall=0.9)})
    found = promote_flow(version=2, config=config)
    assert (found["champion"], found["passed"], moved) == (champion, False, [])
    assert "mean recall" in found["reason"]


def test_promote_shows_what_the_newest_adopted_version_does_on_the_same_clips(config, monkeypatch, prefect_server):
    records = {2: record_of(0.6), 3: record_of(0.8, seed=1)}
    monkeypatch.setattr("flows.support.gate.champion_version", lambda tracking: None)
    monkeypatch.setattr("flows.support.gate.adopted_version", lambda tracking: 3)
    monkeypatch.setattr("flows.support.gate._adopted", lambda tracking, version: version == 3)
    monkeypatch.setattr("flows.support.gate.load_out_of_fold_record", lambda tracking, version: records[version])
    monkeypatch.setattr("flows.support.gate.least_stays", lambda tracking, version: None)
    config = config.model_copy(update={"promote": PromoteConfig(beat_adopted=True)})
    found = promote_flow(version=2, config=config)
    assert not found["passed"] and "mean recall against the adopted version" in found["reason"]
    assert "adopted version 3, of which nothing was trained, has mean recall" in found["untrained"]
    assert "its training has gained nothing" in found["warning"]


def test_a_search_loads_every_backbone_before_any_face_is_made(config, monkeypatch, tmp_path):
    monkeypatch.setenv("FERFLOW_WEIGHTS", str(tmp_path / "empty"))
    told = RunConfig.model_validate({**config.model_dump(), "classes": "from_manifest"})
    asked = told.model_copy(update={"search": SearchConfig(backbones=("efficientnet-lite0", "face-api"))})
    for flow in (search_flow, end_to_end_flow):
        with pytest.raises(WeightsError, match="fetch them with 'ferflow weights fetch face-api'"):
            flow.fn(config=asked)
    asked = told.model_copy(update={"search": SearchConfig(backbones=("fer2013",), models=("displacement-svm",))})
    with pytest.raises(ConfigError, match="none of the models reads features; leave it out"):
        search_flow.fn(config=asked)
