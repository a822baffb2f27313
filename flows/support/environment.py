"""Environment of a flow: the workspace's own Prefect and MLflow, or those of a running `ferflow up`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from fer_core.config import RunConfig
from fer_core.errors import ConfigError
from fer_core.runtime import resolve_workspace
from mlflow_server.address import PREFECT_AUTH, credentials, running


def prefect_environment(workspace: Path, api: str = "") -> dict[str, str]:
    """Environment variables to set before Prefect is imported.

    Args:
        api: URL of a running server's API; empty: a temporary server on the same database is started.
    """
    environment = {
        "PREFECT_HOME": str(workspace / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # its own default runs code when a result is read
        "PREFECT_LOGGING_EXTRA_LOGGERS": "fer_core",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # the library's own threads are in no flow run
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 8-13 s on an idle machine
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # with the defaults a call to a dead server blocks for 246 s
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }
    return {**environment, **({"PREFECT_API_URL": api} if api else {})}


def settle(config: RunConfig) -> RunConfig:
    """Prepare a flow: make the workspace, write its path in full, and replace `tracking.uri: auto` by the address of a
    running server, whose password goes into the environment. The library's INFO lines then reach the run's page.

    Raises:
        StoreError: the workspace cannot be written to.
    """
    logging.getLogger("fer_core").setLevel(logging.INFO)
    workspace = resolve_workspace(config.workspace)
    tracking = config.tracking
    local = tracking.uri == "auto" or tracking.uri.startswith("http://")
    if local and (servers := running(workspace)) and tracking.uri in ("auto", servers.mlflow):
        tracking = tracking.model_copy(update={"uri": servers.mlflow})
        os.environ.update({name: value for name, value in credentials(workspace).items() if name != PREFECT_AUTH})
    return config.model_copy(update={"workspace": str(workspace), "tracking": tracking})


def check_local(config: RunConfig, work: str) -> None:
    """Refuse a cluster for work that is done on this machine alone.

    Args:
        work: what it is, as the message's subject.
    Raises:
        ConfigError: `runner.kind` is `dask`.
    """
    if config.runner.kind == "dask":
        raise ConfigError(
            f"runner.kind is 'dask', but {work} runs on this machine alone; set runner.kind=threads. "
            "'ferflow preprocess' shares the clips out to a cluster, and what it stores is found again"
        )


def prepare(config: RunConfig) -> RunConfig:
    """`settle`, and point this process's Prefect, not yet imported, at the workspace. What the user set, wins."""
    config = settle(config)
    workspace = Path(config.workspace)
    servers = running(workspace)
    if servers and "PREFECT_API_URL" not in os.environ:  # else that server's password is the user's to set
        os.environ.update({name: value for name, value in credentials(workspace).items() if name == PREFECT_AUTH})
    for name, value in prefect_environment(workspace, f"{servers.prefect}/api" if servers else "").items():
        os.environ.setdefault(name, value)
    return config
