from __future__ import annotations

import subprocess
from base64 import b64encode
from urllib.parse import urlsplit

import pytest

from mlflow_server.address import CREDENTIALS, MLFLOW_PASSWORD, PREFECT_AUTH, credentials, login_link, make_credentials
from tests.mlflow_server.test_launch import LOGIN, request

API = "/api/2.0/mlflow/experiments/get?experiment_id=0"


@pytest.mark.parametrize(
    "path, status",
    [
        ("/health", 200),
        ("/login", 200),
        ("/", 401),
        ("/version", 401),
        ("/docs", 401),
        ("/health/", 401),
        ("//health", 401),
        ("/api/2.0/mlflow/../../health", 401),
        ("/static-files/index.html", 401),
        (API, 401),
        ("/api/2.0/mlflow-artifacts/artifacts", 401),
    ],
)
def test_without_the_password_only_health_and_login_are_answered(mlflow_url, path, status):
    assert request(mlflow_url, "GET", path, login="")[0] == status


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic " + b64encode(b"ferflow:wrong").decode(),
        "Bearer " + LOGIN.split()[1],
        LOGIN + "x",
        LOGIN[:-4],
        "Basic \xff\xfe",
    ],
)
def test_a_wrong_password_is_refused(mlflow_url, header):
    assert request(mlflow_url, "GET", API, login=header)[0] == 401
    assert request(mlflow_url, "GET", API, login=LOGIN)[0] == 200


def test_the_assistant_which_runs_programs_is_off(mlflow_url):
    """MLflow offers it at this path to every client of this machine; 405 would be: it is there, for POST."""
    status, body = request(mlflow_url, "GET", "/ajax-api/3.0/mlflow/assistant/config", login=LOGIN)
    assert (status, body) == (404, "MLflow's assistant is switched off.\n")


def test_the_refusal_says_how_to_log_in(mlflow_url):
    status, body = request(mlflow_url, "GET", API, login="")
    assert status == 401
    assert "the link that 'ferflow status' prints" in body and str(CREDENTIALS) in body


def test_a_page_of_another_port_is_no_page_of_ours(mlflow_url):
    """Browsers send the password they know with requests of any page, and another user of the machine can serve one."""
    port = urlsplit(mlflow_url).port
    for origin, status in [
        (f"http://127.0.0.1:{port}", 200),
        ("http://127.0.0.1:8000", 403),
        (f"http://localhost:{port}", 403),
        ("null", 403),
    ]:
        assert request(mlflow_url, "GET", API, Origin=origin)[0] == status, origin


def test_credentials_stay_and_are_for_the_owner_alone(tmp_path):
    made = make_credentials(tmp_path)
    assert make_credentials(tmp_path) == made == credentials(tmp_path)
    assert len(made[MLFLOW_PASSWORD]) >= 43 and made[PREFECT_AUTH] == f"ferflow:{made[MLFLOW_PASSWORD]}"
    assert (tmp_path / CREDENTIALS).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (tmp_path / CREDENTIALS).parent.iterdir()] == [CREDENTIALS.name]


def test_a_password_that_others_could_read_is_replaced(tmp_path):
    before = make_credentials(tmp_path)
    (tmp_path / CREDENTIALS).chmod(0o644)
    after = make_credentials(tmp_path)
    assert after[MLFLOW_PASSWORD] != before[MLFLOW_PASSWORD]
    assert (tmp_path / CREDENTIALS).stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_the_credentials_is_not_written_through(tmp_path):
    (tmp_path / CREDENTIALS).parent.mkdir()
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / CREDENTIALS).symlink_to(other)
    make_credentials(tmp_path)
    assert other.read_text() == "mine"
    assert not (tmp_path / CREDENTIALS).is_symlink()


@pytest.mark.parametrize("text", ["", "\x00\xff", "export", "export OTHER=1", "="])
def test_damaged_credentials_are_none(tmp_path, text):
    (tmp_path / CREDENTIALS).parent.mkdir()
    (tmp_path / CREDENTIALS).write_text(text, encoding="latin-1")
    assert credentials(tmp_path) == {}


def test_a_shell_reads_the_credentials(tmp_path):
    made = make_credentials(tmp_path)
    said = subprocess.run(
        ["sh", "-c", f". {tmp_path / CREDENTIALS}; printenv {MLFLOW_PASSWORD}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == made[MLFLOW_PASSWORD]


def test_a_login_link_holds_the_secret_where_no_server_sees_it():
    link = urlsplit(login_link("http://127.0.0.1:5000", "ferflow:secret", "#/experiments/1"))
    assert (link.path, link.query) == ("/login", "")
    assert link.fragment == "ZmVyZmxvdzpzZWNyZXQ=&#/experiments/1"
    assert login_link("http://127.0.0.1:5000", "", "#/x") == "http://127.0.0.1:5000/#/x"
