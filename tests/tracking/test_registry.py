"""Registry, promotion and the door that runs nothing, on a real server (faults 79, 96, 101, 102)."""

from __future__ import annotations

import shutil
import socket
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
import torch
import yaml
from mlflow.exceptions import MlflowException

from fer_core.config import TrackingConfig
from fer_core.emotions import SIX
from fer_core.errors import RegistryError, TrackingError
from fer_core.evaluation.gate import OutOfFoldRecord
from fer_core.models.bundle import FILES, read_bundle
from fer_core.tracking.parity import prove_parity
from fer_core.tracking.promotion import promote
from fer_core.tracking.registry import (
    adopted_version,
    challenger_version,
    champion_version,
    load_champion,
    load_out_of_fold_record,
    load_version,
    register,
    version_to_promote,
)
from fer_core.tracking.run import start_run
from tests.saved_models import small_bundle


@pytest.fixture
def elsewhere(registered, tmp_path):
    """The same server, seen from a workspace that has fetched nothing yet."""
    return replace(registered.tracking, workspace=tmp_path)


def test_newest_candidate_is_challenger_until_it_is_champion(registered, no_champion):
    tracking, (one, two) = registered.tracking, registered.versions
    assert challenger_version(tracking) == version_to_promote(tracking) == two
    promote(tracking, one, replacing=None)
    assert challenger_version(tracking) == two
    promote(tracking, two, replacing=one)
    assert version_to_promote(tracking) == two, "it is champion already, and nothing else is a candidate"
    with pytest.raises(RegistryError, match="no version of 'face-emotion' has alias 'challenger'; make a candidate"):
        challenger_version(tracking)


def test_version_carries_hashes_run_and_warning(registered):
    tracking, first = registered.tracking, registered.versions[0]
    version = tracking.client.get_model_version("face-emotion", str(first))
    for file, digest in registered.bundles[0].hashes.items():
        assert version.tags[f"sha256.{file}"] == digest
    assert version.tags["synthetic"] == "true" and version.tags["data_fingerprint"] == "ab" * 16
    assert float(version.tags["parity"]) <= 1e-4
    assert tracking.client.get_run(version.run_id).info.run_name == "candidate 0"
    assert "synthetic faces" in version.description and "prohibited in the EU" in version.description
    assert "- efficientnet-lite0: weights imagenet." in version.description


def test_packed_model_holds_no_pickle_and_no_path_of_this_machine(registered):
    folder, files = registered.artifacts(registered.versions[0]), registered.first_files
    assert {"artifacts/model.json", "artifacts/weights.safetensors", "code/fer_core/__init__.py"} <= files
    assert not [f for f in files if f.endswith((".pkl", ".pth", ".pt", ".bin", ".pyc"))]
    text = (folder / "MLmodel").read_text()
    assert "/" not in yaml.safe_load(text)["flavors"]["python_function"]["model_code_path"]
    assert "/tmp/" not in text and "/home/" not in text and "/root/" not in text


def test_signature_is_explicit_and_requirements_are_pinned(registered):
    folder = registered.artifacts(registered.versions[0])
    signature = yaml.safe_load((folder / "MLmodel").read_text())["signature"]
    assert '"name": "path", "required": false' in signature["inputs"]
    assert '"name": "surprise"' in signature["outputs"]
    lines = (folder / "requirements.txt").read_text().split()
    assert all("==" in line for line in lines)
    assert any(line.startswith("opencv-python-headless==4.") for line in lines)


def test_without_a_champion_the_message_says_what_to_do(registered, tmp_path):
    other = replace(registered.tracking, cfg=TrackingConfig(uri=registered.tracking.uri, model="nobody"))
    assert champion_version(other) is None
    with pytest.raises(
        RegistryError, match=r"no version of 'nobody' has alias 'champion' at .*; make one with 'ferflow train'"
    ):
        load_champion(other)


def test_promoted_model_is_loaded_bit_for_bit(registered, elsewhere, no_champion):
    promote(elsewhere, registered.versions[0], replacing=None, note="first")
    loaded = load_champion(elsewhere)
    assert (loaded.name, loaded.version) == ("face-emotion", registered.versions[0])
    assert loaded.bundle.digest == registered.bundles[0].digest
    version = elsewhere.client.get_model_version("face-emotion", str(loaded.version))
    assert version.tags["promotion"] == "first"


