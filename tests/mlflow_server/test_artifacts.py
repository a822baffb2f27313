"""Artifacts in a bucket, of moto's S3 server: only MLflow's server has its keys."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from mlflow_server import ServerError
from mlflow_server.address import answers
from mlflow_server.launch import check_bucket, mlflow_server
from tests.conftest import START_S, free_port
from tests.saved_models import small_bundle

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL")


@pytest.fixture(scope="module")
def bucket():
    """A bucket, and the keys to it in the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(KEYS, ("known", "known", "us-east-1", f"http://127.0.0.1:{port}"), strict=True):
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        client.create_bucket(Bucket="lab")
        yield client
    server.stop()


def test_a_bucket_that_is_there_is_accepted(bucket):
    check_bucket("s3://lab/ferflow")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://nowhere/x", r"bucket 'nowhere' cannot be used .*404"),
        ("gs://lab/x", r"artifacts go to s3://BUCKET/FOLDER; got 'gs://…'"),
        ("s3://", "no bucket"),
    ],
)
def test_another_address_is_named(bucket, address, said):
    with pytest.raises(ServerError, match=said):
        check_bucket(address)


def test_a_store_that_is_away_is_named_within_seconds(monkeypatch):
    for name, value in zip(KEYS, ("known", "known", "us-east-1", "http://127.0.0.1:9"), strict=True):
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    with pytest.raises(ServerError, match=r"bucket 'lab' cannot be used .*\$MLFLOW_S3_ENDPOINT_URL"):
        check_bucket("s3://lab/x")
    assert time.monotonic() - began < 10


def test_without_keys_the_variables_are_named(bucket, monkeypatch):
    for name in KEYS[:2]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(ServerError, match=r"bucket 'lab' cannot be used .*\$AWS_ACCESS_KEY_ID"):
        check_bucket("s3://lab/x")


@pytest.mark.slow
def test_a_model_goes_to_the_bucket_and_comes_back_without_keys(bucket, tmp_path, monkeypatch):
    from fer_core.config import TrackingConfig
    from fer_core.tracking.connection import connect
    from fer_core.tracking.registry import load_version, register
    from fer_core.tracking.run import start_run

    server = mlflow_server(tmp_path, port=free_port(), artifacts="s3://lab/ferflow")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            server.command, env={**os.environ, **server.environment}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"{server.url}/health"):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
        for name in KEYS:
            monkeypatch.delenv(name)
        folder = tmp_path / "candidate"
        folder.mkdir()
        monkeypatch.setattr("fer_core.tracking.registry.prove_parity", lambda *_: 0.0)  # takes a process of its own
        tracking = connect(TrackingConfig(uri=server.url), tmp_path / "client")
        with start_run(tracking, "candidate") as run:
            bundle = small_bundle(folder)
            version = register(tracking, bundle, folder, run.id)
        stored = [found["Key"] for found in bucket.list_objects_v2(Bucket="lab")["Contents"]]
        assert any(key.startswith("ferflow/") and key.endswith(".safetensors") for key in stored), stored
        assert load_version(tracking, version).bundle.digest == bundle.digest
        assert not (tmp_path / "artifacts").exists()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
