"""Backbones with their real weights; VGG16's where the environment says where they are."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fer_core.config import BackboneConfig
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import JoinedBackbone, Mirrored
from fer_core.features.load_backbone import load_backbone
from fer_core.features.store import feature_key
from fer_core.features.torch_backbone import IMAGENET, backbone_from_state, one_network, tuned
from fer_core.models.fc_head import Head, start_from

VGG16 = os.environ.get("FERFLOW_VGG16_WEIGHTS", "")


@pytest.fixture(scope="module")
def lite0():
    return load_backbone(BackboneConfig(name="efficientnet-lite0"))


@pytest.fixture(scope="module")
def faces():
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(11, 14, 14)).repeat(16, axis=1).repeat(16, axis=2)
    return (127 + 40 * smooth + rng.normal(scale=5, size=smooth.shape)).clip(0, 255).astype(np.uint8)


def test_lite0_needs_no_download_and_gives_1280_columns(lite0, faces):
    features = lite0.features(faces)
    assert features.shape == (11, 1280) and features.dtype == np.float16
    assert len(np.unique(features, axis=0)) == 11


def test_a_rows_bytes_do_not_depend_on_its_neighbours(lite0, faces):
    whole = lite0.features(faces)
    assert np.array_equal(whole[:3], lite0.features(faces[:3]))
    assert np.array_equal(whole[5:6], lite0.features(faces[5:6]))
    assert np.array_equal(whole[::-1], lite0.features(faces[::-1]))
    assert lite0.features(faces[:0]).shape == (0, 1280)


def test_normalisation_is_eq_3_5_on_three_equal_channels(lite0, faces):
    got = lite0.normalize(faces)
    scaled = faces[:, None].astype(np.float64) / 255
    want = (scaled - np.array(IMAGENET.mean)[:, None, None]) / np.array(IMAGENET.std)[:, None, None]
    assert got.shape == (11, 3, 224, 224)
    assert np.abs(got.numpy() - want).max() < 1e-5


def test_weights_are_frozen(lite0):
    for half in (lite0.trunk, lite0.block):
        assert not any(p.requires_grad for p in half.parameters())
        assert not half.training


def test_features_of_stored_maps_are_the_fresh_ones(lite0, faces):
    maps = lite0.maps(faces)
    assert maps.dtype == np.float16 and maps.shape == (11, 192, 7, 7)
    assert np.array_equal(lite0.above(maps), lite0.features(faces))
    assert np.array_equal(lite0.above(maps[3:4]), lite0.features(faces[3:4]))


def test_a_face_and_its_mirror_image_have_the_same_mean_features_under_keys_of_their_own(lite0, faces):
    mirrored = Mirrored(lite0)
    features, turned = mirrored.features(faces[:3]), np.ascontiguousarray(faces[:3, :, ::-1])
    assert features.dtype == np.float16 and features.shape == (3, 1280)
    assert np.array_equal(features, mirrored.features(turned))
    both = [network.astype(np.float32) for network in (lite0.features(faces[:3]), lite0.features(turned))]
    assert np.array_equal(features, ((both[0] + both[1]) / 2).astype(np.float16))
    assert not np.array_equal(features, lite0.features(faces[:3]))
    assert feature_key("k", mirrored) != feature_key("k", lite0)
    assert feature_key("k", mirrored, layer="maps") == feature_key("k", lite0, layer="maps")
    joined = JoinedBackbone([mirrored, lite0])
    assert joined.identity != JoinedBackbone([lite0, mirrored]).identity
    assert np.array_equal(joined.features(faces[:3])[:, :1280], features)
    assert one_network(mirrored) is lite0 and mirrored.on_cpu().identity == mirrored.identity


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "resnet18"])
def test_a_network_cut_in_two_is_the_network(name, faces):
    torch.manual_seed(0)
    net = ARCHITECTURES[name].build().eval()
    backbone = backbone_from_state(name, net.state_dict(), IMAGENET, "random")
    assert set(backbone.trunk.state_dict()).isdisjoint(backbone.block.state_dict())
    images = backbone.normalize(faces[:2])
    setattr(net, ARCHITECTURES[name].fc_prefix.removesuffix("."), torch.nn.Identity())
    with torch.inference_mode():
        whole = net(images).numpy()
    assert backbone.features(faces[:2]) == pytest.approx(whole, abs=2e-3 * float(np.abs(whole).max()))


def test_a_tuned_block_changes_the_features_but_not_the_maps(lite0, faces):
    block = {k: v * 1.1 if v.is_floating_point() else v for k, v in lite0.block.state_dict().items()}
    other = tuned(lite0, block)
    assert other.maps_identity == lite0.maps_identity and other.identity != lite0.identity
    assert np.array_equal(other.maps(faces[:3]), lite0.maps(faces[:3]))
    assert not np.array_equal(other.features(faces[:3]), lite0.features(faces[:3]))


def test_weights_trained_on_other_classes_load_by_path_once_their_input_is_named(tmp_path):
    """The appendix's ResNet18 of FER+: eight classes, wrapped as DataParallel saves it, faces in [0, 1]."""
    state = ARCHITECTURES["resnet18"].build().state_dict() | {"fc.weight": torch.rand(8, 512), "fc.bias": torch.rand(8)}
    state = {
        f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")
    }  # as before torch 0.4.1
    path = tmp_path / "Resnet18_FER+_pytorch.pth.tar"
    torch.save({"epoch": 30, "state_dict": state}, path)
    with pytest.raises(ConfigError, match=r"does not say what input .*'unit'"):
        load_backbone(BackboneConfig(name="resnet18", weights=str(path)))
    backbone = load_backbone(BackboneConfig(name="resnet18", weights=str(path), normalize="unit"))
    assert not any(key.startswith("fc.") for key in backbone.convolutions)
    assert backbone.normalize(np.full((1, 2, 2), 51, np.uint8)).numpy() == pytest.approx(0.2)


