"""Stored features: cached equals fresh, and one table for all trials."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fer_core.config import BackboneConfig
from fer_core.errors import DataError, StoreError
from fer_core.model.backbone import load_backbone
from fer_core.model.features import FeatureStore, build_table, feature_key, load_fc, load_table
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from tests.tables import drawn_clips, drawn_table


def some_faces(n=3, key="f" * 32):
    rng = np.random.default_rng(1)
    ledger = Ledger(
        frame=np.arange(n, dtype=np.int32), time_s=np.zeros(n, np.float32), status=(FrameStatus.USED,) * n,
        box=np.zeros((n, 4), np.int32), weight=np.ones(n, np.float32),
    )  # fmt: skip
    pixels = rng.integers(0, 256, (n, 224, 224), dtype=np.uint8)
    return Faces(key=key, clip_digest="d", pixels=pixels, ledger=ledger, n_frames=n)


def test_cached_features_equal_fresh_ones_and_are_not_computed_again(tmp_path, monkeypatch):
    store, backbone = FeatureStore(tmp_path), load_backbone(BackboneConfig())
    fresh = store.extract(some_faces(), backbone)
    monkeypatch.setattr(backbone, "features", None)  # would raise if called
    assert np.array_equal(store.extract(some_faces(), backbone), fresh)


def test_a_corrupt_entry_is_reported_and_made_again(tmp_path, caplog):
    store, backbone = FeatureStore(tmp_path), load_backbone(BackboneConfig())
    fresh = store.extract(some_faces(), backbone)
    path = store.entries.path(feature_key("f" * 32, backbone))
    path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(store.extract(some_faces(), backbone), fresh)
    assert "is corrupt" in caplog.text


def test_whatever_differs_changes_the_key():
    backbone = load_backbone(BackboneConfig())
    keys = {feature_key("a", backbone), feature_key("b", backbone)}
    backbone.weights_digest = "another"
    keys.add(feature_key("a", backbone))
    assert len(keys) == 3


def test_a_table_is_written_once_and_read_back_whole(tmp_path):
    table = drawn_table(tmp_path)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    before = path.stat().st_mtime_ns
    again = drawn_table(tmp_path)
    assert path.stat().st_mtime_ns == before
    for name in ("labels", "offsets"):
        assert np.array_equal(getattr(table, name), getattr(again, name))
    assert torch.equal(table.features, load_table(path).features)
    assert table.synthetic and table.subjects[0] == "drawn:s0"


def test_frames_keep_their_clips_label(tmp_path):
    table = drawn_table(tmp_path)
    rows = table.frames_of(np.array([7, 2]))
    assert rows.tolist() == [28, 29, 30, 31, 8, 9, 10, 11]
    assert table.frame_labels()[rows].tolist() == [table.labels[7]] * 4 + [table.labels[2]] * 4


def test_a_clip_without_faces_or_label_is_refused_by_name(tmp_path):
    clips = drawn_clips(tmp_path, 1)
    rows = [np.zeros((2, 4), np.float16)] * 6
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(DataError, match="clip 's0/anger': no faces"):
        build_table(clips, [rows[0][:0], *rows[1:]], ["k"] * 6, store, {})
    with pytest.raises(DataError, match="clip 's0/anger': no label"):
        build_table([dataclasses.replace(clips[0], emotion=None), *clips[1:]], rows, ["k"] * 6, store, {})
    with pytest.raises(DataError, match="no clip is left"):
        build_table([], [], [], store, {})


def test_a_missing_table_says_which(tmp_path):
    with pytest.raises(StoreError, match=r"gone\.safetensors cannot be read"):
        load_table(tmp_path / "gone.safetensors")


def test_fc_layers_are_stored_once_for_all_trials(tmp_path):
    store, backbone = FeatureStore(tmp_path), load_backbone(BackboneConfig())
    assert store.store_fc(backbone) is None
    backbone.fc = ((torch.rand(4, 3), torch.rand(4)), (torch.rand(2, 4), torch.rand(2)))
    path = store.store_fc(backbone)
    for (weight, bias), (w, b) in zip(backbone.fc, load_fc(path), strict=True):
        assert torch.equal(weight, w) and torch.equal(bias, b)
