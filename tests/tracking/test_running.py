"""Runs of processes that died are ended; those of the living, and of other hosts, are left alone."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from fer_core.tracking.running import has_died, this_process


def test_a_process_is_alive_until_it_ends():
    code = "from fer_core.tracking.running import this_process; print(this_process(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        told = other.stdout.readline().strip()
        assert not has_died(told) and not has_died(this_process())
        other.kill()
    assert has_died(told)


@pytest.mark.skipif(not hasattr(psutil, "_psplatform"), reason="sets the clock of psutil")
@pytest.mark.parametrize("jump", [-3600, 3600])
def test_fault_97_a_living_process_is_alive_though_the_clock_was_set(monkeypatch, jump):
    told, boot_time = this_process(), psutil._psplatform.boot_time
    before = psutil.Process().create_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_time() + jump)
    assert psutil.Process().create_time() == pytest.approx(before + jump, abs=2)
    assert not has_died(told)


@pytest.mark.parametrize(
    ("process", "died"),
    [
        ("another-host 1 1", False),
        ("", False),
        ("nonsense", False),
        (this_process().rpartition(" ")[0] + " 1000000000", True),
    ],
    ids=["another host's", "not noted", "damaged", "its number was given away"],
)
def test_only_processes_seen_to_be_gone_are_dead(process, died):
    assert has_died(process) is died
