"""Download the files of a registered version from MLflow's store; any other file is an error."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fer_core.errors import FerError, RegistryError
from fer_core.models.bundle import FILES
from fer_core.tracking.connection import Tracking, mlflow_errors, without_secrets

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

# What packing makes, what `mlflow.pyfunc.load_model` leaves in a store on this machine (`registered_model_meta`), and
# nothing else: a pickle beside them would be loaded by MLflow, so it is refused by us.
_TOP_LEVEL = {
    "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "pyfunc.py", "code", "artifacts",
    "registered_model_meta",
}  # fmt: skip


@contextmanager
def downloaded_files(tracking: Tracking, version: ModelVersion) -> Iterator[Path]:
    """Download a version into the workspace and yield the folder of its two files, after checking the list of files."""
    where = f"version {version.version} of '{version.name}'"
    parent = tracking.workspace / "models"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=parent) as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        with _fetching(where):
            source = tracking.client.get_model_version_download_uri(version.name, version.version)
            _refuse_address(where, source)
            top, inner = _names(tracking, source), _names(tracking, f"{source}/artifacts")
            extra, missing = (top - _TOP_LEVEL) | (inner - set(FILES)), set(FILES) - inner
            if extra or missing:
                raise RegistryError(
                    f"{where} is not as it was registered: found also {sorted(extra)}, missing {sorted(missing)}"
                )
            for name in FILES:
                _fetch(tracking, f"{source}/artifacts/{name}", Path(temporary)).replace(folder / name)
        yield folder


def _refuse_address(where: str, source: str) -> None:
    """Raise an error for files at any web address, because a request there would reveal this machine."""
    if urlsplit(source).scheme in ("http", "https", "ftp", "sftp"):
        raise RegistryError(
            f"{where} says that its files are at {without_secrets(source)[:200]}, which is not MLflow's store; "
            "do not use it, register the model again"
        )


@contextmanager
def _fetching(where: str) -> Iterator[None]:
    """Raise all errors of a store as one sentence; each kind of store (s3, gs ...) has a package with its own
    errors."""
    try:
        with mlflow_errors(where, RegistryError):
            yield
    except FerError:
        raise
    except ImportError as exc:
        raise RegistryError(
            f"{where} is in a store that needs a package which is not here ({exc}); install it, or have MLflow serve "
            "artifacts"
        ) from exc
    except Exception as exc:
        reason = " ".join(str(exc).split())[:300]
        raise RegistryError(f"{where} cannot be fetched ({type(exc).__name__}: {reason})") from exc


def _names(tracking: Tracking, uri: str) -> set[str]:
    import mlflow.artifacts

    return {Path(f.path).name for f in mlflow.artifacts.list_artifacts(artifact_uri=uri, tracking_uri=tracking.uri)}


def _fetch(tracking: Tracking, uri: str, folder: Path) -> Path:
    import mlflow.artifacts

    into = tempfile.mkdtemp(dir=folder)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=into, tracking_uri=tracking.uri))
