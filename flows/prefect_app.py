"""Prefect's server as `ferflow up` serves it: forms are checked, and links of run pages lead to pages and to MLflow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.forms.check import FormCheck
from mlflow_server.address import MLFLOW_PASSWORD, MLFLOW_USER
from mlflow_server.launch import has_accounts
from mlflow_server.pages import Pages

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def prefect_app() -> ASGIApp:
    """Return Prefect's app for the workspace and the passwords in the environment."""
    from prefect.server.api.server import create_app

    environment = os.environ
    auth = environment["PREFECT_SERVER_API_AUTH_STRING"]
    mlflow = "" if has_accounts() else f"{environment[MLFLOW_USER]}:{environment[MLFLOW_PASSWORD]}"
    return Pages(FormCheck(create_app()), Path(environment["FERFLOW_WORKSPACE"]), auth, mlflow)
