"""A model on an engine: which engines its record allows, and that its rows are kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.config import PreprocessConfig, ScoreConfig
from fer_core.emotions import SIX
from fer_core.errors import ConfigError
from fer_core.features.architectures import FER2013, MiniXception
from fer_core.features.engines.quantize import quantized
from fer_core.features.patterns import smooth_patterns
from fer_core.features.torch_backbone import backbone_from_state
from fer_core.models.bundle import read_bundle, write_bundle
from fer_core.models.engine import on_engine
from fer_core.models.fc_head import HeadClassifier, build_head
from fer_core.models.record import EngineRecord, ModelFacts
from fer_core.scoring.scorer import ClipScorer
from tests.saved_models import small_bundle

pytest.importorskip("onnxruntime")
RECORD = EngineRecord(name="onnxruntime-int8", agreement=0.995, clips=200, recall_loss=0.004)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("plain"))


def test_an_engine_that_computes_in_float32_needs_no_record(plain):
    changed = on_engine(plain, "onnxruntime")
    assert changed.backbone and changed.backbone.engine == "onnxruntime" and changed.digest == plain.digest
    faces = np.random.default_rng(0).integers(0, 256, (2, 224, 224), dtype=np.uint8)
    assert np.allclose(changed.backbone.features(faces), plain.backbone.features(faces), rtol=5e-3, atol=5e-3)
    assert ClipScorer(changed).key("d") != ClipScorer(plain).key("d")
    assert on_engine(plain, "torch") is plain


def test_auto_is_one_of_those_allowed(plain):
    assert on_engine(plain).backbone.engine in ("torch", "onnxruntime", "openvino")


def test_a_coarse_engine_without_a_record_is_refused(plain):
    with pytest.raises(ConfigError, match=r"does not say that its verdicts agree .* allows torch, onnxruntime, openv"):
        on_engine(plain, "onnxruntime-int8")


@pytest.mark.parametrize(
    ("record", "allowed"),
    [
        (RECORD, True),
        (RECORD.model_copy(update={"agreement": 0.98}), False),
        (RECORD.model_copy(update={"recall_loss": 0.006}), False),
    ],
)
def test_a_coarse_engine_is_used_as_far_as_its_record_allows(tmp_path, record, allowed):
    pytest.importorskip("onnx")
    torch.manual_seed(0)
    network = backbone_from_state("fer2013", dict(MiniXception().state_dict()), FER2013, "drawn")
    given = network.normalize(smooth_patterns(8, 224)).contiguous()  # engines are compared on these patterns too
    int8 = quantized(network.graph(given), [given.numpy()]) if allowed else b"not read"
    head = HeadClassifier(build_head(network.n_features, (8,), len(SIX), dropout=0.5, seed=0))
    facts = ModelFacts(preprocess=PreprocessConfig(max_frames=6), synthetic=True, engines=(record,))
    bundle = write_bundle(tmp_path, head, network, facts, int8)
    assert read_bundle(tmp_path, bundle.hashes).int8 == int8
    if not allowed:
        with pytest.raises(ConfigError, match="does not say"):
            on_engine(bundle, "onnxruntime-int8")
        return
    assert on_engine(bundle, "onnxruntime-int8").backbone.engine == "onnxruntime-int8"


def test_the_setting_names_its_engines():
    with pytest.raises(ValueError, match="Input should be 'auto', 'torch', 'onnxruntime'"):
        ScoreConfig(engine="tensorrt")
