from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlflow_server.address import FILE, SERVERS, Addresses, announce, announced, answers, running, withdraw


@contextmanager
def server(status: int = 200):
    """Answers every GET with `status`; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_running_servers_are_found_until_withdrawn(tmp_path):
    with server() as mlflow, server() as prefect:
        addresses = Addresses(mlflow, prefect, pid=1)
        announce(tmp_path, addresses)
        assert running(tmp_path) == addresses
        withdraw(tmp_path)
        assert running(tmp_path) is None


def test_a_worker_reaches_the_servers_by_the_addresses_of_its_environment(tmp_path, monkeypatch):
    announce(tmp_path, Addresses("http://127.0.0.1:9", "http://127.0.0.1:9", pid=1))  # as the first machine sees them
    with server() as mlflow, server() as prefect:
        monkeypatch.setenv(SERVERS, json.dumps({"mlflow": mlflow, "prefect": prefect, "pid": 0}))
        assert running(tmp_path) == Addresses(mlflow, prefect, pid=0)


def test_an_announcement_outlived_by_its_servers_is_not_believed(tmp_path):
    with server() as mlflow, server() as prefect:
        announce(tmp_path, Addresses(mlflow, prefect, pid=1))
    assert announced(tmp_path) is not None
    assert running(tmp_path) is None


def test_half_of_the_servers_is_none(tmp_path):
    with server() as mlflow, server(500) as prefect:
        announce(tmp_path, Addresses(mlflow, prefect, pid=1))
        assert running(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mlflow": "x"}', json.dumps({"a": 1}), "\x00"])
def test_a_damaged_announcement_is_none(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert running(tmp_path) is None


def test_silence_is_given_up_within_two_seconds(tmp_path):
    """A port that takes connections and says nothing, as a stopped process does."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        announce(tmp_path, Addresses(url, url, pid=1))
        started = time.perf_counter()
        assert running(tmp_path) is None
        assert time.perf_counter() - started < 2


def test_a_demand_for_a_password_counts_as_an_answer():
    with server(401) as guarded, server(403) as refusing:
        assert answers(f"{guarded}/health")
        assert not answers(f"{refusing}/health")


def test_a_proxy_is_never_asked(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with server() as url:
        assert answers(url)
