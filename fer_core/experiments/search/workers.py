"""Run trials on the workers of a Dask cluster, which read and write the workspace under the same path.

A trial reads and writes files only. Optuna's storage and MLflow are used by the search's own process, so a worker needs
access to neither. If a worker dies, Dask gives its trial to another one, which resumes it from the trial's files.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_core.errors import ConfigError
from fer_core.runtime import reset_torch
from fer_core.store import write_atomic

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def trial_workers(client: Client, workspace: Path) -> Iterator[Executor]:
    """Yield an executor that runs calls on the workers of a cluster, on each worker one at a time.

    The workers of one machine use its GPUs in turn. An exception inside the block cancels all calls; Dask cannot stop
    one that a worker has begun.

    Args:
        client: client of a cluster with at least one worker.
        workspace: folder that all workers must see.
    Raises:
        ConfigError: a worker does not see the workspace, or runs several calls at a time.
    """
    check_workers(client, workspace)
    executor = _Workers(client)
    try:
        yield executor
    except BaseException:
        executor.shutdown(cancel_futures=True)
        raise
    executor.shutdown()


def check_workers(client: Client, workspace: Path) -> None:
    """Check that trials can run on the workers; see `trial_workers`."""
    for address, n_threads in client.nthreads().items():
        if n_threads > 1:
            raise ConfigError(
                f"the Dask worker at {address} runs {n_threads} tasks at a time in one process, which trials of a "
                "search do not allow; start it with 'dask worker --nthreads 1', and --nworkers for several at a time"
            )
    probe, token = workspace / f".shared-{secrets.token_hex(8)}", secrets.token_hex(8)
    write_atomic(probe, token.encode())
    try:
        read = client.run(_read, str(probe))
    finally:
        probe.unlink(missing_ok=True)
    if blind := sorted(address for address, text in read.items() if text != token):
        raise ConfigError(
            f"the Dask worker at {blind[0]} does not see the workspace {workspace}, where trials are stored; mount it "
            "there under the same path, or set runner.kind=threads"
        )


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).is_file() else ""


class _Workers(Executor):
    """Dask's executor, whose calls find torch as it is in a new process."""

    def __init__(self, client: Client) -> None:
        self._inner = client.get_executor(pure=False)
        self._ranks = ranks_on_hosts(client.run(socket.gethostname))

    def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
        return self._inner.submit(_called, self._ranks, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._inner.shutdown(wait=wait and not cancel_futures)


def ranks_on_hosts(hosts: Mapping[str, str]) -> dict[str, int]:
    """Return address of a worker -> its number among the workers of its machine, from address -> name of the machine.

    Example:
        >>> ranks_on_hosts({"tcp://a:1": "a", "tcp://b:1": "b", "tcp://a:2": "a"})
        {'tcp://a:1': 0, 'tcp://b:1': 0, 'tcp://a:2': 1}
    """
    before: dict[str, int] = {}
    found = {}
    for address, host in hosts.items():
        found[address] = before.get(host, 0)
        before[host] = found[address] + 1
    return found


def _called(ranks: Mapping[str, int], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `fn` in a worker; one that has joined since `ranks` were counted uses the first GPU."""
    import torch
    from distributed import get_worker

    reset_torch(1)
    if torch.cuda.is_available():
        torch.cuda.set_device(ranks.get(get_worker().address, 0) % torch.cuda.device_count())
    return fn(*args, **kwargs)