def small_vgg(tmp_path, metadata=None, whole=False):
    """A vgg16 checkpoint of tiny random numbers; `whole` with its FC layers."""
    net = ARCHITECTURES["vgg16"].build()
    state = {k: v * 0.5 for k, v in net.state_dict().items() if whole or k.startswith("features")}
    path = tmp_path / "vgg16.safetensors"
    save_file(state, path, metadata=metadata)
    return path, state


def test_a_whole_checkpoints_fc_layers_are_what_the_head_starts_from_layer_by_layer(tmp_path):
    path, state = small_vgg(tmp_path, whole=True)
    backbone = load_backbone(BackboneConfig(name="vgg16", weights=str(path)))
    assert backbone.normalization == "imagenet"
    assert [tuple(w.shape) for w, _ in backbone.fc] == [(4096, 25088), (4096, 4096)]
    with torch.device("meta"):
        head = Head(25088, (4096, 4096), 6, dropout=0.5)
    head.to_empty(device="cpu")
    assert start_from(head, backbone.fc) == [0, 1]
    for layer, name in zip(head.linears[:-1], ("classifier.0", "classifier.3"), strict=True):
        assert torch.equal(layer.weight, state[f"{name}.weight"]) and torch.equal(layer.bias, state[f"{name}.bias"])


def test_convolutions_of_unknown_input_must_be_told_which(tmp_path):
    path, _ = small_vgg(tmp_path)
    with pytest.raises(ConfigError, match=r"does not say what input .* set backbone\.normalize"):
        load_backbone(BackboneConfig(name="vgg16", weights=str(path)))
    chosen = load_backbone(BackboneConfig(name="vgg16", weights=str(path), normalize="features"))
    assert chosen.input.std == pytest.approx((1 / 255,) * 3)


def test_a_mismatched_normalisation_is_refused_unless_forced(tmp_path):
    path, _ = small_vgg(tmp_path, metadata={"input": "RGB, std 1/255"})
    wrong = BackboneConfig(name="vgg16", weights=str(path), normalize="imagenet")
    with pytest.raises(ConfigError, match="trained with 'features'"):
        load_backbone(wrong)
    assert load_backbone(wrong.model_copy(update={"force_normalize": True})).normalization == "imagenet"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "no weights file at"),
        (lambda p: p.write_bytes(b"not tensors"), "no safetensors file"),
        (lambda p: save_file({"features.0.weight": torch.zeros(1)}, p), "no resnet18 checkpoint"),
    ],
    ids=["missing", "garbage", "another-network"],
)
def test_missing_or_foreign_weights_are_refused_by_name(tmp_path, make, says):
    path = tmp_path / "w.safetensors"
    make(path)
    with pytest.raises(WeightsError, match=says):
        load_backbone(BackboneConfig(name="resnet18", weights=str(path)))


def test_a_pickle_that_runs_code_is_refused_unopened(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "went-off"), "w"))

    (tmp_path / "w.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(WeightsError, match="not a checkpoint of plain tensors"):
        load_backbone(BackboneConfig(name="resnet18", weights=str(tmp_path / "w.pth")))
    assert not (tmp_path / "went-off").exists()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: p.write_bytes(b'hello {"a": 1}'), "torch.load with weights_only ends in KeyError"),
        (lambda p: p.write_bytes(b""), "torch.load with weights_only ends in EOFError"),
        (lambda p: torch.save(torch.nn.Linear(2, 2), p), "torch.load with weights_only ends in UnpicklingError"),
        (lambda p: torch.save([1, 2], p), "needs a dict of tensors, got list"),
    ],
    ids=["text", "empty", "a whole module", "a list"],
)
def test_an_unfit_checkpoint_is_told_how_to_be_saved(tmp_path, make, why):
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(WeightsError) as caught:
        load_backbone(BackboneConfig(name="resnet18", weights=str(path)))
    assert f"w.pth: not a checkpoint of plain tensors ({why}); backbone.weights takes a .safetensors file" in str(
        caught.value
    )
    assert "torch.save(model.state_dict(), FILE)" in str(caught.value)


@pytest.mark.vgg16
@pytest.mark.skipif(not VGG16, reason="FERFLOW_VGG16_WEIGHTS is not set: the real VGG16 convolutions are not run")
def test_the_real_vgg16_convolutions_run_and_need_their_own_normalisation(faces):
    cfg = BackboneConfig(name="vgg16", weights=VGG16)
    features = load_backbone(cfg).features(faces[:2])
    assert features.shape == (2, 25088) and features.max() > 30
    forced = cfg.model_copy(update={"normalize": "imagenet", "force_normalize": True})
    assert load_backbone(forced).features(faces[:2]).max() < 0.3 * features.max()
