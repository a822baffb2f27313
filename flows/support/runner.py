"""Run batches one after the other on all cores of this machine, or in parallel on the workers of a Dask cluster.

A Dask worker needs the workspace and the clips under the same paths, ferflow installed, and access to the Prefect
server. Results are stored by a key of their content, so they are the same bytes on every machine.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import get_call_parameters

from fer_core.config import RunnerConfig
from fer_core.errors import ConfigError

if TYPE_CHECKING:
    from prefect_dask import DaskTaskRunner

CONNECT_S = 60.0
LOCAL_WORKERS = 2  # workers of the local cluster that is used without an address


def run_batches(task: Task[..., Any], calls: Sequence[tuple[Any, ...]], cfg: RunnerConfig) -> Iterator[Any]:
    """Yield the results of a task for each tuple of arguments, in order; call it inside a flow.

    Raises:
        ConfigError: the extra `dask` is not installed, or no scheduler answers.
    """
    if cfg.kind == "threads":
        yield from (task(*arguments) for arguments in calls)
        return
    with dask(cfg) as runner:
        # Without the server's address, each worker would start its own temporary server.
        with get_client(sync_client=True) as client, temporary_settings({PREFECT_API_URL: str(client.api_url)}):
            futures = [runner.submit(task, get_call_parameters(task.fn, call, {})) for call in calls]
        yield from (future.result() for future in futures)


@contextmanager
def dask(cfg: RunnerConfig) -> Iterator[DaskTaskRunner]:
    """Yield a task runner that is connected to the cluster, which has a worker.

    Raises:
        ConfigError: the extra `dask` is not installed, or no worker answers.
    """
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as exc:
        raise ConfigError("runner.kind is 'dask', which is not installed; pip install 'ferflow[dask]'") from exc

    logging.getLogger("distributed").setLevel(logging.WARNING)  # it logs every connection
    patience = {"timeout": CONNECT_S}
    local = {"n_workers": LOCAL_WORKERS, "threads_per_worker": 1, "dashboard_address": None}
    where: dict[str, Any] = {"address": cfg.address} if cfg.address else {"cluster_kwargs": local}
    with DaskTaskRunner(**where, client_kwargs=patience) as runner:
        try:
            runner.client.wait_for_workers(1, timeout=CONNECT_S)
        except (OSError, TimeoutError) as exc:
            raise ConfigError(
                f"no worker of a Dask cluster answers at {cfg.address or 'this machine'} ({exc}); "
                "start 'dask scheduler' and 'dask worker', or set runner.kind=threads"
            ) from exc
        yield runner
