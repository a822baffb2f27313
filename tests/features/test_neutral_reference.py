"""Which faces of a clip are its neutral face, and how frames are compared with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.emotions import SEVEN, Emotion
from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import Backbone, JoinedBackbone
from fer_core.features.neutral_reference import beside_difference, neutral_reference
from fer_core.features.store import FeatureStore
from fer_core.features.torch_backbone import backbone_from_state
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger

NEUTRAL = SEVEN.index(Emotion.NEUTRAL)


class Brightness(Backbone):
    """Features: the brightness of a face; it calls dark faces neutral, and is as sure of it as asked."""

    def __init__(self, sure: float = 0.0) -> None:
        self.sure = sure

    @property
    def identity(self):
        return {"backbone": "brightness"}

    def features(self, pixels):
        return pixels.reshape(len(pixels), -1).mean(axis=1, keepdims=True).astype(np.float16)

    def log_probabilities(self, pixels):
        if not self.sure:
            return None
        said = np.full((len(pixels), 7), (1 - self.sure) / 6)
        dark = self.features(pixels)[:, 0] < 100
        said[np.arange(len(pixels)), np.where(dark, NEUTRAL, 0)] = self.sure
        return np.log(said)

    def on_cpu(self):
        return self


def faces(*brightness: int) -> np.ndarray:
    return np.stack([np.full((32, 32), value, np.uint8) for value in brightness])


@pytest.mark.parametrize(
    ("sure", "brightness", "reference"),
    [
        (0.9, (10, 20, 30, 40, 200), 20),
        (0.9, (200, 210, 60, 80), 70),
        (0.9, (200, 210), 200),
        (0.0, (200, 10, 20), 200),
    ],
    ids=["the first three that say neutral", "also at the end", "none says so", "no classes"],
)
def test_the_neutral_face_is_the_first_that_say_so_else_the_first(sure, brightness, reference):
    assert neutral_reference(Brightness(sure), faces(*brightness)).tolist() == [reference]


def test_joined_networks_are_asked_together_where_they_have_classes():
    mute, sure, doubtful = Brightness(), Brightness(0.9), Brightness(0.5)
    for part in (mute, sure, doubtful):
        part.name = part.source = part.normalization = "b"
        part.n_features, part.convolutions, part.device = 1, {}, torch.device("cpu")
    together = JoinedBackbone([mute, sure, doubtful]).log_probabilities(faces(10))
    wanted = (sure.log_probabilities(faces(10)) + doubtful.log_probabilities(faces(10))) / 2
    assert np.allclose(together, wanted)
    assert JoinedBackbone([mute]).log_probabilities(faces(10)) is None


def test_a_frame_is_read_beside_its_difference_to_the_neutral_face():
    features, neutral = torch.tensor([[1.0, 5.0], [2.0, 6.0]]).half(), torch.tensor([[1.0, 4.0]]).half()
    assert beside_difference(features, neutral).tolist() == [[1, 5, 0, 1], [2, 6, 1, 2]]


@pytest.mark.parametrize("name", ["fer2013", "face-api"])
def test_a_face_network_keeps_its_classes_beside_its_features(name):
    torch.manual_seed(0)
    known, pixels = ARCHITECTURES[name], np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    state = known.build().state_dict()
    features, classes = (
        backbone_from_state(name, state, known.normalization, "random", output=output)
        for output in ("features", "classes")
    )
    assert np.array_equal(features.log_probabilities(pixels), classes.features(pixels))
    without = {key: value for key, value in state.items() if not key.startswith(known.fc_prefix)}
    mute = backbone_from_state(name, without, known.normalization, "random")
    assert mute.log_probabilities(pixels) is None
    assert np.array_equal(mute.features(pixels), features.features(pixels))


def test_it_is_computed_once_and_stored(tmp_path, monkeypatch):
    pixels = faces(10, 20, 200)
    ledger = Ledger(
        frame=np.arange(3, dtype=np.int32), time_s=np.arange(3, dtype=np.float32), status=(FrameStatus.USED,) * 3,
        box=np.zeros((3, 4), np.int32), weight=np.ones(3, np.float32),
    )  # fmt: skip
    course = Faces(key="ab" * 16, clip_digest="cd" * 16, pixels=pixels, ledger=ledger, n_frames=3)
    store, backbone = FeatureStore(tmp_path), Brightness(0.9)
    first = store.neutral(course, backbone)
    monkeypatch.setattr(backbone, "features", None)
    assert store.neutral(course, backbone).tolist() == first.tolist() == [15]
