from __future__ import annotations

from pathlib import Path

import pytest

from fer_core.config import TrackingConfig
from fer_core.tracking.connection import Tracking, connect


@pytest.fixture(scope="session")
def tracking_workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tracking workspace")  # the space is meant


@pytest.fixture(scope="session")
def tracking(tracking_workspace) -> Tracking:
    """MLflow without a server: SQLite in a workspace, made once."""
    return connect(TrackingConfig(), tracking_workspace)
