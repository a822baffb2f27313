"""The face networks beside their originals: the same scores of the same twenty rendered faces (parity/README.md)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fer_core.config import BackboneConfig, load_config
from fer_core.emotions import SEVEN, Emotion
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import resized
from fer_core.features.face_networks import pad_same
from fer_core.features.known_weights import KNOWN, fetch
from fer_core.features.load_backbone import load_backbone
from fer_core.features.torch_backbone import one_network
from fer_core.model_names import BACKBONE_NAMES, FACE_NETWORKS

PARITY = Path(__file__).parent / "parity"
EXPECTED = json.loads((PARITY / "scores.json").read_text())


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    sheet = cv2.imread(str(PARITY / "faces.png"), cv2.IMREAD_GRAYSCALE)
    return np.ascontiguousarray(sheet.reshape(4, 112, 5, 112).swapaxes(1, 2).reshape(20, 112, 112))


def weighted(name: str, output: str = "features"):
    """The network with its published weights; without them, and without a network to fetch them, nothing is tested."""
    try:
        fetch(name.split("+"))
    except WeightsError as exc:
        pytest.skip(str(exc))
    names = name.split("+")
    cfg = BackboneConfig(names=names if len(names) > 1 else (), name=names[0], mirror="none")
    return load_backbone(cfg, output=output)


@pytest.mark.parametrize("name", FACE_NETWORKS)
def test_a_network_says_what_its_original_said_of_the_same_faces(name, faces):
    expected, backbone = EXPECTED[name], weighted(name, "classes")
    shown = resized(faces, backbone.input.size)
    assert [hashlib.sha256(face.tobytes()).hexdigest()[:32] for face in shown] == expected["inputs"]
    assert backbone.classes == SEVEN
    scores = np.exp(backbone.features(faces).astype(np.float64))
    original = np.array(expected["scores"])[:, [expected["classes"].index(e) for e in Emotion]]
    assert np.abs(scores - original).max() <= 1e-3


@pytest.mark.parametrize(("name", "n"), [("fer2013", 128), ("face-api", 256)])
def test_features_are_what_the_own_classifier_is_given_the_mean_of(name, n, faces):
    backbone, whole = weighted(name), weighted(name, "classes")
    features = backbone.features(faces)
    assert features.shape == (20, n) and features.dtype == np.float16
    assert np.array_equal(backbone.maps(faces), whole.maps(faces))
    assert backbone.identity != whole.identity and backbone.maps_identity["cut"] == whole.maps_identity["cut"]
    if name == "face-api":  # a linear layer of the features; of mini-Xception it is a convolution of the maps
        logits = torch.from_numpy(features).float() @ whole.convolutions["fc.weight"].T + whole.convolutions["fc.bias"]
        order = [EXPECTED[name]["classes"].index(e) for e in Emotion]
        said = logits.log_softmax(dim=1)[:, order].numpy()
        assert whole.features(faces) == pytest.approx(said, abs=2e-2)


def test_joined_networks_give_their_features_side_by_side(faces):
    joined = weighted("fer2013+face-api")
    parts = [weighted(name) for name in FACE_NETWORKS]
    assert joined.n_features == 384
    assert np.array_equal(joined.features(faces[:3]), np.hstack([part.features(faces[:3]) for part in parts]))
    assert joined.identity["backbone"] == "fer2013+face-api" and joined.identity["normalize"] == "fer2013+face-api"
    with pytest.raises(ConfigError, match=r"fer2013\+face-api has no last block"):
        one_network(joined)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["backbone.names=[fer2013]"], "names joins two networks or more"),
        (["backbone.names=[fer2013,fer2013]"], "names joins two networks or more"),
        (["backbone.names=[fer2013,face-api]", "backbone.weights=w.pth"], "leave weights and normalize at auto"),
    ],
)
def test_networks_that_cannot_be_joined_are_refused_in_the_settings(lines, says):
    with pytest.raises(ConfigError, match=says):
        load_config(None, lines)


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        (BackboneConfig(name="fer2013", weights="imagenet"), "'imagenet' is no checkpoint of fer2013"),
        (BackboneConfig(name="fer2013", normalize="unit", force_normalize=True), "expect other input"),
    ],
    ids=["weights", "input"],
)
def test_weights_and_input_of_a_face_network_are_its_own(cfg, says):
    weighted("fer2013")
    with pytest.raises(ConfigError, match=says):
        load_backbone(cfg)


def test_a_network_without_emotions_cannot_give_any():
    with pytest.raises(ConfigError, match=r"efficientnet-lite0 tells no emotions .* are fer2013, face-api"):
        load_backbone(BackboneConfig(name="efficientnet-lite0"), output="classes")


def test_padding_is_tensorflows_same():
    """An even side at stride 2 is padded after it alone, an odd one on both sides."""
    assert pad_same(torch.ones(1, 1, 8, 15), 2)[0, 0].sum(dim=0).tolist() == [0] + [8] * 15 + [0]
    assert pad_same(torch.ones(1, 1, 8, 15), 2)[0, 0].sum(dim=1).tolist() == [15] * 8 + [0]
    assert pad_same(torch.ones(1, 1, 8, 8), 1).shape == (1, 1, 10, 10)


def test_every_name_of_the_settings_is_a_network_of_the_table():
    assert [*ARCHITECTURES, "onnx"] == BACKBONE_NAMES
    on_faces = {name for name, network in ARCHITECTURES.items() if network.classes and network.normalization}
    assert on_faces == {*FACE_NETWORKS} and on_faces <= {*KNOWN}
