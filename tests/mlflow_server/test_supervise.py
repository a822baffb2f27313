from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlflow_server import ServerError
from mlflow_server.supervise import Program, Supervisor, check_free, stop_all

# Writes its pid, starts a grandchild that ignores SIGTERM, and stays.
STUBBORN = """
import os, subprocess, sys, time
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(99)"
child = subprocess.Popen([sys.executable, "-c", deaf])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(99)
"""


def stubborn(folder: Path, name: str, **kwargs: Any) -> Program:
    code, pids = folder / "stubborn.py", folder / f"{name}.pids"
    code.write_text(STUBBORN)
    command = (sys.executable, str(code), str(pids))
    return Program(name, command, lambda: pids.is_file() and pids.stat().st_size > 0, **kwargs)


def pids(folder: Path) -> list[int]:
    return [int(pid) for path in folder.glob("*.pids") for pid in path.read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def gone(numbers: list[int], within_s: float = 2.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, numbers))


def test_stop_leaves_no_process_and_takes_less_than_ten_seconds(tmp_path):
    programs = [stubborn(tmp_path, "one"), stubborn(tmp_path, "two", stop_s=3), stubborn(tmp_path, "three", last=True)]
    supervisor = Supervisor(tmp_path / "servers", programs, {})
    told = []
    try:
        supervisor.wait_ready(30, lambda name, s: told.append(name))
        started = [*pids(tmp_path), supervisor.pid]
        assert told == ["one", "two", "three"] and len(started) == 7 and all(map(alive, started))
        assert set(supervisor.states().values()) <= {"RUNNING", "STARTING"}
    finally:
        before = time.monotonic()
        supervisor.stop()
    assert time.monotonic() - before < 10
    assert gone(started)


# Starts two of the above under supervisord, says so, and waits to be killed.
STARTER = """
import sys, time
from pathlib import Path
from mlflow_server.supervise import Supervisor
from tests.mlflow_server.test_supervise import stubborn
folder = Path(sys.argv[1])
supervisor = Supervisor(folder / "servers", [stubborn(folder, "one"), stubborn(folder, "two")], {})
supervisor.wait_ready(60, lambda *_: None)
print(supervisor.pid, flush=True)
time.sleep(99)
"""


@pytest.mark.parametrize("supervisor_too", [False, True], ids=["the starter alone", "supervisord too"])
def test_what_a_killed_start_left_is_found_and_stopped(tmp_path, supervisor_too):
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    neighbour = Supervisor(other / "servers", [stubborn(other, "one")], {})
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(mine)], stdout=subprocess.PIPE, text=True)
    try:
        neighbour.wait_ready(60, lambda *_: None)
        assert starter.stdout is not None
        supervisor = int(starter.stdout.readline())
        starter.kill()
        starter.wait()
        if supervisor_too:
            os.kill(supervisor, signal.SIGKILL)
        left = [*pids(mine), *([] if supervisor_too else [supervisor])]
        assert all(map(alive, left))
        before = time.monotonic()
        assert stop_all(mine / "servers") == len(left)
        assert time.monotonic() - before < 10 and gone(left)
        assert stop_all(mine / "servers") == 0
        assert all(map(alive, pids(other)))
    finally:
        starter.kill()
        starter.wait()
        stop_all(mine / "servers")
        neighbour.stop()
    assert gone(pids(other))


def test_a_program_that_ends_while_starting_is_reported_with_its_last_words(tmp_path):
    bad = Program("bad", (sys.executable, "-c", "raise SystemExit('no database there')"), lambda: False)
    supervisor = Supervisor(tmp_path, [bad], {})
    try:
        with pytest.raises(ServerError, match=r"bad ended while starting: no database there \(see .*bad\.log\)"):
            supervisor.wait_ready(30, lambda *_: None)
    finally:
        supervisor.stop()


def test_a_program_that_never_answers_is_reported(tmp_path):
    mute = Program("mute", (sys.executable, "-c", "import time; time.sleep(99)"), lambda: False)
    supervisor = Supervisor(tmp_path, [mute], {})
    try:
        with pytest.raises(ServerError, match=r"mute did not answer within 2 s: it said nothing"):
            supervisor.wait_ready(2, lambda *_: None)
    finally:
        supervisor.stop()


def test_a_crashed_program_is_started_again(tmp_path):
    supervisor = Supervisor(tmp_path / "servers", [stubborn(tmp_path, "one")], {})
    try:
        supervisor.wait_ready(30, lambda *_: None)
        time.sleep(1.1)  # supervisord counts an earlier end as a failed start
        (first, child) = pids(tmp_path)
        (tmp_path / "one.pids").unlink()
        os.kill(first, 9)
        os.kill(child, 9)
        deadline = time.monotonic() + 15
        while not pids(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.1)
        again = pids(tmp_path)
        assert again and first not in again
    finally:
        supervisor.stop()
    assert gone(again)


def test_secrets_reach_the_programs_and_no_file(tmp_path):
    said = tmp_path / "said"
    code = f"import os, time; open({str(said)!r}, 'w').write(os.environ['SECRET']); time.sleep(99)"
    supervisor = Supervisor(
        tmp_path / "servers", [Program("one", (sys.executable, "-c", code), said.is_file)], {"SECRET": "hunter22"}
    )
    try:
        supervisor.wait_ready(30, lambda *_: None)
        files = [p.read_text() for p in (tmp_path / "servers").iterdir() if p.is_file()]
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    finally:
        supervisor.stop()
    assert said.read_text() == "hunter22"
    assert files and not any("hunter22" in text for text in [*files, listed])


def test_long_and_odd_folder_names_do(tmp_path):
    folder = tmp_path / ("deep" * 30) / "mine, 'quoted'"
    supervisor = Supervisor(folder, [stubborn(tmp_path, "one")], {})
    try:
        supervisor.wait_ready(30, lambda *_: None)
    finally:
        supervisor.stop()
    assert gone(pids(tmp_path))
    assert not supervisor.socket.exists()


@pytest.mark.parametrize("name", ["a ;b", "a #b", "100% mine", "two\nlines"])
def test_a_folder_that_supervisor_would_misread_is_refused(tmp_path, name):
    with pytest.raises(ServerError, match=r"choose a workspace without '%', ' ;', ' #' and newlines"):
        Supervisor(tmp_path / name, [], {})


def test_a_taken_port_is_named_with_its_option():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ServerError, match=rf"port {port} of 127\.0\.0\.1 .*in use\); choose another with --mlflow-port"
        ):
            check_free("127.0.0.1", [(port, "--mlflow-port")])
    check_free("127.0.0.1", [(port, "--mlflow-port")])
