"""The environment of a flow: the workspace's own Prefect and MLflow, or those of a running `ferflow up`."""

from __future__ import annotations

import logging
import multiprocessing
import os
from pathlib import Path

from fer_core.config import RunConfig
from fer_core.databases import without_password
from fer_core.errors import ConfigError
from fer_core.runtime import resolve_workspace
from fer_core.tracking.connection import TRACKING_URI, of_environment
from mlflow_server.address import PREFECT_AUTH, credentials, running

PREFECT_S = 5.0  # time limit for the answer of a Prefect server


def prefect_environment(workspace: Path, api: str = "") -> dict[str, str]:
    """Return the environment variables to set before Prefect is imported.

    Args:
        workspace: folder of Prefect's database.
        api: URL of a running server's API; when empty, a temporary server on the same database will be started.
    """
    environment = {
        "PREFECT_HOME": str(workspace / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # the default, pickle, runs code when a result is read
        "PREFECT_LOGGING_EXTRA_LOGGERS": "fer_core",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # threads of the library belong to no flow run
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # 8-13 s on an idle machine
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # by default, a call to a server that is down blocks for 246 s
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }
    return {**environment, **({"PREFECT_API_URL": api} if api else {})}


def settle(config: RunConfig) -> RunConfig:
    """Prepare a flow, and return its settings with absolute workspace and the address of MLflow.

    The workspace is created. `tracking.uri: auto` is replaced by the address of a running server, and its password is
    put into the environment. INFO lines of the library will appear on the run's page.

    Raises:
        StoreError: the workspace cannot be written to.
        ConfigError: $MLFLOW_TRACKING_URI cannot be used, or a script that starts flows is imported by its own trials.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # a trial's process imports the main script
        raise ConfigError(
            "a trial's process imports your script, which starts a flow again; put the calls of flows under "
            "if __name__ == '__main__':"
        )
    logging.getLogger("fer_core").setLevel(logging.INFO)
    workspace = resolve_workspace(config.workspace)
    tracking = of_environment(config.tracking)
    local = tracking.uri == "auto" or tracking.uri.startswith("http://")
    if local and (servers := running(workspace)) and tracking.uri in ("auto", servers.mlflow):
        tracking = tracking.model_copy(update={"uri": servers.mlflow})
        os.environ.update({name: value for name, value in credentials(workspace).items() if name != PREFECT_AUTH})
    return config.model_copy(update={"workspace": str(workspace), "tracking": tracking})


def where_runs_go(config: RunConfig) -> str:
    """Return the address of the MLflow that records runs, without passwords, and which setting gave it."""
    if config.tracking.uri != "auto":
        return f"{without_password(config.tracking.uri)} (tracking.uri)"
    settled = settle(config)
    if settled.tracking.uri == "auto":
        return f"{Path(settled.workspace) / 'mlflow.db'} (in the workspace)"
    named = f"${TRACKING_URI}" if os.environ.get(TRACKING_URI) else "a running 'ferflow up'"
    return f"{without_password(settled.tracking.uri)} ({named})"


def check_prefect(api: str) -> None:
    """Check within seconds that a Prefect server answers.

    Args:
        api: value of $PREFECT_API_URL.
    Raises:
        ConfigError: the server does not answer, or reports an error.
    """
    import requests

    try:
        status = requests.get(f"{api.rstrip('/')}/health", timeout=PREFECT_S, allow_redirects=False).status_code
        fault = f"answered {status}" if status >= 500 else ""
    except requests.RequestException as exc:
        fault = f"does not answer ({type(exc).__name__})"
    if fault:
        raise ConfigError(
            f"the Prefect server at {without_password(api)} ($PREFECT_API_URL) {fault}; start it, or unset "
            "PREFECT_API_URL to run without one"
        )


def check_local(config: RunConfig, work: str) -> None:
    """Refuse a Dask cluster for work that only this machine does.

    Args:
        work: name of the work, the subject of the message.
    Raises:
        ConfigError: `runner.kind` is `dask`.
    """
    if config.runner.kind == "dask":
        raise ConfigError(
            f"runner.kind is 'dask', but {work} runs on this machine alone; set runner.kind=threads. "
            "'ferflow preprocess' shares the clips out to a cluster, and what it stores is found again"
        )


def prepare(config: RunConfig) -> RunConfig:
    """Return the settings from `settle`, and make Prefect use the workspace; Prefect must not be imported yet.

    Environment variables that the user has set are not changed.
    """
    config = settle(config)
    workspace = Path(config.workspace)
    servers = running(workspace)
    if servers and "PREFECT_API_URL" not in os.environ:  # for another server, the user sets the password
        os.environ.update({name: value for name, value in credentials(workspace).items() if name == PREFECT_AUTH})
    for name, value in prefect_environment(workspace, f"{servers.prefect}/api" if servers else "").items():
        os.environ.setdefault(name, value)
    return config
