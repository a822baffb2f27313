"""The machine a run is on: workspace, device, threads, seeds, and a description of it all for the record."""

from __future__ import annotations

import logging
import math
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from fer_core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import torch

SMALL_HEAD = 10_000_000  # weights; under it one thread is as fast, and never spins
# Must be set before torch is imported. Spinning OpenMP threads make a small head's step 80 times slower beside one busy
# process (104 ms -> 1.3 ms). Huge pages halve a 4096-4096 head's step, whose gradients are new memory every time.
TORCH_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "THP_MEM_ALLOC_ENABLE": "1"}
RECORDED = (
    *("ferflow", "torch", "torchvision", "opencv-python-headless", "av", "numpy"),
    *("scikit-learn", "optuna", "mlflow", "prefect"),
)


def resolve_workspace(setting: str) -> Path:
    """The workspace folder, made if needed: `setting`, else $FERFLOW_WORKSPACE, else ./workspace.

    Raises:
        StoreError: it cannot be made or written to; found before any work is done.
    """
    chosen = setting if setting not in ("", "auto") else os.environ.get("FERFLOW_WORKSPACE", "workspace")
    path = Path(chosen).expanduser().absolute()
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
    """Cores this process may use: those of its affinity, or fewer by a container's CPU quota, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return math.ceil(min(cores, _cpu_quota()))


def _cpu_quota(mount: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """Cores' worth of CPU time that the cgroups of this process (v2 or v1) allow; infinity where there is no limit.

    The limit is the least of those of its own group and of every group around it. The paths in `membership` may be
    the host's, of which a container sees only the end: groups that are not there are passed over.
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
    """Set what torch reads when it is first imported, in the environment of this process and of its children; what the
    user has set stays."""
    for name, value in child_environment(n_cores()).items():
        os.environ.setdefault(name, value)


def child_environment(threads: int) -> dict[str, str]:
    """Environment variables that a child needs *before* it imports torch."""
    return {"OMP_NUM_THREADS": str(threads), **TORCH_ENVIRONMENT}


def prepare_child(environment: dict[str, str]) -> None:
    """First thing in a child process. This module imports no torch, so that the environment is there in time."""
    os.environ.update(environment)
    logging.basicConfig(level=logging.WARNING)
    exit_with_parent()


def resolve_threads(setting: int, n_weights: int) -> int:
    """torch threads for a head of `n_weights`: the setting, else one for a small head, else all cores."""
    return setting or (1 if n_weights < SMALL_HEAD else n_cores())


def set_threads(threads: int) -> None:
    """Give torch its threads for the fit to come, and have it take numbers too small for full precision as zero.

    A unit that has died has gradient 0, so the optimiser's averages of it shrink at every step, and after some 800
    steps they are denormal: from there a step costs up to five times as much (`benchmarks/fits.py`).
    """
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)


def resolve_device(setting: str, field: str = "train.device") -> torch.device:
    """The device to compute on: `auto` takes a GPU when there is one.

    Args:
        field: where `setting` was given, for the message.

    Raises:
        ConfigError: a device was asked for by name that is not there; it is never replaced in silence.
    """
    import torch

    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if setting == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{field} is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'")
    if setting == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"{field} is 'mps', but torch sees no Apple GPU; use 'auto' or 'cpu'")
    return torch.device(setting)


def git_commit() -> str:
    """Commit of the code that runs, `-dirty` appended when it is altered; empty outside a checkout."""
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
    """Versions and hardware, for the record of a run. Missing packages are left out."""
    described = {"python": platform.python_version(), "platform": platform.platform(), "cores": str(n_cores())}
    for name in RECORDED:
        try:
            described[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return described


def exit_with_parent() -> None:
    """In a child process: end at once when the parent is gone, however it ended.

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
