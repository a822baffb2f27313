"""Stored features: cached equals fresh, and one table for all trials."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fer_core.config import AugmentConfig, BackboneConfig
from fer_core.dataset.table import Part, build_table, load_table
from fer_core.emotions import SEVEN, Emotion
from fer_core.errors import DataError, StoreError
from fer_core.features.augment import PLAIN, View
from fer_core.features.load_backbone import load_backbone
from fer_core.features.store import FeatureStore, feature_key, load_block, load_fc
from fer_core.features.torch_backbone import features_above
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from fer_core.store import EntryStore
from tests.saved_models import lite0
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
    store, backbone = FeatureStore(tmp_path), load_backbone(BackboneConfig(name="efficientnet-lite0"))
    fresh = store.extract(some_faces(), backbone)
    monkeypatch.setattr(backbone, "features", None)  # would raise if called
    assert np.array_equal(store.extract(some_faces(), backbone), fresh)


def test_a_corrupt_entry_is_reported_and_made_again(tmp_path, caplog):
    store, backbone = FeatureStore(tmp_path), load_backbone(BackboneConfig(name="efficientnet-lite0"))
    fresh = store.extract(some_faces(), backbone)
    path = store.entries.path(feature_key("f" * 32, backbone))
    path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(store.extract(some_faces(), backbone), fresh)
    assert "is corrupt" in caplog.text


def test_whatever_differs_changes_the_key():
    backbone = load_backbone(BackboneConfig(name="efficientnet-lite0"))
    keys = {feature_key("a", backbone), feature_key("b", backbone), feature_key("a", backbone, layer="maps")}
    for view in (View(1), View(2), View(1, AugmentConfig(seed=1)), View(1, AugmentConfig(blur=1))):
        keys |= {feature_key("a", backbone, view), feature_key("a", backbone, view, "maps")}
    backbone.weights_digest = "another"
    keys.add(feature_key("a", backbone))
    assert len(keys) == 12
    assert feature_key("a", backbone, View(0, AugmentConfig(seed=9))) == feature_key("a", backbone)  # plain is plain


@pytest.mark.parametrize("view", [PLAIN, View(1)], ids=["plain", "augmented"])
def test_features_of_stored_maps_are_the_fresh_ones_and_run_no_trunk(tmp_path, monkeypatch, view):
    store, backbone = FeatureStore(tmp_path), lite0()
    fresh = backbone.features(view.of(some_faces()))
    maps = store.extract_maps(some_faces(), backbone, view)
    for computing in ("features", "maps"):
        monkeypatch.setattr(backbone, computing, None)  # would raise if called
    assert np.array_equal(store.extract(some_faces(), backbone, view), fresh)
    assert np.array_equal(store.extract_maps(some_faces(), backbone, view), maps)


def test_a_stored_block_is_the_backbones_own(tmp_path):
    store, backbone = FeatureStore(tmp_path), lite0()
    path = store.store_block(backbone)
    assert store.store_block(backbone) == path
    maps = backbone.maps(some_faces().pixels)
    assert np.array_equal(features_above(load_block(path), torch.from_numpy(maps)), backbone.above(maps))


def test_an_entry_written_in_pieces_is_read_like_one_written_whole(tmp_path):
    store = EntryStore(tmp_path, "matrix")
    whole = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float16)
    store.put_rows("pieces", {"maps": (7, [whole[:2], whole[2:3], whole[3:]])}, {"a": [1]})
    store.put("whole", {"maps": whole}, {"a": [1]})
    (pieces, note), (read, other) = store.get("pieces"), store.get("whole")
    assert np.array_equal(pieces["maps"], whole) and np.array_equal(read["maps"], whole) and note == other
    with pytest.raises(ValueError, match="was to have 9 rows"):
        store.put_rows("short", {"maps": (9, [whole])}, {})
    assert "short" not in store


def test_views_and_maps_lie_beside_their_table_and_are_asked_for_once(tmp_path):
    clips, store = drawn_clips(tmp_path, 2), FeatureStore(tmp_path / "store")
    rng, keys = np.random.default_rng(0), [f"{i:032x}" for i in range(12)]
    plain, turned = ([rng.normal(size=(2, 5)).astype(np.float16) for _ in clips] for _ in range(2))
    maps = [rng.normal(size=(2, 3, 2, 2)).astype(np.float16) for _ in clips]
    asked = []

    def part(layer, name, rows):
        return Part(layer, [name + key for key in keys], lambda: asked.append(name) or iter(rows))

    parts = [part("features", "turned", turned), part("maps", "plain", maps)]
    table = build_table(clips, plain, keys, store, {}, parts=parts)
    assert torch.equal(table.views[0], torch.from_numpy(np.concatenate(turned)))
    assert torch.equal(table.maps[0], torch.from_numpy(np.concatenate(maps)))
    assert build_table(clips, plain, keys, store, {}, parts=parts).key == table.key and asked == ["turned", "plain"]
    assert build_table(clips, plain, keys, store, {}).key != table.key
    for path in (tmp_path / "store" / "matrix").rglob("*.safetensors"):
        if path.stem != table.key:
            path.unlink()
    with pytest.raises(StoreError, match=rf"{table.key}\.safetensors cannot be read"):
        load_table(store.tables.path(table.key))


def test_seven_classes_are_kept_with_the_table_and_neutral_is_refused_by_six(tmp_path):
    clips = drawn_clips(tmp_path, 1)
    clips.append(dataclasses.replace(clips[0], id="s0/neutral", emotion=Emotion.NEUTRAL))
    rows, keys = [np.ones((2, 4), np.float16)] * 7, [f"{i}" for i in range(7)]
    store = FeatureStore(tmp_path / "store")
    table = build_table(clips, rows, keys, store, {}, SEVEN)
    assert table.classes == SEVEN and table.labels[-1] == 6
    with pytest.raises(DataError, match="clip 's0/neutral': 'neutral' is none of the classes"):
        build_table(clips, rows, keys, store, {})


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
    store, backbone = FeatureStore(tmp_path), load_backbone(BackboneConfig(name="efficientnet-lite0"))
    assert store.store_fc(backbone) is None
    backbone.fc = ((torch.rand(4, 3), torch.rand(4)), (torch.rand(2, 4), torch.rand(2)))
    path = store.store_fc(backbone)
    for (weight, bias), (w, b) in zip(backbone.fc, load_fc(path), strict=True):
        assert torch.equal(weight, w) and torch.equal(bias, b)
