"""From a manifest to the table that training reads, on drawn clips with the real lite0 convolutions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fer_core.clips.clip import Split
from fer_core.clips.manifest import read_manifest, write_manifest
from fer_core.config import LimitsConfig, PreprocessConfig, RunConfig
from fer_core.corpus import (
    ClipRow,
    data_fingerprint,
    keep_usable,
    load_corpus,
    prepare_clips,
    store_features,
    stored_faces,
    training_table,
)
from fer_core.errors import ClipStatus, DataError
from fer_core.evaluation.metrics import RULES
from fer_core.model.backbone import load_backbone
from fer_core.workspace import Workspace

CFG = PreprocessConfig(max_frames=3)
LIMITS = LimitsConfig()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A workspace with the clips of five drawn people, and its settings."""
    from fer_core.clips.synthetic import synthesize

    root = tmp_path_factory.mktemp("corpus")
    synthesize(root / "drawn", 5, 0)
    workspace = Workspace.open(str(root / "ws"))
    return workspace, RunConfig(
        workspace=str(workspace.root), manifest=str(root / "drawn" / "manifest.csv"), preprocess=CFG
    )


@pytest.fixture(scope="module")
def prepared(drawn):
    workspace, cfg = drawn
    manifest = load_corpus(cfg, workspace)
    return manifest, prepare_clips(manifest.clips, CFG, LIMITS, workspace)


def test_a_second_run_does_no_work_and_says_so(drawn, prepared):
    manifest, rows = prepared
    again = prepare_clips(manifest.clips, CFG, LIMITS, drawn[0])
    assert not any(row.cached for row in rows) and all(row.cached for row in again)
    assert [(r.clip, r.key, r.n_used) for r in again] == [(r.clip, r.key, r.n_used) for r in rows]


def test_rows_survive_the_way_through_json(prepared):
    assert [ClipRow.from_json(row.to_json()) for row in prepared[1]] == prepared[1]


def test_the_table_holds_no_test_clip(drawn, prepared):
    workspace, _ = drawn
    manifest, rows = prepared
    backbone = load_backbone(RunConfig().backbone)
    assert store_features(rows, backbone, workspace) == sum(r.n_used for r in rows)
    assert store_features(rows, backbone, workspace) == 0
    table = training_table(manifest, rows, backbone, CFG, workspace)
    held_out = {c.id for c in manifest.of(Split.TEST).clips}
    assert held_out and not held_out & set(table.clip_ids)
    assert not {c.subject for c in manifest.of(Split.TEST).clips} & set(table.subjects)
    assert table.synthetic and table.note["fingerprint"] == data_fingerprint(manifest, rows)


def test_the_fingerprint_knows_labels_and_split_but_not_names(drawn, prepared):
    manifest, rows = prepared
    whole = data_fingerprint(manifest, rows)
    assert data_fingerprint(manifest, list(reversed(rows))) == whole
    assert data_fingerprint(manifest, rows[1:]) != whole


def test_unusable_clips_stop_a_run_only_above_the_quarantine(prepared, caplog):
    rows = list(prepared[1])
    rows[0] = dataclasses.replace(rows[0], status=ClipStatus.DAMAGED, reason="0 of 14 frames decoded")
    with pytest.raises(DataError, match=r"1 of 30 clips cannot be used \(1 damaged\).* 0 of 14 frames decoded"):
        keep_usable(rows, LIMITS)
    assert len(keep_usable(rows, LimitsConfig(max_quarantine=0.05))) == 29
    assert "is left out" in caplog.text


def test_a_lost_entry_is_named(drawn, prepared):
    row = dataclasses.replace(prepared[1][0], key="0" * 32)
    with pytest.raises(DataError, match=f"clip '{row.clip}': its faces are no longer in the store"):
        list(stored_faces([row], drawn[0]))


def test_no_manifest_names_three_ways_to_get_one(tmp_path):
    with pytest.raises(DataError, match=r"data scan .*data synth.*--set manifest=FILE"):
        load_corpus(RunConfig(), Workspace.open(str(tmp_path)))


def test_a_half_filled_split_column_is_refused(tmp_path, drawn):
    manifest = read_manifest(Path(drawn[1].manifest))
    first = [dataclasses.replace(c, split=Split.TRAIN) for c in manifest.clips[:6]]
    half = dataclasses.replace(manifest, clips=(*first, *manifest.clips[6:]))
    write_manifest(half, tmp_path / "half.csv")
    with pytest.raises(DataError, match="24 of 30 clips have no split"):
        load_corpus(RunConfig(manifest=str(tmp_path / "half.csv")), Workspace.open(str(tmp_path / "ws")))


def test_a_candidate_is_made_tested_once_and_reads_back(drawn, prepared):
    from fer_core.candidate import make_candidate
    from fer_core.search.study import judge_setting
    from tests.search.test_study import InProcess

    workspace, cfg = drawn
    manifest, rows = prepared
    cfg = cfg.model_copy(
        update={
            "train": cfg.train.model_copy(update={"epochs": 4, "widths": (16,)}),
            "search": cfg.search.model_copy(update={"folds": 2}),
        }
    )
    backbone = load_backbone(cfg.backbone)
    table = training_table(manifest, rows, backbone, CFG, workspace)
    path = workspace.features.tables.path(table.key)
    result, folder = judge_setting(workspace.root, table, path, cfg.search, cfg.train, InProcess())
    made = make_candidate(table, result, folder, backbone, manifest, rows, cfg, workspace)
    again = make_candidate(table, result, folder, backbone, manifest, rows, cfg, workspace)
    assert made.bundle.hashes == again.bundle.hashes  # same setting, same bytes
    assert made.test and again.test and again.test.again and again.test.openings == 1
    assert set(made.test.evaluations) == set(RULES)
    assert made.test.evaluations["mean_scores"]["n_clips"] == len(manifest.of(Split.TEST))
    assert made.bundle.facts.synthetic and made.out_of_fold.after.expected_error >= 0
