"""Engines compute what torch computes; the choice of one is kept; int8 graphs are of real networks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fer_core.errors import ConfigError, WeightsError
from fer_core.features.architectures import FER2013, MiniXception
from fer_core.features.backbone import JoinedBackbone, Mirrored
from fer_core.features.engines import choice, engine, export
from fer_core.features.engines.choice import fastest
from fer_core.features.engines.engine import ENGINES, installed
from fer_core.features.engines.quantize import quantized
from fer_core.features.store import feature_key
from fer_core.features.torch_backbone import TorchBackbone

pytest.importorskip("onnxruntime")
EXACT = [name for name in installed() if ENGINES[name].precision == "float32"]
FACES = np.random.default_rng(0).integers(0, 256, (11, 64, 64), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "engines_folder", lambda: tmp_path)
    monkeypatch.setattr(choice, "engines_folder", lambda: tmp_path)


@pytest.fixture(scope="module")
def network() -> TorchBackbone:
    """fer2013's architecture with random weights."""
    torch.manual_seed(0)
    net = MiniXception()
    return TorchBackbone("fer2013", net, FER2013, dict(net.state_dict()), (), torch.device("cpu"))


@pytest.mark.parametrize("name", EXACT)
def test_an_engine_computes_the_features_of_torch_whatever_faces_are_beside(network, name):
    ours, theirs = network.features(FACES), network.on_engine(name).features(FACES)
    assert theirs.dtype == np.float16 and np.allclose(ours, theirs, rtol=2e-3, atol=1e-3)
    assert network.on_engine(name).features(FACES[9:]).tobytes() == theirs[9:].tobytes()
    assert network.on_engine(name).on_engine("torch").features(FACES).tobytes() == ours.tobytes()


def test_keys_of_features_name_the_engine_but_not_torch(network):
    assert "engine" not in network.identity
    keys = {feature_key("f", network.on_engine(name)) for name in ("torch", *EXACT)}
    assert len(keys) == 1 + len(EXACT)
    assert feature_key("f", network) in keys


def test_mirrored_and_joined_networks_are_computed_by_the_engine(network):
    for backbone in (Mirrored(network), JoinedBackbone([network, Mirrored(network)])):
        changed = backbone.on_engine("onnxruntime")
        assert changed.engine == "onnxruntime" and changed.identity != backbone.identity
        assert np.allclose(changed.features(FACES), backbone.features(FACES), rtol=2e-3, atol=1e-3)


def test_the_graph_is_exported_once(network, tmp_path, monkeypatch):
    before = network.on_engine("onnxruntime").features(FACES)
    monkeypatch.setattr(torch.onnx, "export", None)  # would raise if called
    assert network.on_engine("onnxruntime").features(FACES).tobytes() == before.tobytes()
    (graph,) = tmp_path.glob("*.onnx")
    graph.write_bytes(b"no graph")
    with pytest.raises(WeightsError, match=r"onnxruntime does not compute fer2013 .*set score\.engine=torch"):
        network.on_engine("onnxruntime").features(FACES)


def test_a_missing_package_is_named_with_its_remedy(network, monkeypatch):
    monkeypatch.setitem(engine.ENGINES, "openvino", replace(ENGINES["openvino"], package="not_installed"))
    with pytest.raises(ConfigError, match=r"pip install 'ferflow\[openvino\]'"):
        network.on_engine("openvino")


@pytest.mark.parametrize("name", [name for name in installed() if ENGINES[name].precision == "int8"])
def test_an_int8_graph_is_made_from_faces_and_named_in_the_key(network, name):
    pytest.importorskip("onnx")
    given = network.normalize(FACES[:8]).contiguous()
    int8 = quantized(network.graph(given), [given.numpy()])
    changed = network.on_engine(name, int8)
    ours, theirs = (b.features(FACES).astype(np.float32) for b in (network, changed))
    assert 0 < np.linalg.norm(ours - theirs) / np.linalg.norm(ours) < 0.2
    other = network.normalize(FACES[3:]).contiguous()
    again = quantized(network.graph(given), [other.numpy()])
    assert changed.identity["int8"] != network.on_engine(name, again).identity["int8"]
    with pytest.raises(WeightsError, match="the int8 graph of fer2013: no ONNX model"):
        network.on_engine(name, b"no graph")
    with pytest.raises(ConfigError, match="has no int8 graph"):
        network.on_engine(name)
    with pytest.raises(ConfigError, match="an int8 graph is of one"):
        JoinedBackbone([network, network]).on_engine(name, int8)


def test_the_fastest_engine_is_chosen_once(network, tmp_path, monkeypatch):
    times = {"torch": 3.0, "onnxruntime": 2.0, "openvino": 1.0}
    monkeypatch.setattr(choice, "ms_per_face", lambda backbone, size: times[backbone.engine])
    backbones = [network, *(network.on_engine(name) for name in EXACT)]
    best = fastest(backbones, 64).engine
    assert best == min(("torch", *EXACT), key=lambda name: times[name])
    (kept,) = tmp_path.glob("choice-*.json")
    assert json.loads(kept.read_text())["engine"] == best
    times[best] = 9.0
    assert fastest(backbones, 64).engine == best, "kept"
    assert fastest(backbones, 48).engine != best, "faces of another size are timed apart"
    kept.write_text("{")
    assert fastest(backbones, 64).engine != best, "a damaged file is made again"


def test_an_engine_with_other_features_is_not_chosen(network, monkeypatch, caplog):
    wrong = network.on_engine("onnxruntime")
    monkeypatch.setattr(wrong, "features", lambda pixels: network.features(255 - pixels))
    monkeypatch.setattr(choice, "ms_per_face", lambda backbone, size: float(backbone.engine == "torch"))
    assert fastest([network, wrong], 64) is network
    assert "onnxruntime computes other features of fer2013" in caplog.text
