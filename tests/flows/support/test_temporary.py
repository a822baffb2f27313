"""The Prefect server that commands of one workspace share."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from fer_core.errors import ConfigError
from flows.support.temporary import KEPT, _address, _found, _installation, kept_s

ONE_COMMAND = """
import os, sys, time
os.environ["PREFECT_HOME"] = sys.argv[1]
from pathlib import Path
from flows.support.temporary import _read, temporary_server
with temporary_server():
    from prefect.client.orchestration import get_client
    with get_client(sync_client=True) as client:
        assert client.hello().status_code == 200
    print(_read(Path(sys.argv[1])).pid, flush=True)
    time.sleep(float(sys.argv[2]))
"""


def wait_for(what: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(what())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_commands_share_a_server_which_ends_when_nobody_needs_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(KEPT, "60")

    def command(holds_s: float) -> Popen[str]:
        return Popen([sys.executable, "-c", ONE_COMMAND, str(tmp_path), str(holds_s)], stdout=-1, text=True)

    def pid_of(running: Popen[str]) -> int:
        assert running.stdout is not None
        return int(running.stdout.readline())

    first, second = command(0), command(0)
    pid = pid_of(first)
    try:
        assert pid_of(second) == pid, "two commands at once start one server"
        assert first.wait(60) == second.wait(60) == 0
        killed = command(600)
        assert pid_of(killed) == pid, "the server was kept"
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        assert _address(tmp_path).stat().st_mode & 0o077 == 0
        psutil.Process(pid).kill()
        monkeypatch.setenv(KEPT, "1")
        last = command(4)
        assert (new := pid_of(last)) != pid, "one that was killed is replaced"
        time.sleep(2)
        assert psutil.pid_exists(new), "a command uses it"
        assert last.wait(60) == 0
        assert wait_for(lambda: not _address(tmp_path).exists(), 30)
    finally:
        for process in psutil.process_iter():
            if str(tmp_path) in _words(process):
                process.kill()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_an_address_whose_process_is_another_by_now_is_not_used(tmp_path: Path) -> None:
    stale = {"port": 1, "auth": "ferflow:secret", "pid": os.getpid(), "made_by": _installation(tmp_path)}
    _address(tmp_path).write_text(json.dumps(stale))
    assert _found(tmp_path) is None
    _address(tmp_path).write_text("half wri")
    assert _found(tmp_path) is None


@pytest.mark.parametrize("given", ["soon", "-1", "inf", "nan"])
def test_seconds_to_keep_the_server_are_checked(given: str, monkeypatch) -> None:
    monkeypatch.setenv(KEPT, given)
    with pytest.raises(ConfigError, match=f"{KEPT} is '{given}'; it needs a number of seconds"):
        kept_s()
