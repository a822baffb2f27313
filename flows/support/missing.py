"""Refuse inputs that are not there, before a server or a run is started. Loads neither torch nor Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fer_core.config import RunConfig
from fer_core.errors import DataError, no_manifest
from fer_core.runtime import resolve_workspace

INCOMING = "incoming"  # folder of the workspace for videos to score


def check_manifest(config: RunConfig) -> None:
    """Check that the manifest of a run is there: the named one, or one of the workspace.

    Raises:
        DataError: it is not.
    """
    root = resolve_workspace(config.workspace)
    usual = (root / "clips.csv", root / "synthetic" / "clips" / "manifest.csv")
    places = (Path(config.manifest).expanduser(),) if config.manifest else usual
    if not any(place.is_file() for place in places):
        raise no_manifest(places[0])


def inputs(paths: Sequence[str | Path], config: RunConfig) -> list[str]:
    """Return the paths to score: those given, or the folder `incoming` of the workspace.

    Raises:
        DataError: none of them is there.
    """
    wanted = [str(path) for path in paths] or [str(resolve_workspace(config.workspace) / INCOMING)]
    if not any(Path(path).expanduser().exists() for path in wanted):
        raise DataError(f"no such file or folder: {', '.join(wanted)}; name videos, folders or a manifest")
    return wanted


def watched(config: RunConfig) -> Path:
    """Return the absolute path of the folder to watch: that of the settings, or `incoming` of the workspace.

    Raises:
        DataError: it is not there.
    """
    named = Path(config.watch.folder).expanduser().absolute()
    folder = named if config.watch.folder else resolve_workspace(config.workspace) / INCOMING
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} to watch; make it, or name another one as watch.folder")
    return folder
