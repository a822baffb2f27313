"""The machine of a run: workspace, device, threads, and a description of the environment for the record."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from fer_core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import torch

SMALL_HEAD = 10_000_000  # number of weights; below it one thread is as fast, and does not spin
# Must be set before torch is imported. Spinning OpenMP threads make a training step of a small head 80 times slower
# (1.3 ms -> 104 ms) beside one busy process. Huge pages halve the step of a 4096-4096 head, which allocates new
# memory for its gradients each time.
TORCH_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "THP_MEM_ALLOC_ENABLE": "1"}
RECORDED = (
    *("ferflow", "torch", "torchvision", "opencv-python-headless", "av", "numpy"),
    *("scikit-learn", "optuna", "mlflow", "prefect"),
)


def workspace_path(setting: str) -> Path:
    """Return the path of the workspace: `setting`, otherwise $FERFLOW_WORKSPACE, otherwise ./workspace."""
    chosen = setting if setting not in ("", "auto") else os.environ.get("FERFLOW_WORKSPACE", "workspace")
    return Path(chosen).expanduser().absolute()


def resolve_workspace(setting: str) -> Path:
    """Return the workspace folder of `workspace_path`, created if needed.

    Raises:
        StoreError: the folder cannot be created or written to; this is checked before any work is done.
    """
    path = workspace_path(setting)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as exc:
        raise StoreError(
            f"workspace {path} is not writable ({exc.strerror}); "
            "choose another with FERFLOW_WORKSPACE or --set workspace=DIR"
        ) from exc
    return path


def n_cores() -> int:
    """Return the number of cores this process may use: its affinity, or its CPU quota if lower, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return math.ceil(min(cores, _cpu_quota()))


def _cpu_quota(mount: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """Return the CPU quota of this process in cores, by its cgroups (v2 or v1); infinity without a limit.

    It is the smallest quota of its own group and all parent groups. The paths in `membership` may be those of the host,
    of which a container sees only the last part; groups that do not exist are skipped.
    """
    quota = math.inf
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = mount / "cpu" if controllers else mount
        group = root / path.lstrip("/")
        for folder in (f for f in (group, *group.parents) if f.is_relative_to(root)):
            files = (folder / "cpu.max", folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
            values = " ".join(file.read_text() for file in files if file.is_file()).split()
            if len(values) == 2 and values[0] not in ("max", "-1"):
                quota = min(quota, int(values[0]) / int(values[1]))
    return quota


def prepare_torch() -> None:
    """Set the environment variables that torch reads at its first import, for this process and its children.

    Variables that the user has set are not changed.
    """
    for name, value in child_environment(n_cores()).items():
        os.environ.setdefault(name, value)


def child_environment(threads: int) -> dict[str, str]:
    """Return the environment variables that a child process needs *before* it imports torch."""
    return {"OMP_NUM_THREADS": str(threads), **TORCH_ENVIRONMENT}


def prepare_child(environment: dict[str, str]) -> None:
    """Prepare a child process; must be called first in it.

    This module does not import torch, so the variables are set in time; where the process was forked after torch was
    imported, they were set before.
    """
    os.environ.update(environment)
    # Where the process was forked, it shares some 500 000 objects of imported modules with its parent. Without this,
    # each full collection would visit them all, and copy their memory.
    gc.freeze()
    reset_torch(int(environment["OMP_NUM_THREADS"]))
    logging.basicConfig(level=logging.WARNING)
    exit_with_parent()


def resolve_threads(setting: int, n_weights: int) -> int:
    """Return the number of torch threads for a head: the setting, otherwise one for a small head, or all cores."""
    return setting or (1 if n_weights < SMALL_HEAD else n_cores())


def set_threads(threads: int) -> None:
    """Set the number of torch threads, and make torch treat denormal numbers as zero.

    The gradient of a dead unit is 0, so the optimiser's averages of it shrink at every step. After some 800 steps they
    are denormal, and then a step takes up to five times as long (`benchmarks/fits.py`).
    """
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)


def reset_torch(threads: int) -> None:
    """Undo `set_threads`, if torch is imported: set the number of threads of a new process, and keep denormals."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)


def resolve_device(setting: str, field: str = "train.device") -> torch.device:
    """Return the device to compute on; `auto` takes a CUDA GPU if there is one, otherwise the CPU.

    Args:
        setting: `auto`, `cpu`, `cuda` or `mps`.
        field: name of the setting, for the message.

    Raises:
        ConfigError: the named device does not exist; no other device replaces it.
    """
    import torch

    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if setting == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{field} is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'")
    if setting == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"{field} is 'mps', but torch sees no Apple GPU; use 'auto' or 'cpu'")
    return torch.device(setting)


@functools.cache  # the code of this process was imported once
def git_commit() -> str:
    """Return the commit of the running code, with `-dirty` if files were changed; '' outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(folder: Path, *args: str) -> str:
    run = subprocess.run(
        ["git", "-C", str(folder), *args],
        capture_output=True,
        text=True,
        timeout=5,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return run.stdout.strip()


def describe_environment() -> dict[str, str]:
    """Return versions and hardware for the record of a run, without packages that are not installed."""
    machine = {"python": platform.python_version(), "platform": platform.platform(), "cores": str(n_cores())}
    return {**machine, **_versions()}


@functools.cache  # reading them takes as long as an epoch of a small head
def _versions() -> Mapping[str, str]:
    found = {}
    for name in RECORDED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def exit_with_parent() -> None:
    """Make this child process exit as soon as its parent ends, for whatever reason.

    PR_SET_PDEATHSIG would fire when the creating *thread* ends, so the parent's sentinel is watched instead.
    """
    import multiprocessing
    import multiprocessing.connection
    import threading

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()
