"""Trials' processes: what one may do to the others, and when their environment is set."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import CancelledError
from hashlib import pbkdf2_hmac
from multiprocessing import forkserver
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path

import pytest
from pebble import ProcessExpired

from fer_core.errors import TrainingError
from fer_core.experiments.search.processes import STARTS, trial_processes


def environment_of_torch(names: list[str]) -> dict[str, str | int]:
    import torch

    return {"torch": torch.get_num_threads(), **{name: os.environ.get(name, "") for name in names}}


def pid(_: int) -> int:
    return os.getpid()


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_torch_is_loaded_with_the_environment_of_the_processes(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with trial_processes(1, threads=1) as executor:
        seen = executor.submit(environment_of_torch, ["OMP_NUM_THREADS", "OMP_WAIT_POLICY"]).result()
    assert seen == {"torch": 1, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    assert os.environ["OMP_NUM_THREADS"] == "2", "that of this process is its own"


def threads_of(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/task"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux lists them")
def test_the_server_that_is_forked_has_one_thread_and_the_heavy_modules():
    forkserver._forkserver._stop()  # another test may have started one with other modules
    with trial_processes(1) as executor:
        server = executor.submit(os.getppid).result()
        loaded = executor.submit(modules).result()
        assert {"torch", "torch._dynamo", "fer_core.experiments.search.trial"} <= loaded
        assert threads_of(server) == 1


def modules() -> set[str]:
    return set(sys.modules)


def test_a_server_that_was_killed_is_started_again():
    with trial_processes(1) as executor:
        os.kill(executor.submit(os.getppid).result(), signal.SIGKILL)
        assert executor.submit(pid, 0).result(timeout=120) > 0


def test_every_call_has_a_process_of_its_own_and_a_death_is_its_own():
    with trial_processes(2) as executor:
        futures = [executor.submit(f, i) for i, f in enumerate((pid, die, pid, pid))]
        with pytest.raises(ProcessExpired):
            futures[1].result()
        assert len({futures[i].result() for i in (0, 2, 3)}) == 3


def test_a_process_runs_many_calls_and_is_replaced_when_it_has_run_them_or_dies():
    with trial_processes(1, calls=2) as executor:
        first, again, replaced = (executor.submit(pid, i).result() for i in range(3))
        assert first == again != replaced
        with pytest.raises(ProcessExpired):
            executor.submit(die, 3).result()
        assert executor.submit(pid, 4).result() not in (first, replaced)


def test_a_process_that_dies_between_two_calls_is_replaced():
    with trial_processes(1, calls=9) as executor:
        os.kill(executor.submit(pid, 0).result(), signal.SIGKILL)
        assert executor.submit(pid, 1).result(timeout=120) > 0


def set_torch(threads: int) -> None:
    from fer_core.runtime import set_threads

    set_threads(threads)


def torch_as_it_is() -> tuple[int, bool]:
    import torch

    return torch.get_num_threads(), bool(torch.tensor(1e-40) * 1 == 0)


def test_what_a_call_sets_in_torch_ends_with_it():
    with trial_processes(1, threads=1, calls=9) as executor:
        executor.submit(set_torch, 2).result()
        assert executor.submit(torch_as_it_is).result() == (1, False)


@pytest.fixture
def stillborn(monkeypatch):
    """Python cannot start in a child until this is called."""
    forkserver._forkserver._stop()  # there for tests; a server that runs would be forked as before
    ensure_running()  # multiprocessing's own helper, which starts with the first child
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    return lambda: monkeypatch.delenv("PYTHONHOME")


def test_a_process_that_dies_before_it_took_its_work_is_started_again(stillborn, caplog):
    with trial_processes(1) as executor:
        future = executor.submit(pid, 0)
        deadline = time.monotonic() + 60
        while "it is started again" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.005)
        stillborn()
        assert future.result(timeout=60) > 0


def test_processes_that_never_stay_up_are_told_of(stillborn):
    with trial_processes(1) as executor:
        with pytest.raises(TrainingError, match=f"no process for a trial stays up; {STARTS} were started"):
            executor.submit(pid, 0).result(timeout=60)
        stillborn()
        assert executor.submit(pid, 1).result(timeout=60) > 0


def deaf(started: Path) -> None:
    """Minutes inside one call of C, where Python handles no signal."""
    started.touch()
    pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def test_processes_that_handle_no_signal_are_ended_together_within_seconds(tmp_path, caplog):
    begun = [tmp_path / str(i) for i in range(3)]
    with pytest.raises(KeyboardInterrupt), trial_processes(3) as executor:
        for path in begun:
            executor.submit(deaf, path)
        while not all(path.exists() for path in begun):
            time.sleep(0.05)
        signalled = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - signalled < 5  # one after the other, with 3 s each, they took 9.8 s
    assert not multiprocessing.active_children()
    assert "started again" not in caplog.text


def test_an_exception_ends_the_processes_at_once():
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), trial_processes(1) as executor:
        future = executor.submit(time.sleep, 600)
        time.sleep(1)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 20
    with pytest.raises(CancelledError):
        future.result(timeout=1)
