"""The model's two files: what goes in comes out, what was tampered with does not come in (faults 75, 76, 99-102)."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fer_core.config import PreprocessConfig
from fer_core.emotions import SEVEN
from fer_core.errors import RegistryError
from fer_core.features.backbone import JoinedBackbone, Mirrored
from fer_core.features.torch_backbone import FEATURES, backbone_from_state
from fer_core.models.bundle import (
    FILES,
    RECORD,
    WEIGHTS,
    read_bundle,
    subject_digest,
    training_subjects,
    was_trained_on,
    write_bundle,
)
from fer_core.models.fc_head import HeadClassifier, build_head, frame_scores
from fer_core.models.record import ModelFacts
from tests.saved_models import lite0, small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    small_bundle(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def edit_record(folder: Path, change: Callable[[dict], None]) -> None:
    record = json.loads((folder / RECORD).read_text())
    change(record)
    (folder / RECORD).write_text(json.dumps(record))


def forge_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], *, listed: bool = True) -> None:
    """Other weights, and a record that describes them: an attacker who can write both files."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    refresh(folder, tensors if listed else None)


def refresh(folder: Path, tensors: dict[str, torch.Tensor] | None = None) -> None:
    names = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.int64: "I64", torch.uint8: "U8"}

    def change(record: dict) -> None:
        record["weights_sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        if tensors is not None:
            record["tensors"] = {k: {"shape": list(v.shape), "dtype": names[v.dtype]} for k, v in tensors.items()}

    edit_record(folder, change)


def test_a_model_read_again_is_the_model_written(bundle, original):
    again = read_bundle(original)
    assert again.record == bundle.record
    assert again.digest == bundle.digest
    faces = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    features = bundle.backbone.features(faces)
    assert np.array_equal(again.backbone.features(faces), features)
    a, b = (frame_scores(one.classifier.head, torch.from_numpy(features)) for one in (again, bundle))
    assert torch.equal(a, b)


def test_convolutions_read_from_a_model_have_the_feature_keys_of_training(bundle):
    assert bundle.backbone.identity == lite0().identity


def test_the_same_model_written_twice_has_the_same_bytes(original, tmp_path):
    small_bundle(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (original / name).read_bytes()


def test_another_head_is_another_model(bundle, tmp_path):
    assert small_bundle(tmp_path, seed=1).digest != bundle.digest


def test_seven_classes_and_half_precision_convolutions_travel(tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in lite0().convolutions.items()}
    backbone = backbone_from_state("efficientnet-lite0", half, FEATURES, "half.safetensors")
    head = HeadClassifier(build_head(1280, (), 7, dropout=0.0, seed=0))
    facts = ModelFacts(classes=SEVEN, preprocess=PreprocessConfig(size=96), synthetic=False)
    bundle = write_bundle(tmp_path, head, backbone, facts)
    assert bundle.classes == SEVEN
    assert bundle.backbone.identity == backbone.identity
    assert bundle.record.backbones[0].source == "half.safetensors"
    assert (tmp_path / WEIGHTS).stat().st_size < 8_000_000


def test_a_model_of_mean_features_scores_a_face_and_its_mirror_image_alike(bundle, tmp_path):
    mirrored = Mirrored(lite0())
    other = {key: value.clone() for key, value in lite0().convolutions.items()}
    plain = backbone_from_state("efficientnet-lite0", other, FEATURES, "other.safetensors")
    facts = ModelFacts(preprocess=PreprocessConfig(size=96), synthetic=False)
    for name, backbone in (("one", mirrored), ("joined", JoinedBackbone([mirrored, plain]))):
        head = HeadClassifier(build_head(backbone.n_features, (), 6, dropout=0.0, seed=0))
        found = write_bundle(tmp_path / name, head, backbone, facts).backbone
        assert found.identity == backbone.identity, name
        faces = np.random.default_rng(0).integers(0, 255, (2, 96, 96), np.uint8)
        assert np.array_equal(found.features(faces), backbone.features(faces)), name
    assert [part.mirror for part in found.parts] == [True, False]
    assert not bundle.record.backbones[0].mirror


def test_subjects_are_known_again_but_not_readable(bundle, original):
    assert subject_digest("drawn-synthetic:s000") in bundle.facts.subjects
    assert "s000" not in (original / RECORD).read_text()


def test_head_and_backbone_that_do_not_fit_are_refused(tmp_path):
    facts = ModelFacts(preprocess=PreprocessConfig(), synthetic=False)
    with pytest.raises(RegistryError, match="takes 512 features, efficientnet-lite0 gives 1280"):
        write_bundle(tmp_path, HeadClassifier(build_head(512, (), 6, 0, 0)), lite0(), facts)


def test_missing_model_is_told(tmp_path):
    with pytest.raises(RegistryError, match=r"no model at .*nowhere"):
        read_bundle(tmp_path / "nowhere")


class _Bomb:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/ferflow-pickle-ran",))


def test_fault_99_pickle_in_place_of_safetensors_is_refused_unopened(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps(_Bomb()))
    refresh(folder)
    with pytest.raises(RegistryError, match="not a safetensors file"):
        read_bundle(folder)
    torch.save({"classifier.0.weight": torch.zeros(3)}, folder / WEIGHTS)
    refresh(folder)
    with pytest.raises(RegistryError, match="not a safetensors file"):
        read_bundle(folder)
    assert not Path("/tmp/ferflow-pickle-ran").exists()


def test_fault_100_header_of_a_terabyte_is_refused(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", 10**12) + data[8:])
    refresh(folder)
    with pytest.raises(RegistryError, match="header or size is wrong"):
        read_bundle(folder)


def test_fault_100_overlapping_tensors_are_refused(folder):
    data = (folder / WEIGHTS).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    first, second = sorted((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"])[1:3]
    begin, end = header[second]["data_offsets"]
    header[first]["data_offsets"] = [begin, begin + header[first]["data_offsets"][1] - header[first]["data_offsets"][0]]
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    refresh(folder)
    assert end > begin
    with pytest.raises(RegistryError, match="not a safetensors file"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["classifier.9.weight", "backbone.extra", "elsewhere", "backbone._fc.weight"])
def test_fault_100_tensor_too_many_is_refused(folder, name):
    forge_weights(folder, lambda t: t.update({name: torch.zeros(2)}))
    with pytest.raises(RegistryError, match=r"does not fit|belongs to no part|not those its model.json names"):
        read_bundle(folder)


def test_fault_100_tensor_the_record_does_not_list_is_refused(folder):
    def swap(tensors):
        tensors["classifier.3.biaz"] = tensors.pop("classifier.3.bias")

    forge_weights(folder, swap, listed=False)
    with pytest.raises(RegistryError, match=r"tensors differ .*biaz"):
        read_bundle(folder)


def test_fault_100_tensor_too_few_or_of_another_shape_is_refused(folder):
    forge_weights(folder, lambda t: t.pop("classifier.3.bias"))
    with pytest.raises(RegistryError, match="does not fit"):
        read_bundle(folder)
    forge_weights(folder, lambda t: t.update({"classifier.3.bias": torch.zeros(5)}))
    with pytest.raises(RegistryError, match="does not fit"):
        read_bundle(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["classifier.0.weight", "backbone._conv_stem.weight"])
def test_fault_100_nan_is_refused(folder, name, value):
    def poison(tensors):
        tensors[name].view(-1)[7] = value

    forge_weights(folder, poison)
    with pytest.raises(RegistryError, match=f"NaN or infinite numbers in .*{name}"):
        read_bundle(folder)


def test_head_of_another_type_is_refused(folder):
    forge_weights(folder, lambda t: t.update({"classifier.3.bias": torch.zeros(6, dtype=torch.float16)}))
    with pytest.raises(RegistryError, match="head must be float32"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["python_model.pkl", "model.pth", ".hidden", "MLmodel"])
def test_fault_101_extra_file_is_refused(folder, name):
    (folder / name).write_bytes(b"x")
    with pytest.raises(RegistryError, match=f"found also .*{name}"):
        read_bundle(folder)


def test_fault_101_extra_folder_is_refused(folder):
    (folder / "code").mkdir()
    with pytest.raises(RegistryError, match=r"found also \['code'\]"):
        read_bundle(folder)


def test_link_in_place_of_a_file_is_refused(folder, original):
    (folder / RECORD).unlink()
    (folder / RECORD).symlink_to(original / RECORD)
    with pytest.raises(RegistryError, match="not a regular file"):
        read_bundle(folder)


def test_file_missing_is_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(RegistryError, match=r"missing \['weights.safetensors'\]"):
        read_bundle(folder)


def test_file_too_large_is_refused_unread(folder):
    with (folder / RECORD).open("r+b") as file:
        file.truncate(5 * 1024**2)
    with pytest.raises(RegistryError, match="at most 4194304 are accepted"):
        read_bundle(folder)


def test_fault_102_files_swapped_after_registration_are_refused(folder, bundle, tmp_path):
    assert read_bundle(folder, bundle.hashes).digest == bundle.digest
    other = tmp_path / "other"
    small_bundle(other, seed=1)
    for name in FILES:  # consistent with each other, and sound: only the registered hashes tell
        shutil.copy(other / name, folder / name)
    assert read_bundle(folder)
    with pytest.raises(RegistryError, match="was altered: its SHA-256"):
        read_bundle(folder, bundle.hashes)


def test_fault_102_weights_alone_swapped_are_refused_without_any_registry(folder, tmp_path):
    other = tmp_path / "other"
    small_bundle(other, seed=1)
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    with pytest.raises(RegistryError, match=r"not the file its model.json describes"):
        read_bundle(folder)


def test_fault_102_other_convolutions_under_the_same_name_are_refused(folder):
    def nudge(tensors):
        tensors["backbone._conv_stem.weight"] += 0.01

    forge_weights(folder, nudge)
    with pytest.raises(RegistryError, match="convolutions are not those"):
        read_bundle(folder)


def test_scores_that_the_canary_does_not_repeat_are_refused(folder):
    def nudge(tensors):
        tensors["classifier.3.bias"] += torch.arange(6) * 0.2

    forge_weights(folder, nudge)
    with pytest.raises(RegistryError, match=r"predicts other scores than those saved with the model \(difference"):
        read_bundle(folder)


def test_wrong_normalisation_is_caught_by_the_canary(folder):
    edit_record(folder, lambda r: r["backbones"][0].update(normalization="features"))
    with pytest.raises(RegistryError, match="predicts other scores"):
        read_bundle(folder)


def test_fault_75_other_class_order_is_refused(folder):
    def swap(record):
        classes = record["facts"]["classes"]
        classes[0], classes[1] = classes[1], classes[0]

    edit_record(folder, swap)
    with pytest.raises(RegistryError, match="classes must be anger, disgust, fear"):
        read_bundle(folder)


def test_fault_76_other_preprocessing_version_is_refused(folder):
    edit_record(folder, lambda r: r.update(preprocess_version=99))
    with pytest.raises(RegistryError, match=r"preprocessing version 99, this installation makes version \d"):
        read_bundle(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(format=2),
        lambda r: r.update(surprise="field"),
        lambda r: r["backbones"][0].update(name="os.system"),
        lambda r: r["classifier"].update(widths=[10**9]),
        lambda r: r.pop("canary"),
        lambda r: r["facts"].update(temperatures={"mean_scores": 0}),
        lambda r: r["tensors"].update(x={"shape": [-1], "dtype": "F32"}),
    ],
    ids=["format", "extra", "architecture", "width", "canary", "temperature", "shape"],
)
def test_records_outside_the_schema_are_refused(folder, change):
    edit_record(folder, change)
    with pytest.raises(RegistryError, match="not a model record that this version can read"):
        read_bundle(folder)


def test_record_that_is_no_json_is_refused(folder):
    (folder / RECORD).write_bytes(b"\x80\x04" + b"[" * 100_000)
    with pytest.raises(RegistryError, match="not a model record that this version can read"):
        read_bundle(folder)


def test_people_a_model_was_trained_on_are_known_by_any_spelling_of_their_names():
    subjects = training_subjects(["lab:001", "lab:P7"])
    facts = ModelFacts(preprocess=PreprocessConfig(), synthetic=False, subjects=subjects)
    assert all(was_trained_on(facts, name) for name in ("lab:001", "lab:1", "lab:1.0", "lab:p07"))
    assert not any(was_trained_on(facts, name) for name in ("lab:2", "other:001", "lab:P70"))
    assert subject_digest("lab:001") in subjects and subject_digest("lab:1") not in subjects