@contextmanager
def tampered(registered, version):
    """A version's files in the artifact store, put back afterwards."""
    folder = registered.artifacts(version)
    backup = folder.with_name("backup")
    shutil.copytree(folder, backup)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        backup.rename(folder)


def test_fault_101_pickle_beside_the_model_is_refused(registered, elsewhere):
    version = registered.versions[0]
    with tampered(registered, version) as folder:
        (folder / "python_model.pkl").write_bytes(b"cos\nsystem\n")
        with pytest.raises(RegistryError, match=r"not as it was registered: found also \['python_model.pkl'\]"):
            load_version(elsewhere, version)
        (folder / "python_model.pkl").rename(folder / "artifacts" / "extra.bin")
        with pytest.raises(RegistryError, match=r"found also \['extra.bin'\]"):
            load_version(elsewhere, version)


def test_fault_102_weights_swapped_in_the_artifact_store_are_refused(registered, elsewhere, no_champion):
    one, two = registered.versions
    with tampered(registered, one) as folder:
        for name in FILES:
            shutil.copy(registered.artifacts(two) / "artifacts" / name, folder / "artifacts" / name)
        with pytest.raises(RegistryError, match="was altered: its SHA-256"):
            load_version(elsewhere, one)
        with pytest.raises(RegistryError, match="was altered"):
            promote(elsewhere, one, replacing=None)
    assert champion_version(elsewhere) is None
    assert not list((elsewhere.workspace / "models").glob(".fetch-*"))


def test_device_asked_for_is_the_one_that_computes(registered, elsewhere):
    """Nothing can be computed on torch's meta device: the canary says so, of fetched files and of kept ones."""
    for _ in range(2):
        with pytest.raises(NotImplementedError, match="meta tensor"):
            load_version(elsewhere, registered.versions[0], torch.device("meta"))
        assert load_version(elsewhere, registered.versions[0]).bundle.backbone.device.type == "cpu"


def test_file_missing_in_the_artifact_store_is_named(registered, elsewhere):
    with tampered(registered, registered.versions[0]) as folder:
        (folder / "artifacts" / "model.json").unlink()
        with pytest.raises(RegistryError, match=r"missing \['model.json'\]"):
            load_version(elsewhere, registered.versions[0])


def test_loading_runs_nothing_that_came_with_the_model(registered, elsewhere, tmp_path):
    mark = tmp_path / "ran"
    with tampered(registered, registered.versions[0]) as folder:
        for planted in ("pyfunc.py", "code/fer_core/__init__.py", "code/fer_core/models/bundle.py"):
            (folder / planted).write_text(f"open({str(mark)!r}, 'w')\n")
        assert load_version(elsewhere, registered.versions[0]).bundle.digest == registered.bundles[0].digest
    assert not mark.exists()


def test_copy_in_the_workspace_is_checked_at_every_load_and_fetched_again(registered, elsewhere):
    version = registered.versions[0]
    kept = load_version(elsewhere, version).folder
    (kept / "model.json").write_text("{}")
    assert load_version(elsewhere, version).bundle.digest == registered.bundles[0].digest
    assert read_bundle(kept, registered.bundles[0].hashes)


def test_loaded_once_a_model_needs_no_download(registered, elsewhere):
    version = registered.versions[0]
    load_version(elsewhere, version)
    with tampered(registered, version) as folder:
        shutil.rmtree(folder / "artifacts")
        assert load_version(elsewhere, version).version == version


@pytest.mark.parametrize("tag", ["{root}/precious", "../../precious", "..", ""])
def test_tag_of_a_version_names_no_folder(registered, elsewhere, tmp_path, tag):
    version, client = registered.versions[0], registered.tracking.client
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    inside = replace(elsewhere, workspace=tmp_path / "workspace")
    client.set_model_version_tag("face-emotion", str(version), "model_digest", tag.format(root=tmp_path))
    try:
        folder = load_version(inside, version).folder
        assert load_version(inside, version).folder == folder
    finally:
        client.set_model_version_tag("face-emotion", str(version), "model_digest", registered.bundles[0].digest)
    assert folder == tmp_path / "workspace" / "models" / "registered" / registered.bundles[0].digest
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


