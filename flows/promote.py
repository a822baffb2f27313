"""Flow `promote`: check a version by the gate and make it champion; the decision is saved with the version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from fer_core.config import RunConfig
from flows.support.environment import settle
from flows.support.gate import promote_if_passed
from flows.support.summary import name_run, show_summary


@flow(name="promote", persist_result=False)
def promote_flow(version: int = 0, config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008  frozen; fills the form
    """Make a version champion if it passes the gate; otherwise report the failed checks and change nothing.

    Args:
        version: of the registered model; 0: the newest candidate.
        config: all settings; `promote` holds the gate's floors and ceilings.
    """
    config = settle(config)
    name_run(f"version {version}" if version else "the newest candidate")
    workspace = Path(config.workspace)
    return promote_if_passed(config, version, lambda text, url: show_summary(text, workspace, version_url=url))
