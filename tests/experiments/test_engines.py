"""Verdicts with engines against those with torch: which engines a candidate's record names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_core.config import SearchConfig, TrainConfig
from fer_core.dataset.table import build_table
from fer_core.experiments import engines
from fer_core.experiments.engines import measure_engines
from fer_core.experiments.search.study import refit
from fer_core.experiments.search.trial import TrialResult
from fer_core.features.architectures import FER2013, MiniXception
from fer_core.features.engines import engine, export
from fer_core.features.engines.engine import ENGINES, installed
from fer_core.features.store import FeatureStore
from fer_core.features.torch_backbone import TorchBackbone
from fer_core.models.registry import model_of
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from tests.tables import drawn_clips

pytest.importorskip("onnxruntime")
TRAIN = TrainConfig(widths=(), epochs=20, lr=0.01, stopping="never")
FOLDS = SearchConfig(folds=3)
EXACT = [name for name in installed() if ENGINES[name].precision == "float32"]


def drawn_faces(clip: int) -> Faces:
    """Two noisy faces of a pattern of the clip's emotion."""
    rng = np.random.default_rng(clip)
    pattern = np.random.default_rng(1000 + clip % 6).uniform(0, 200, (8, 8)).repeat(8, 0).repeat(8, 1)
    pixels = (pattern + rng.uniform(0, 55, (2, 64, 64))).astype(np.uint8)
    ledger = Ledger(
        frame=np.arange(2, dtype=np.int32), time_s=np.zeros(2, np.float32), status=(FrameStatus.USED,) * 2,
        box=np.zeros((2, 4), np.int32), weight=np.ones(2, np.float32),
    )  # fmt: skip
    return Faces(key=f"{clip:032x}", clip_digest=str(clip), pixels=pixels, ledger=ledger, n_frames=2)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A table of drawn faces and random features, its faces, its backbone and a model fitted to it."""
    folder = tmp_path_factory.mktemp("engines")
    torch.manual_seed(0)
    net = MiniXception()
    backbone = TorchBackbone("fer2013", net, FER2013, dict(net.state_dict()), (), torch.device("cpu"))
    clips = drawn_clips(folder, 6)
    faces = [drawn_faces(i) for i in range(len(clips))]
    features = [backbone.features(of.pixels) for of in faces]
    store = FeatureStore(folder / "store")
    table = build_table(clips, features, [of.key for of in faces], store, {"fingerprint": "0" * 32})
    trial = TrialResult(number=0, state="complete", train=TRAIN, selected=({"steps": 40, "epochs": 20},))
    return table, faces, backbone, refit(table, trial).classifier


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "engines_folder", lambda: tmp_path)


def measured(given):
    return measure_engines(*given, model_of(TRAIN), TRAIN, FOLDS)


def test_engines_in_float32_are_compared_on_training_clips(given):
    found = measured(given)
    assert [record.name for record in found.records] == EXACT and found.int8 == b""
    assert {(r.agreement, r.recall_loss) for r in found.records} == {(1.0, None)}
    assert {r.clips for r in found.records} == {32}, "as many as have 64 faces"


def test_an_engine_with_other_verdicts_is_not_recorded(given, monkeypatch):
    known = ENGINES["onnxruntime"]
    wrong = replace(known, load=lambda graph: lambda faces: -known.load(graph)(faces))
    monkeypatch.setitem(engine.ENGINES, "onnxruntime", wrong)
    assert "onnxruntime" not in [record.name for record in measured(given).records]


def test_coarser_engines_of_a_slow_network_are_compared_out_of_fold(given, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(engines, "SLOW_MS", 0.0)
    coarse = [name for name in installed() if ENGINES[name].precision != "float32"]
    found = measured(given)
    others = [record for record in found.records if record.name not in EXACT]
    assert {record.name for record in others} <= {*coarse} and all(record.allowed for record in others)
    assert all(record.clips == 36 and record.recall_loss is not None for record in others)
    assert bool(found.int8) == any("int8" in record.name for record in others)

    def wrong(graph: bytes):
        return lambda faces: -ENGINES["onnxruntime"].load(graph)(faces)

    for name in coarse:
        monkeypatch.setitem(engine.ENGINES, name, replace(ENGINES[name], load=wrong))
    found = measured(given)
    assert [record.name for record in found.records] == EXACT and found.int8 == b""
