"""Items 80 and 81: a flow that is told to stop ends, says so by its exit code, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fer_core.config import RunConfig
from flows.commands.run_flow import _resumption_told
from flows.commands.session import Session


def session_of(leader: int) -> list[psutil.Process]:
    """The processes of a session; decoding children have sessions of their own, and end with their parent's pipe."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def wait_for(what, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not what() and time.monotonic() < deadline:
        time.sleep(0.2)
    return bool(what())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("stop", "made", "code"),
    [
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), "store/faces/*/*.safetensors", 143, id="faces, told to"),
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), "studies/*/trial-0000", 130, id="search, Ctrl-C"),
    ],
)
def test_item_81_a_stopped_demo_leaves_nothing_running(ferflow: str, tmp_path: Path, stop, made, code) -> None:
    with (tmp_path / "log").open("w") as log:
        demo = subprocess.Popen(
            [ferflow, "demo", "--subjects", "6"], cwd=tmp_path, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
    try:
        assert wait_for(lambda: any((tmp_path / "workspace").glob(made)), 200)
        stop(demo.pid)
        assert wait_for(lambda: demo.poll() is not None, 20), (tmp_path / "log").read_text()[-2000:]
        assert wait_for(lambda: not session_of(demo.pid), 10), [p.cmdline() for p in session_of(demo.pid)]
    finally:
        for process in session_of(demo.pid):
            process.kill()
        demo.wait()
    assert demo.returncode == code
    said = (tmp_path / "log").read_text()
    assert "Stopped." in said and "Traceback" not in said
    assert "To go on where it was, give the same command again: ferflow demo --subjects 6" in said


TIDIES_FOR_LONG = """
import atexit, time
from flows import cli
from flows.commands.session import command

def wait(session):
    atexit.register(time.sleep, 60)
    session.say("kept")
    session.note("ready")
    time.sleep(60)

cli.app.command()(command()(wait))
cli.main()
"""


TIDIES_ITSELF = """
import time
from flows import cli
from flows.commands.session import command

def wait(session):
    try:
        session.note("ready")
        time.sleep(60)
    finally:
        session.note("tidying")
        time.sleep(60)

cli.app.command()(command()(wait))
cli.main()
"""


def test_fault_82_a_second_ctrl_c_ends_a_command_that_is_still_stopping():
    process = subprocess.Popen(
        [sys.executable, "-c", TIDIES_ITSELF, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stderr is not None
    for said in ("ready\n", "tidying\n"):
        while process.stderr.readline() != said:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("Stopped.\n") and "Traceback" not in err


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_ends_at_once_whatever_its_libraries_still_tidy(signal_number: int, code: int) -> None:
    """Under load torch and the interpreter took up to 39 s after "Stopped."."""
    process = subprocess.Popen(
        [sys.executable, "-c", TIDIES_FOR_LONG, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (code, "kept\n", "Stopped.\n")


def test_a_stopped_flow_says_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ferflow", "search", "my clips.csv"])
    with pytest.raises(KeyboardInterrupt), _resumption_told(Session(RunConfig())):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == (
        "To go on where it was, give the same command again: ferflow search 'my clips.csv'\n"
    )
