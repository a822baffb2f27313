"""The threads and cores of this machine that we use, and how torch is told."""

from __future__ import annotations

import math
import os

import pytest
import torch

from fer_core import runtime
from fer_core.runtime import set_threads

V1 = {"cpu/a/cpu.cfs_period_us": "100000"}


@pytest.fixture
def torch_as_it_is():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def smallest_products(n: int) -> torch.Tensor:
    """n products that only a denormal number can hold; enough of them to be shared out to all threads."""
    return torch.full((n,), 1e-38) * 1e-3


def test_numbers_too_small_for_full_precision_are_zero_in_every_thread(torch_as_it_is):
    torch.set_flush_denormal(False)
    torch.set_num_threads(2)
    assert smallest_products(4_000_000).numpy().all(), "two threads have run, and kept them"
    set_threads(2)
    assert torch.get_num_threads() == 2
    assert not smallest_products(4_000_000).numpy().any()


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", math.inf),
        ({"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "200000 100000\n"}, "0::/a/b\n", 0.5),
        ({"cpu.max": "200000 100000\n"}, "0::/docker/not/seen/from/inside\n", 2),
        ({"other/cpu.max": "100000 100000\n"}, "0::/a\n", math.inf),
        ({**V1, "cpu/a/cpu.cfs_quota_us": "300000"}, "3:memory:/a\n2:cpu,cpuacct:/a\n0::/\n", 3),
        ({**V1, "cpu/a/cpu.cfs_quota_us": "-1"}, "2:cpu:/a\n", math.inf),
        ({**V1, "cpu/a/cpu.cfs_quota_us": "100000"}, "2:cpuset:/a\n", math.inf),
        ({}, None, math.inf),
    ],
    ids=["v2", "none set", "a group around", "container", "another's", "v1", "v1 none set", "no cpu", "no cgroups"],
)
def test_quota_of_the_tightest_group_counts(tmp_path, files, membership, quota):
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    groups = tmp_path / "cgroup"
    if membership is not None:
        groups.write_text(membership)
    assert runtime._cpu_quota(tmp_path / "mount", groups) == quota


@pytest.mark.parametrize(("quota", "cores"), [(0.5, 1), (1.5, 2), (8.0, 4), (math.inf, 4)])
def test_cores_are_the_quota_rounded_up_and_no_more_than_the_affinity(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(4), raising=False)
    monkeypatch.setattr(runtime, "_cpu_quota", lambda: quota)
    assert runtime.n_cores() == cores


def test_environment_for_torch_leaves_what_the_user_set(monkeypatch):
    for name in runtime.child_environment(1):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    runtime.prepare_torch()
    assert {name: os.environ[name] for name in runtime.child_environment(7)} == runtime.child_environment(7)
