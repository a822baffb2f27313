from __future__ import annotations

import json
from importlib import metadata

import pytest

from tests.flows.test_cli import run


def findings(*args: object) -> tuple[int, dict[str, dict]]:
    done = run("doctor", *args, "--json")
    return done.exit_code, {f["what"]: f for f in json.loads(done.stdout)["findings"]}


def test_all_is_well_here(workspace):
    code, found = findings()
    assert code == 0, found
    assert found["workspace"]["found"].startswith(str(workspace))
    assert {"packages", "face detector", "weights", "Prefect server", "servers", "computes on"} <= found.keys()


@pytest.mark.parametrize(
    "name, version",
    [
        ("mlflow", "3.16.0"),  # admin/password1234
        ("prefect", "3.6.27"),
        ("torch", "2.9.1"),  # CVE-2026-24747
        ("opencv-python-headless", "4.11.0.86"),  # CVE-2025-53644
        ("opencv-python-headless", "5.0.0"),  # no Viola-Jones
        ("av", "18.0.0"),  # crashes on a file cut in its first frame
        ("fastapi", "0.151.0"),  # Prefect cannot start
    ],
)
def test_a_release_beyond_its_bounds_is_named(workspace, monkeypatch, name, version):
    """Fault 117."""
    true = metadata.version
    monkeypatch.setattr(metadata, "version", lambda asked: version if asked == name else true(asked))
    code, found = findings()
    assert code == 1
    assert f"{name} {version} (needs " in found["packages"]["found"]
    assert "pip install" in found["packages"]["remedy"]


def test_a_missing_package_is_named(workspace, monkeypatch):
    true = metadata.version

    def version(name: str) -> str:
        if name == "pebble":
            raise metadata.PackageNotFoundError(name)
        return true(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "pebble missing" in findings()[1]["packages"]["found"]


def test_missing_weights_are_bad(workspace):
    code, found = findings("--set", "backbone.weights=/nowhere/vgg.pth")
    assert code == 1
    assert found["weights"]["state"] == "bad" and "/nowhere/vgg.pth" in found["weights"]["found"]


def test_weights_still_to_be_downloaded_are_no_fault(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    code, found = findings("--set", "backbone.name=vgg16")
    assert code == 0
    assert found["weights"]["state"] == "note"


def test_a_device_that_is_not_there_is_bad(workspace):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, found = findings("--set", "train.device=cuda")
    assert code == 1
    assert "torch sees no GPU" in found["gpu"]["found"]


def test_a_workspace_that_cannot_be_written_is_bad(tmp_path):
    (tmp_path / "file").write_text("")
    code, found = findings("--workspace", tmp_path / "file" / "inside")
    assert code == 1
    assert "is not writable" in found["workspace"]["found"]


def test_a_moved_workspace_is_bad_and_mended_by_relocate(tmp_path, monkeypatch):
    from fer_core.config import TrackingConfig
    from fer_core.tracking.connection import connect

    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    connect(TrackingConfig(), old)
    old.rename(new)
    monkeypatch.setenv("FERFLOW_WORKSPACE", str(new))
    _, found = findings()
    assert found["place"]["state"] == "bad"
    assert f"moved or copied from {old}" in found["place"]["found"]
    assert f"ferflow doctor --relocate --workspace {new}" in found["place"]["found"]
    done = run("doctor", "--relocate")
    assert done.exit_code == 0, done.stderr
    assert f"recorded in {old} are now recorded in {new}" in done.stdout
    assert not old.exists() and connect(TrackingConfig(), new).experiment_id


def test_the_network_of_landmarks_is_named_where_it_is_missing(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("FERFLOW_WEIGHTS", str(tmp_path / "empty"))
    _, found = findings()
    assert found["landmarks"]["state"] == "note" and "ferflow weights fetch face-landmarks" in str(found["landmarks"])
    settings = tmp_path / "run.yaml"
    settings.write_text("preprocess: {align: eyes}")
    code, found = findings("--config", settings)
    assert code == 1 and found["landmarks"]["state"] == "bad"
