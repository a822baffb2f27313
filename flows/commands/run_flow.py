"""Run a flow from the command line: check its settings first, then show its progress and its result."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_core.errors import StoreError
from flows.commands.session import Session
from flows.support.formatting import format_result

if TYPE_CHECKING:
    from fer_core.clips.manifest import Manifest
    from fer_core.config import RunConfig
    from fer_core.dataset.table import FeatureRequirements


FULL = 2**20  # free bytes of a disk that is as good as full: databases grow by pages, tensors by megabytes


def settled(
    session: Session, follow_links: bool = False, manifest: Path | None = None, *, offline: bool = False,
    tracked: bool = True,
) -> RunConfig:  # fmt: skip
    """The settings of a run here: workspace and tracking resolved, Prefect pointed at them.

    Args:
        manifest: manifest named on the command line; None: that of the settings.
        offline: whether runs are kept in the workspace, as with `tracking.offline`.
        tracked: whether the command needs MLflow, which must then answer.
    Raises:
        ConfigError: `--set manifest=` names another one too.
        TrackingError: MLflow does not answer.
    """
    from fer_core.tracking.connection import check_tracking
    from flows.support.environment import prepare

    config = session.with_manifest(manifest, follow_links)
    if offline:
        config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"offline": True})})
    config = prepare(config)
    if tracked:
        check_tracking(config.tracking, Path(config.workspace))
    return config


def dataset_checked(config: RunConfig, folded: bool = False, complete: bool = False) -> Manifest:
    """Return the clips of a run; refuse now a split, classes or folds that the flow would refuse after its start."""
    from fer_core.dataset.load import load_dataset
    from fer_core.workspace import Workspace

    detector_checked(config)
    return load_dataset(config, Workspace.open(config.workspace), folded=folded, complete=complete)


def detector_checked(config: RunConfig) -> None:
    """Refuse networks of preprocessing whose weights were not fetched, before a server starts."""
    from fer_core.preprocess.weights_file import check_weights

    check_weights(config.preprocess)


def backbone_checked(config: RunConfig, wanted: FeatureRequirements) -> None:
    """Load the networks that models need; missing weights must not come to light after the faces are made."""
    from fer_core.preprocess.weights_file import check_weights
    from flows.support.prepare import backbone_for

    check_weights(config.preprocess, points=wanted.points)
    backbone_for(config, wanted)


def run_flow(session: Session, module: str, flow: str, config: RunConfig, **arguments: Any) -> dict[str, Any]:
    """Run a flow in this process, on a running server or a temporary one, and tell its result."""
    from flows.commands.sync import send_kept
    from flows.support.environment import check_prefect, where_runs_go
    from flows.support.progress import watched_by
    from flows.support.temporary import temporary_server

    running = os.environ.get("PREFECT_API_URL")
    if running:
        check_prefect(running)
    where = running or "a temporary one, kept some minutes for the next command; 'ferflow up' keeps one running"
    session.note(f"Workspace {config.workspace}; runs go to {where_runs_go(session.config)}; Prefect server: {where}")
    with _full_disk_explained(Path(config.workspace)), nullcontext() if running else temporary_server():
        run = getattr(import_module(module), flow)
        session.show_logs()  # Prefect has set up its own
        with _resumption_told(session), session.bars() as move, watched_by(move):
            result: dict[str, Any] = run(config=config, **arguments)
    _tell(session, flow.removesuffix("_flow").replace("_", "-"), result)
    send_kept(session, config)
    return result


@contextmanager
def _resumption_told(session: Session) -> Iterator[None]:
    """Say how to go on after Ctrl-C or SIGTERM."""
    try:
        yield
    except KeyboardInterrupt:
        again = shlex.join(["ferflow", *sys.argv[1:]])
        session.note(f"To go on where it was, give the same command again: {again}")
        raise


@contextmanager
def _full_disk_explained(workspace: Path) -> Iterator[None]:
    """Report any failure on a full disk as a full disk; Prefect, MLflow and Optuna each raise another error for it.

    Raises:
        StoreError: something failed, and the disk of the workspace is full.
    """
    try:
        yield
    except Exception as exc:
        free = shutil.disk_usage(workspace).free
        if free >= FULL:
            raise
        raise StoreError(
            f"the disk that holds the workspace {workspace} is full ({free // 1024} kB are free); free some space and "
            "give the same command again, which goes on where it was"
        ) from exc


def _tell(session: Session, what: str, result: Mapping[str, Any]) -> None:
    rows = [(k.replace("_", " "), format_result(k, v)) for k, v in result.items() if v not in ("", None, {})]
    session.table("", (what, ""), rows)
