"""From a manifest to the table that training reads, on drawn clips with the real lite0 convolutions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest, read_manifest, write_manifest
from fer_core.config import (
    AugmentConfig,
    LimitsConfig,
    PreprocessConfig,
    RunConfig,
    ScoreConfig,
    SearchConfig,
    TrainConfig,
)
from fer_core.dataset.dataset import Dataset, data_fingerprint, keep_usable
from fer_core.dataset.load import check_classes, check_folds, load_dataset, trained_on
from fer_core.dataset.table import FeatureRequirements
from fer_core.dataset.training_table import store_features, training_table
from fer_core.emotions import SEVEN, Emotion
from fer_core.errors import ClipStatus, ConfigError, DataError
from fer_core.evaluation.metrics import RULES
from fer_core.features.augment import PLAIN, views_of
from fer_core.features.descriptors.descriptor import course_config
from fer_core.features.neutral_reference import NEUTRAL
from fer_core.features.store import FeatureStore
from fer_core.models.bundle import read_bundle
from fer_core.models.registry import requirements_of
from fer_core.preprocess.clip_rows import ClipRow, store_faces, stored_faces
from fer_core.scoring.scorer import ClipScorer
from fer_core.workspace import Workspace
from tests.saved_models import lite0

CFG = PreprocessConfig(max_frames=3)
LIMITS = LimitsConfig()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Fits of trials set one thread. The last bit of a feature depends on the number, and bytes are compared here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    manifest = load_dataset(cfg, workspace)
    return manifest, store_faces(manifest.clips, CFG, LIMITS, workspace.store)


def test_a_second_run_does_no_work_and_says_so(drawn, prepared):
    manifest, rows = prepared
    again = store_faces(manifest.clips, CFG, LIMITS, drawn[0].store)
    assert not any(row.cached for row in rows) and all(row.cached for row in again)
    assert [(r.clip, r.key, r.n_used) for r in again] == [(r.clip, r.key, r.n_used) for r in rows]


def test_rows_survive_the_way_through_json(prepared):
    assert [ClipRow.from_json(row.to_json()) for row in prepared[1]] == prepared[1]


def test_the_table_holds_no_test_clip(drawn, prepared):
    workspace, _ = drawn
    manifest, rows = prepared
    backbone = lite0()
    assert store_features(rows, backbone, workspace) == sum(r.n_used for r in rows)
    assert store_features(rows, backbone, workspace) == 0
    table = training_table(Dataset.of(manifest, rows), backbone, CFG, workspace)
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
        list(stored_faces([row], drawn[0].store))


def test_no_manifest_names_three_ways_to_get_one(tmp_path):
    with pytest.raises(DataError, match=r"data scan .*data synth.*name yours behind the command"):
        load_dataset(RunConfig(), Workspace.open(str(tmp_path)))


def test_a_half_filled_split_column_is_refused(tmp_path, drawn):
    manifest = read_manifest(Path(drawn[1].manifest))
    first = [dataclasses.replace(c, split=Split.TRAIN) for c in manifest.clips[:6]]
    half = dataclasses.replace(manifest, clips=(*first, *manifest.clips[6:]))
    write_manifest(half, tmp_path / "half.csv")
    with pytest.raises(DataError, match="24 of 30 clips have no split"):
        load_dataset(RunConfig(manifest=str(tmp_path / "half.csv")), Workspace.open(str(tmp_path / "ws")))


def test_a_candidate_is_made_tested_once_and_reads_back(drawn, prepared):
    from fer_core.experiments.candidate import make_candidate
    from fer_core.experiments.search.study import cross_validate
    from tests.executors import InProcess

    workspace, cfg = drawn
    manifest, rows = prepared
    cfg = cfg.model_copy(
        update={
            "train": cfg.train.model_copy(update={"epochs": 4, "widths": (16,)}),
            "search": cfg.search.model_copy(update={"folds": 2}),
        }
    )
    backbone = lite0()
    table = training_table(Dataset.of(manifest, rows), backbone, CFG, workspace)
    path = FeatureStore(workspace.store).tables.path(table.key)
    result, folder = cross_validate(workspace.root, table, path, cfg.search, cfg.train, InProcess())
    made = make_candidate(table, result, folder, backbone, manifest, rows, cfg, workspace)
    again = make_candidate(table, result, folder, backbone, manifest, rows, cfg, workspace)
    assert made.bundle.hashes == again.bundle.hashes  # same setting, same bytes
    assert made.test and again.test and again.test.again and again.test.openings == 1
    assert set(made.test.evaluations) == set(RULES)
    assert made.test.evaluations["mean_scores"]["n_clips"] == len(manifest.of(Split.TEST))
    assert made.bundle.facts.synthetic and made.out_of_fold.after.expected_error >= 0


@pytest.mark.parametrize(
    ("train", "search", "features", "maps"),
    [
        ({}, None, 0, 0),
        ({"augment": AugmentConfig(views=4)}, None, 3, 0),
        ({"transfer": "last_block"}, None, 0, 1),
        ({"transfer": "last_block", "augment": AugmentConfig(views=2)}, None, 0, 2),
        ({"augment": AugmentConfig(views=4)}, {"views": (1, 2)}, 1, 0),
        ({"transfer": "last_block"}, {"transfer": ("frozen",)}, 0, 0),
        ({}, {"transfer": ("frozen", "last_block"), "views": (1, 3)}, 2, 3),
    ],
)
def test_a_run_wants_what_its_fits_will_read_and_no_more(train, search, features, maps):
    extra = requirements_of(TrainConfig(**train), SearchConfig(**search) if search else None)
    assert (len(extra.features), len(extra.maps)) == (features, maps)
    assert PLAIN not in extra.features and (not maps or extra.maps[0] == PLAIN)


def test_no_view_of_a_test_clip_is_ever_taken(drawn, prepared, tmp_path):
    from fer_core.features.store import feature_key

    workspace, _ = drawn
    manifest, rows = prepared
    backbone = lite0()
    views = views_of(AugmentConfig(views=2, seed=5))
    trained = {c.id for c in trained_on(manifest).clips}
    extra = FeatureRequirements(features=views[1:], maps=views)
    store_features(rows, backbone, workspace, extra=extra, trained=trained)
    assert store_features(rows, backbone, workspace, extra=extra, trained=trained) == 0
    for row in rows:
        for layer, view in extra.parts():
            taken = feature_key(row.key, backbone, view, layer) in FeatureStore(workspace.store).entries
            assert taken == (row.clip in trained)
    assert len(trained) < len(rows)


def in_a_few_epochs(cfg, **train):
    setting = cfg.train.model_copy(update={"epochs": 3, "widths": (16,), **train})
    return cfg.model_copy(update={"train": setting, "search": cfg.search.model_copy(update={"folds": 2})})


def candidate_of(cfg, manifest, rows, workspace, course=()):
    from fer_core.experiments.candidate import make_candidate
    from fer_core.experiments.search.study import cross_validate
    from tests.executors import InProcess

    backbone = lite0()
    extra = requirements_of(cfg.train)
    table = training_table(Dataset.of(manifest, rows, course), backbone, CFG, workspace, extra)
    result, folder = cross_validate(
        workspace.root, table, FeatureStore(workspace.store).tables.path(table.key), cfg.search, cfg.train, InProcess(),
        block=FeatureStore(workspace.store).store_block(backbone) if extra.maps else None,
    )  # fmt: skip
    made = make_candidate(table, result, folder, backbone, manifest, rows, cfg, workspace, course)
    return backbone, table, made


def test_a_fine_tuned_model_serves_the_scores_it_was_fitted_with(drawn, prepared):
    """The stored maps that a block is tuned on, and the pixels that its bundle is served, give the same bytes."""
    import numpy as np
    import torch

    from fer_core.models.fc_head import frame_scores

    workspace, cfg = drawn
    manifest, rows = prepared
    cfg = in_a_few_epochs(cfg, transfer="last_block", augment=AugmentConfig(views=2), block_lr=1e-3)
    backbone, table, made = candidate_of(cfg, manifest, rows, workspace)
    served = made.bundle.backbone
    assert served.weights_digest != backbone.weights_digest and served.trunk_digest == backbone.trunk_digest
    for clip in range(3):
        [row] = [r for r in rows if r.clip == table.clip_ids[clip]]
        [faces] = stored_faces([row], workspace.store)
        want = made.fitted.classifier.frame_scores(table, np.array([clip]))
        features = torch.from_numpy(served.features(faces.pixels))
        assert np.array_equal(frame_scores(made.bundle.classifier.head, features).numpy(), want)
    again = candidate_of(cfg, manifest, rows, workspace)[2]
    assert again.bundle.hashes == made.bundle.hashes


def test_a_head_relative_to_neutral_serves_the_scores_it_was_fitted_with(drawn, prepared):
    """The stored neutral faces of the table, and those of a clip that is scored from its video, give the same bytes."""
    workspace, cfg = drawn
    manifest, rows = prepared
    cfg = in_a_few_epochs(cfg, relative="neutral")
    course = store_faces(manifest.clips, course_config(CFG), LIMITS, workspace.store)
    backbone, table, made = candidate_of(cfg, manifest, rows, workspace, course=course)
    assert table.described[NEUTRAL].shape == (table.n_clips, backbone.n_features)
    assert made.bundle.record.classifier.relative == "neutral" and made.test
    clip = next(c for c in manifest.clips if c.id == table.clip_ids[1])
    [row] = [r for r in rows if r.clip == clip.id]
    want = made.fitted.classifier.frame_scores(table, np.array([1]))
    for store_root in (workspace.store, None):
        scorer = ClipScorer(read_bundle(made.folder), ScoreConfig(explain=1), limits=LIMITS, store_root=store_root)
        scored = scorer.score(clip)
        assert scored.n_used == row.n_used and np.array_equal(scored.frame_scores, want)
        assert len(scored.decisive) == 1 and scored.explanation


def test_seven_classes_go_the_whole_way_with_first_frames_as_neutral(drawn):
    workspace, cfg = drawn
    cfg = in_a_few_epochs(cfg.model_copy(update={"classes": "seven", "neutral_from": ("ferflow-synthetic",)}))
    manifest = load_dataset(cfg, workspace)
    neutral = [c for c in manifest.clips if c.emotion is Emotion.NEUTRAL]
    assert {c.subject for c in neutral} == set(manifest.subjects) and len(neutral) == len(manifest.subjects)
    rows = store_faces(manifest.clips, CFG, LIMITS, workspace.store)
    by_id = {row.clip: row for row in rows}
    assert len({row.digest for row in rows}) == len(rows)  # a file and its first frames are judged apart
    for clip, faces in zip(neutral, stored_faces([by_id[c.id] for c in neutral], workspace.store), strict=True):
        assert faces.ledger.frame.tolist() == [1, 2], clip.id
    _, table, made = candidate_of(cfg, manifest, rows, workspace)
    assert table.classes == made.bundle.classes == SEVEN
    assert made.test and len(made.test.evaluations["mean_scores"]["confusion"]) == 7
    assert len(made.test.evaluations["mean_scores"]["verdicts"]) == len(manifest.of(Split.TEST))


def test_seven_classes_without_neutral_clips_or_cuts_are_refused(drawn):
    workspace, cfg = drawn
    seven = cfg.model_copy(update={"classes": "seven"})
    with pytest.raises(DataError, match=r"no clip to train on shows neutral;.* \(here are ferflow-synthetic\)"):
        check_classes(load_dataset(seven, workspace))
    uncut = seven.model_copy(
        update={"neutral_from": ("ferflow-synthetic",), "preprocess": PreprocessConfig(apex="last")}
    )
    with pytest.raises(ConfigError, match=r"preprocess\.apex is 'last'"):
        load_dataset(uncut, workspace)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ("from_manifest", ("disgust", "happiness", "sadness", "surprise")),
        (("pain", "no_pain"), ("no_pain", "pain")),
    ],
    ids=["four of the six", "words of ones own"],
)
def test_classes_of_the_manifest_go_the_whole_way(drawn, tmp_path, names, labels):
    workspace, cfg = drawn
    clips = read_manifest(Path(cfg.manifest)).clips
    own = [c for c in clips if c.emotion in labels] or [
        dataclasses.replace(c, emotion=labels[c.emotion in ("fear", "disgust", "sadness")]) for c in clips
    ]
    write_manifest(Manifest.of_classes(own, None), tmp_path / "own.csv")
    settings = {**cfg.model_dump(), "classes": names, "manifest": str(tmp_path / "own.csv")}
    cfg = in_a_few_epochs(RunConfig.model_validate(settings))
    manifest = load_dataset(cfg, workspace)
    check_folds(manifest, cfg.search)
    rows = store_faces(manifest.clips, CFG, LIMITS, workspace.store)
    _, table, made = candidate_of(cfg, manifest, rows, workspace)
    assert manifest.classes == table.classes == made.bundle.classes == labels
    assert [labels[c] for c in table.labels] == [
        c.emotion for c in trained_on(manifest).clips if c.id in table.clip_ids
    ]
    assert made.test and np.sum(made.test.evaluations["mean_scores"]["confusion"]) == len(manifest.of(Split.TEST))
    again = read_bundle(made.folder)
    assert again.classes == labels
    faces = next(iter(stored_faces(rows[:1], workspace.store)))
    assert ClipScorer(again).judge(faces).frames.shape == (len(faces.pixels), len(labels))
