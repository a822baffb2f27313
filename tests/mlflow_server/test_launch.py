from __future__ import annotations

import http.client
import json
import os
from base64 import b64encode
from urllib.parse import urlsplit

import pytest

from mlflow_server import ServerError
from mlflow_server.launch import is_loopback, mlflow_server, url

LOGIN = (
    "Basic "
    + b64encode(f"{os.environ['MLFLOW_TRACKING_USERNAME']}:{os.environ['MLFLOW_TRACKING_PASSWORD']}".encode()).decode()
)


def request(
    base: str, method: str, path: str, body: object = None, login: str = LOGIN, **headers: str
) -> tuple[int, str]:
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    named = {
        "Content-Type": "application/json",
        "Authorization": login,
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    connection.request(method, path, json.dumps(body) if body is not None else None, named)
    response = connection.getresponse()
    return response.status, response.read().decode(errors="replace")


@pytest.mark.parametrize(
    "host, alone",
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.1.5", False),
        ("lab", False),
    ],
)
def test_only_loopback_is_alone(host, alone):
    assert is_loopback(host) is alone


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lab.example"])
def test_other_machines_are_let_in_with_users_only(tmp_path, host):
    with pytest.raises(ServerError, match=rf"host {host} can be reached .* name it with --users"):
        mlflow_server(tmp_path, host=host)


def test_logins_without_their_package_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerError, match=r"need Flask-WTF; install it with: pip install 'ferflow\[team\]'"):
        mlflow_server(tmp_path, host="0.0.0.0", users=tmp_path / "users.yaml")


def test_secrets_are_on_no_command_line(tmp_path):
    server = mlflow_server(tmp_path, database="postgresql+psycopg://fer:hunter22@db/mlflow")
    assert "hunter22" not in " ".join(server.command)
    assert server.environment["MLFLOW_BACKEND_STORE_URI"].endswith("hunter22@db/mlflow")


def test_a_database_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ServerError, match=r"'mysql://…'; use postgresql\+psycopg://"):
        mlflow_server(tmp_path, database="mysql://u:secret@db/mlflow")


def test_wildcard_hosts_are_opened_by_their_loopback_name():
    assert url("0.0.0.0", 5000) == "http://127.0.0.1:5000"
    assert url("::1", 5000) == "http://[::1]:5000"


@pytest.mark.parametrize("host, status", [("127.0.0.1", 200), ("localhost", 200), ("evil.example", 400)])
def test_only_loopback_names_are_answered(mlflow_url, host, status):
    """Fault 115: a page whose name was rebound to 127.0.0.1."""
    port = urlsplit(mlflow_url).port
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    found, _ = request(mlflow_url, "GET", path, Host=f"{host}:{port}")
    assert found == status


def test_another_site_cannot_post(mlflow_url):
    path = "/api/2.0/mlflow/experiments/create"
    status, _ = request(mlflow_url, "POST", path, {"name": "forged"}, Origin="https://evil.example")
    assert status == 403


def test_no_artifact_proxy_on_loopback(mlflow_url):
    status, _ = request(mlflow_url, "GET", "/api/2.0/mlflow-artifacts/artifacts")
    assert status in (404, 503)


def test_no_job_runner(mlflow_url):
    """It would be eight more processes, and an interface of its own to attack."""
    status, body = request(mlflow_url, "POST", "/ajax-api/3.0/jobs", {"job_name": "x", "params": {}})
    assert status >= 400, body


def test_runs_logged_through_the_server_are_read_without_it_and_the_other_way_round(tmp_path, mlflow_url):
    """One workspace, with `ferflow up` today and without it tomorrow."""
    from mlflow import MlflowClient

    served = MlflowClient(mlflow_url)
    experiment = served.create_experiment("both ways")
    run = served.create_run(experiment)
    served.log_text(run.info.run_id, "through the server", "note.txt")
    location = served.get_run(run.info.run_id).info.artifact_uri
    database = urlsplit(location).path.split("/artifacts/")[0] + "/mlflow.db"
    alone = MlflowClient(f"sqlite:///{database}")
    assert [a.path for a in alone.list_artifacts(run.info.run_id)] == ["note.txt"]
    alone.log_text(run.info.run_id, "without it", "other.txt")
    alone.log_metric(run.info.run_id, "m", 1.0)
    assert [a.path for a in served.list_artifacts(run.info.run_id)] == ["note.txt", "other.txt"]
    assert served.get_run(run.info.run_id).data.metrics == {"m": 1.0}
