"""Networks in ONNX files: what they compute, what is refused, and the way through registration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.config import BackboneConfig, OnnxConfig, PreprocessConfig
from fer_core.emotions import SEVEN, SIX
from fer_core.errors import ConfigError, FerError, WeightsError
from fer_core.experiments.adoption import adopted_backbone
from fer_core.features.load_backbone import load_backbone
from fer_core.features.torch_backbone import one_network
from fer_core.models.adopted import AdoptedClassifier, AdoptedRecord
from fer_core.models.bundle import read_bundle, write_bundle
from fer_core.models.record import ModelFacts

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

WORDS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")  # FER+'s order
FACES = np.random.default_rng(0).integers(0, 255, (11, 64, 64), dtype=np.uint8)
SETTINGS = {"size": 16, "mean": (0.5,), "std": (0.25,), "features": "pooled", "scores": "scores", "classes": WORDS}
WEIGHT = np.random.default_rng(1).normal(size=(9, len(WORDS))).astype(np.float32)


def network(batch: int | str = "n", domain: str = "", channels_last: bool = False):
    """Means of three strips of the input as `pooled` features, and scores that are a linear map of nine cells'."""
    helper, numpy_helper, kind = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("AveragePool", ["nchw"], ["cells"], kernel_shape=[5, 5], strides=[5, 5]),
        helper.make_node("Flatten", ["cells"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "weight"], ["scores"], domain=domain),
    ]
    if channels_last:
        nodes.insert(0, helper.make_node("Transpose", ["face"], ["nchw"], perm=[0, 3, 1, 2]))
    else:
        nodes.insert(0, helper.make_node("Identity", ["face"], ["nchw"]))
    shape = [batch, 16, 16, 1] if channels_last else [batch, 1, 16, 16]
    graph = helper.make_graph(
        nodes, "drawn", [helper.make_tensor_value_info("face", kind, shape)],
        [helper.make_tensor_value_info("pooled", kind, [batch, 9]),
         helper.make_tensor_value_info("scores", kind, [batch, len(WORDS)])],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(folder, model):
    path = folder / "drawn.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def config(path, **changes) -> BackboneConfig:
    return BackboneConfig(name="onnx", weights=str(path), onnx=OnnxConfig(**{**SETTINGS, **changes}))


def expected() -> np.ndarray:
    """(n, 9) the features of `FACES`, by torch."""
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(FACES).float()[:, None], 4).round()  # as areas are averaged
    return torch.nn.functional.avg_pool2d((small / 255 - 0.5) / 0.25, 5).flatten(1).numpy()


@pytest.mark.parametrize("batch", ["n", 1, 3], ids=["any batch", "one face at a time", "three"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_features_are_those_of_the_network_whatever_its_batch_and_layout(tmp_path, batch, channels_last) -> None:
    backbone = load_backbone(config(saved(tmp_path, network(batch, channels_last=channels_last))))
    rows = backbone.features(FACES)
    assert rows.dtype == np.float16 and rows == pytest.approx(expected(), abs=0.02)
    assert (backbone.features(FACES[4:5]) == rows[4:5]).all()
    with pytest.raises(ConfigError, match="onnx has no last block"):
        one_network(backbone)


def test_scores_become_log_probabilities_of_the_seven_in_our_order(tmp_path) -> None:
    backbone = adopted_backbone(str(path := saved(tmp_path, network())), config(path).onnx)
    logits = torch.from_numpy((expected() @ WEIGHT)[:, [WORDS.index(e) for e in SEVEN]])
    assert backbone.classes == SEVEN
    assert backbone.features(FACES) == pytest.approx(logits.log_softmax(1).numpy(), abs=0.1)


def test_a_file_that_reads_others_or_runs_what_is_not_onnx_is_refused(tmp_path) -> None:
    outside = network()
    outside.graph.initializer[0].ClearField("raw_data")
    outside.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    entry = outside.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    inner = network()
    then = inner.graph.node.add(op_type="If", input=["nchw"], output=["x"]).attribute.add(name="then_branch", type=5)
    then.g.node.add(op_type="Run", domain="evil")
    for model, message in (
        (outside, r"tensor 'weight' is kept in another file; save the model as one file"),
        (network(domain="evil"), r"operator 'MatMul' of 'evil' is a custom one"),
        (inner, r"operator 'Run' of 'evil' is a custom one"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_backbone(config(saved(tmp_path, model)))
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(WeightsError, match=r"text\.onnx: no ONNX model"):
        load_backbone(config(tmp_path / "text.onnx"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 24}, r"input of \['n', 1, 16, 16\]; backbone.onnx says 1 channels of 24 x 24"),
        ({"mean": (0.5,) * 3, "std": (1.0,) * 3}, "says 3 channels"),
        ({"features": "other"}, "no output 'other'; it has pooled, scores"),
        ({"features": ""}, "names no output with features"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_named(tmp_path, changes, message) -> None:
    with pytest.raises(FerError, match=message):
        load_backbone(config(saved(tmp_path, network()), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": WORDS[1:]}, "classes lack neutral"),
        ({"scores": ""}, "scores and classes go together"),
        ({"mean": (0.5, 0.5)}, "one number each, or three"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        OnnxConfig(**{**SETTINGS, **changes})


def test_the_file_travels_with_the_model(tmp_path) -> None:
    path = saved(tmp_path, network())
    backbone = adopted_backbone(str(path), config(path).onnx)
    classifier = AdoptedClassifier.build(AdoptedRecord(n_features=7, networks=1, relative="none"), {}, len(SIX))
    facts = ModelFacts(model="adopted", classes=SIX, preprocess=PreprocessConfig(size=64), synthetic=False)
    written = write_bundle(tmp_path / "model", classifier, backbone, facts)
    path.unlink()
    read = read_bundle(tmp_path / "model", written.hashes)
    assert read.backbone is not None and read.backbone.identity == backbone.identity
    assert (read.backbone.features(FACES) == backbone.features(FACES)).all()
