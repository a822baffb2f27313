"""Prefect's server as `ferflow up` serves it: forms are checked, and links of run pages lead to pages and to MLflow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flows.forms.check import FormCheck
from mlflow_server.address import MLFLOW_PASSWORD, MLFLOW_USER
from mlflow_server.logins import Logins
from mlflow_server.pages import Pages
from mlflow_server.users import read_users

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def prefect_app() -> ASGIApp:
    """Return Prefect's app for the workspace and the passwords in the environment."""
    from prefect.server.api.server import create_app

    environment = os.environ
    auth = environment["PREFECT_SERVER_API_AUTH_STRING"]
    users = environment.get("FERFLOW_USERS", "")
    mlflow = "" if users else f"{environment[MLFLOW_USER]}:{environment[MLFLOW_PASSWORD]}"
    app = Pages(FormCheck(create_app()), Path(environment["FERFLOW_WORKSPACE"]), auth, mlflow)
    return Logins(app, read_users(Path(users)), auth) if users else app
