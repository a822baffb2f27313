from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import Mirrored
from fer_core.models.fc_head import build_head
from fer_core.models.grad_cam import _at_last_maps, grad_cam
from tests.saved_models import lite0


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    return np.stack([cv2.resize(rng.integers(0, 256, (9, 9), dtype=np.uint8), (224, 224)) for _ in range(3)])


def test_over_pooled_maps_and_one_layer_it_is_the_class_activation_map(faces):
    """Features that are means of maps under a linear head: αₖ is the class's weight of map k (Zhou et al. 2016)."""
    backbone = lite0()
    head = build_head(backbone.n_features, (), 6, 0.5, seed=0)
    below, _ = _at_last_maps(backbone.block)
    with torch.no_grad():
        maps = below(torch.from_numpy(backbone.maps(faces)).float())
        coarse = torch.einsum("k,nkhw->nhw", head.linears[0].weight[2], maps).relu().numpy()
    heat = grad_cam(backbone, head, faces, 2)
    assert heat.shape == faces.shape and heat.dtype == np.float32
    for shown, found in zip(heat, coarse, strict=True):
        wanted = cv2.resize(found / found.max(), (224, 224), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        assert np.abs(shown - wanted).max() < 1e-4


def test_a_faces_map_does_not_depend_on_its_neighbours(faces):
    head = build_head(lite0().n_features, (16,), 6, 0.5, seed=1)
    together = grad_cam(lite0(), head, faces, 0)
    assert np.abs(together[1:2] - grad_cam(lite0(), head, faces[1:2], 0)).max() < 1e-4


def test_of_features_averaged_with_the_mirror_image_the_heat_is_that_of_the_face(faces):
    mirrored, linear = Mirrored(lite0()), build_head(lite0().n_features, (), 6, 0.5, seed=0)
    assert np.abs(grad_cam(mirrored, linear, faces, 2) - grad_cam(lite0(), linear, faces, 2)).max() < 1e-3
    deep = build_head(lite0().n_features, (16,), 6, 0.5, seed=1)
    assert grad_cam(mirrored, deep, faces, 0).shape == faces.shape


def test_nothing_for_the_class_is_no_heat(faces):
    head = build_head(lite0().n_features, (), 6, 0.5, seed=0)
    with torch.no_grad():
        head.linears[0].weight[4] = -1.0
    assert not grad_cam(lite0(), head, faces, 4).any()


@pytest.mark.parametrize("name", ["efficientnet-lite0", "alexnet", "googlenet", "resnet18"])
def test_every_backbones_last_maps_have_a_height_and_lead_to_its_features(name):
    architecture = ARCHITECTURES[name]
    trunk, block = (half.eval() for half in architecture.split(architecture.build()))
    with torch.inference_mode():
        cut = trunk(torch.rand(1, 3, 224, 224))
        below, rest = _at_last_maps(block)
        maps = below(cut)
        assert maps.shape[2] == maps.shape[3] >= 6
        assert torch.equal(rest(maps), block(cut)) and rest(maps).shape == (1, architecture.n_features)