def test_version_that_is_not_there_is_told(registered):
    one, two = registered.versions
    with pytest.raises(
        RegistryError, match=rf"version 999 of 'face-emotion' is not there at http.*; there are {one}, {two}"
    ):
        load_version(registered.tracking, 999)


def test_version_made_by_others_is_refused(registered):
    client, name = registered.tracking.client, "face-emotion-foreign"
    client.create_registered_model(name)
    made = client.create_model_version(name, "s3://somewhere/model")
    other = replace(registered.tracking, cfg=TrackingConfig(model=name))
    with pytest.raises(RegistryError, match="has no hashes of its files; it was not made by ferflow"):
        load_version(other, int(made.version))


@pytest.fixture
def said_to_be_at(tracking, tmp_path):
    """A version with hashes whose files are said to be elsewhere, and the way to it; no server refuses its address."""
    cfg = TrackingConfig(model="face-emotion-elsewhere")
    with suppress(MlflowException):
        tracking.client.create_registered_model(cfg.model)

    def make(source: str):
        tags = {f"sha256.{name}": "ab" * 32 for name in FILES}
        version = tracking.client.create_model_version(cfg.model, source, tags=tags).version
        return replace(tracking, cfg=cfg, workspace=tmp_path), int(version)

    return make


@pytest.mark.parametrize(
    "address", ["http://{}/model", "https://{}/api/2.0/mlflow-artifacts/artifacts/1", "ftp://u:p@{}/"]
)
def test_version_whose_files_are_at_an_address_is_refused_and_nobody_is_asked(said_to_be_at, address):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        tracking, version = said_to_be_at(address.format(f"127.0.0.1:{listener.getsockname()[1]}"))
        with pytest.raises(RegistryError, match=r"says that its files are at .*, which is not MLflow's store") as told:
            load_version(tracking, version)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert "u:p" not in str(told.value)


@pytest.mark.parametrize("source", ["s3://bucket/model", "gs://bucket/model", "unheard-of://bucket/model"])
def test_version_in_a_store_that_cannot_be_read_here_is_one_sentence(said_to_be_at, source):
    tracking, version = said_to_be_at(source)
    with pytest.raises(
        RegistryError, match=rf"^version {version} of 'face-emotion-elsewhere'( is in a store|:| cannot)"
    ):
        load_version(tracking, version)


def test_model_whose_files_changed_is_not_registered(registered, tmp_path):
    bundle = small_bundle(tmp_path / "a")
    small_bundle(tmp_path / "b", seed=1)
    shutil.copy(tmp_path / "b" / "model.json", tmp_path / "a" / "model.json")
    with start_run(registered.tracking, "changed") as run, pytest.raises(RegistryError, match="was altered"):
        register(registered.tracking, bundle, tmp_path / "a", run.id)


@pytest.mark.slow
def test_parity_notices_another_model_in_the_package(registered):
    with pytest.raises(RegistryError, match=r"a fresh process (says|differs)"):
        prove_parity(registered.artifacts(registered.versions[0]), registered.bundles[1])


def test_standing_is_found_again_with_its_version(registered, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_core.tracking.registry.prove_parity", lambda *_: 0.0)  # proven in the fixture
    record = OutOfFoldRecord("f", SIX, ("c1", "c2"), (0, 1), ("s1", "s2"), (0, 0), 0.05, 1.5)
    bundle = small_bundle(tmp_path)
    with start_run(registered.tracking, "record") as run:
        version = register(registered.tracking, bundle, tmp_path, run.id, record)
    assert load_out_of_fold_record(registered.tracking, version) == record
    assert load_out_of_fold_record(registered.tracking, registered.versions[0]) is None


def test_server_that_is_away_is_no_missing_champion(registered, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client = MlflowClient("http://127.0.0.1:9", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match="alias 'champion' of 'face-emotion'"):
        champion_version(replace(registered.tracking, client=client))


def test_the_newest_adopted_version_is_found_by_its_tag(registered):
    tracking, (one, two) = registered.tracking, registered.versions
    client, name = tracking.client, tracking.cfg.model
    assert adopted_version(tracking) is None
    try:
        for version in (one, two):
            client.set_model_version_tag(name, str(version), "model", "adopted")
            assert adopted_version(tracking) == version
    finally:
        for version in (one, two):
            client.set_model_version_tag(name, str(version), "model", "head")
