"""Connect to MLflow: to a server, or to the SQLite file in the workspace if there is no server."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import ValidationError

from fer_core.config import TrackingConfig
from fer_core.databases import check_database, wait_for_restarts, with_driver
from fer_core.errors import ConfigError, FerError, TrackingAway, TrackingError
from fer_core.tracking.relocation import ARTIFACTS, check_in_place
from fer_core.tracking.unsent import Unsent
from fer_core.tracking.views import EXPERIMENT_TAGS

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from mlflow import MlflowClient

PROBE_S = 5.0
WORKFLOW = "workflowType=machine_learning"  # without it, MLflow opens its pages for language models
TRACKING_URI = "MLFLOW_TRACKING_URI"
# With MLflow's defaults (7 retries, factor 2), a server that does not answer blocks for 246 s; with these, for 7 s.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}
_SILENCE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # its own handler prints tracebacks of errors that it also raises
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output is for `--json`
}
_NAME = re.compile(r"\w[\w .,:+=()@·-]{0,199}")


@dataclass(frozen=True)
class Tracking:
    """An open connection to MLflow.

    Args:
        client: client for tracking and registry.
        uri: tracking URI; may contain a password, so show `shown_uri` instead.
        experiment_id: experiment of new runs.
        cfg: settings of tracking.
        workspace: folder for files that are not sent to MLflow.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    cfg: TrackingConfig
    workspace: Path

    @property
    def shown_uri(self) -> str:
        """Return `uri` without user and password."""
        return without_secrets(self.uri)

    @property
    def is_remote(self) -> bool:
        """Return True if MLflow can go away while the workspace stays: a server, or PostgreSQL."""
        return not self.uri.startswith("sqlite")

    @property
    def offline(self) -> bool:
        """Return True if nothing is sent to MLflow now; see `TrackingConfig.offline`."""
        return self.cfg.offline and self.is_remote

    @property
    def unsent(self) -> Unsent:
        """Return the runs that wait in the workspace."""
        return Unsent(self.workspace)

    def run_url(self, run_id: str) -> str:
        """Return the URL of a run's page; '' without a server, or while the run waits to be sent."""
        return "" if self.unsent.of(run_id).exists() else self._page(f"/runs/{run_id}?{WORKFLOW}")

    def view_url(self, view: str) -> str:
        """Return the URL of a saved view of the experiment (`tracking.views`); '' without a server."""
        return self._page(f"/runs?viewStateShareKey={view}&{WORKFLOW}")

    def version_url(self, version: int) -> str:
        """Return the URL of a registered version's page; '' without a server, and for 0, which is none."""
        page = f"/#/models/{self.cfg.model}/versions/{version}?{WORKFLOW}"
        return f"{without_secrets(self.uri.rstrip('/'))}{page}" if version and _is_server(self.uri) else ""

    def _page(self, page: str) -> str:
        if self.offline or not _is_server(self.uri):
            return ""
        return f"{without_secrets(self.uri.rstrip('/'))}/#/experiments/{self.experiment_id}{page}"


def of_environment(cfg: TrackingConfig) -> TrackingConfig:
    """Return the settings with `uri: auto` replaced by $MLFLOW_TRACKING_URI if that is set.

    Raises:
        ConfigError: the variable holds no address of MLflow.
    """
    given = os.environ.get(TRACKING_URI, "").strip()
    if cfg.uri != "auto" or not given:
        return cfg
    try:
        return TrackingConfig.model_validate({**cfg.model_dump(), "uri": given})
    except ValidationError as exc:
        reason = exc.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"${TRACKING_URI} cannot be used: {reason}") from exc


def check_tracking(cfg: TrackingConfig, workspace: Path) -> None:
    """Check within seconds that MLflow answers, without importing it; with `offline`, check only its address.

    Raises:
        TrackingError: it does not answer, or its address is not accepted.
    """
    uri = _address(cfg, workspace)
    if cfg.offline:
        return
    if _is_server(uri):
        _probe(uri)
    elif uri.startswith("postgresql"):
        check_database(uri, "tracking.uri", TrackingError)


def _address(cfg: TrackingConfig, workspace: Path) -> str:
    uri = f"sqlite:///{workspace / 'mlflow.db'}" if cfg.uri == "auto" else with_driver(cfg.uri)
    if urlsplit(uri).scheme.partition("+")[0] not in ("http", "https", "sqlite", "postgresql"):
        raise TrackingError(
            f"tracking.uri '{without_secrets(uri)}' is of no kind known here; use http(s)://…, postgresql+psycopg://…, "
            "sqlite:///… or 'auto'"
        )
    return uri


class _NotAsked:
    """Stands for MLflow's client while runs are kept in the workspace."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __getattr__(self, name: str) -> Any:
        raise TrackingError(
            f"MLflow at {self._uri} is not asked, because tracking.offline is set, and this needs what it holds; "
            "leave out --offline (tracking.offline)"
        )


def connect(cfg: TrackingConfig, workspace: Path, *, tidy: bool = True) -> Tracking:
    """Return a checked connection to MLflow.

    The experiment is created if it does not exist. `uri: auto` is SQLite in the workspace (`mlflow.db`, artifacts
    beside it), the same files that `ferflow up` serves. With `offline`, MLflow is not asked for anything.

    Args:
        tidy: end runs whose process has died.
    Raises:
        TrackingError: the server does not answer (after seconds) or refuses the request, a name or the URI is not
            accepted, or the workspace was moved and not relocated.
    """
    check_name(cfg.experiment, "experiment")
    uri = _address(cfg, workspace)
    if cfg.offline and not uri.startswith("sqlite"):
        return Tracking(_NotAsked(without_secrets(uri)), uri, "", cfg, workspace)  # type: ignore[arg-type]
    for name, value in {**_PATIENCE, **_SILENCE}.items():
        os.environ.setdefault(name, value)
    from fer_core.tracking.running import end_dead_runs  # imports MLflow, so the variables must be set before

    if _is_server(uri):
        _probe(uri)
    elif uri.startswith("postgresql"):
        # each pooled connection would fail once after a restart of the database
        os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        _reach(uri)
        wait_for_restarts()
    if cfg.uri == "auto":
        check_in_place(workspace)
        check_schema(workspace)
    local = None if _is_server(uri) else workspace / ARTIFACTS
    with _one_at_a_time(workspace, locked=local is not None), mlflow_errors(f"MLflow at {without_secrets(uri)}"):
        client = _client(uri)
        experiment_id = _experiment(client, cfg.experiment, local)
        if tidy:
            end_dead_runs(client, experiment_id)
    return Tracking(client, uri, experiment_id, cfg, workspace)


def check_schema(workspace: Path) -> str:
    """Return the schema version of the workspace's MLflow database; '' if there is no database yet.

    Raises:
        TrackingError: another version of MLflow made it, or it is not a database of MLflow.
    """
    import sqlite3

    import mlflow
    from alembic.util import CommandError

    database = workspace / "mlflow.db"
    if not database.is_file():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            found = str((connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("none",))[0])
    except sqlite3.Error as exc:
        raise TrackingError(f"{database} is no database of MLflow ({exc}); move it away, or restore a copy") from exc
    migrations = _migrations()
    if found == migrations.get_current_head():
        return found
    try:
        older = migrations.get_revision(found) is not None
    except CommandError:
        older = False
    remedy = (
        f"copy it, then run: mlflow db upgrade sqlite:///{database}"
        if older
        else "install the MLflow that made it, or choose another workspace"
    )
    raise TrackingError(
        f"{database} was made by {'an older' if older else 'another, probably newer'} MLflow (its schema is {found}, "
        f"that of the installed MLflow {mlflow.__version__} is {migrations.get_current_head()}); {remedy}"
    )


@functools.cache
def _migrations() -> ScriptDirectory:
    """Return the migrations of the installed MLflow; reading them takes longer than all else in `connect`."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    return ScriptDirectory.from_config(_get_alembic_config("sqlite://"))


def check_name(text: str, what: str) -> str:
    """Return `text` if it may name a run, model or experiment.

    A name has at most 200 characters, and no separators, `..` or control characters.

    Raises:
        TrackingError: the name is not accepted.
    """
    if not _NAME.fullmatch(text) or ".." in text:
        raise TrackingError(
            f"{what} name {text[:60]!r} ({len(text)} characters) is not accepted; use letters, digits, spaces and "
            "'. , : + = ( ) @ - _', 200 at most, beginning with a letter or digit"
        )
    return text


def without_secrets(text: str) -> str:
    """Return a URL with user and passwords replaced by `***`; any other text as it is."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    netloc = f"***@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    query = re.sub(r"(?i)(password|token|secret)=[^&]*", r"\1=***", parts.query)
    return parts._replace(netloc=netloc, query=query).geturl() if (netloc, query) != parts[1:4:2] else text


@contextlib.contextmanager
def mlflow_errors(where: str, error: type[FerError] = TrackingError) -> Iterator[None]:
    """Raise errors of MLflow and its database again as an `error` of one sentence that begins with `where`.

    A TrackingError is a TrackingAway if MLflow did not answer.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as exc:
        lines = [line for line in str(exc).strip().splitlines() if not line.startswith("(raised as a result of")]
        reason = (lines or [type(exc).__name__])[0][:300]
        if error is TrackingError and _is_away(exc):
            error = TrackingAway
        raise error(f"{where}: {reason}") from exc


def _is_away(exc: BaseException | None) -> bool:
    """True if MLflow or its database did not answer or is broken, rather than that it refused the request."""
    from mlflow.exceptions import MlflowException, RestException
    from requests import ConnectionError as Refused
    from requests import HTTPError, Timeout
    from sqlalchemy.exc import OperationalError

    while exc is not None:
        if isinstance(exc, (Refused, Timeout, OperationalError)):
            return True
        if isinstance(exc, HTTPError) and exc.response is not None and exc.response.status_code >= 500:
            return True
        if isinstance(exc, RestException) and exc.get_http_status_code() >= 500:
            return True
        if isinstance(exc, MlflowException) and "failed with error code 5" in str(exc):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _probe(uri: str) -> None:
    import requests

    shown = without_secrets(uri)
    remedy = (
        "start it ('ferflow up'), set tracking.uri to 'auto' to record in the workspace, or add --offline (search, "
        "train) to keep the runs and send them later with 'ferflow sync'"
    )
    try:
        status = requests.get(f"{uri.rstrip('/')}/health", timeout=PROBE_S, allow_redirects=False).status_code
    except requests.RequestException as exc:
        raise TrackingError(f"MLflow at {shown} does not answer ({type(exc).__name__}); {remedy}") from exc
    if status == 403:
        raise TrackingError(
            f"MLflow at {shown} refuses this host name (403); start it with --allowed-hosts that has it"
        )
    if status not in (200, 401):
        raise TrackingError(f"MLflow at {shown} is not well (GET /health gave {status}); {remedy}")


@functools.cache  # only success is cached; a failed check is repeated
def _reach(uri: str) -> None:
    """Check the database once per process, because later calls should wait while it restarts."""
    check_database(uri, "tracking.uri", TrackingError)


def _client(uri: str) -> MlflowClient:
    import mlflow
    from mlflow import MlflowClient

    # MLflow's registry looks up a logged model at the process's URI; unset, it would make a store in the current folder
    given = os.environ.get(TRACKING_URI)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    os.environ.pop(TRACKING_URI, None)  # set by MLflow above; the user's value is restored below
    if given is not None:
        os.environ[TRACKING_URI] = given
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if uri.startswith("sqlite"):
        _make_tables(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _one_at_a_time(workspace: Path, locked: bool) -> contextlib.AbstractContextManager[object]:
    """Return a lock under which one process creates the database's tables; two at the same time would both fail."""
    return FileLock(workspace / ".mlflow.lock") if locked else contextlib.nullcontext()


def _make_tables(uri: str) -> None:
    """Create the SQLite file with MLflow's tables under a temporary name; a kill then leaves no incomplete database."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import make_url

    database = Path(make_url(uri).database or ":memory:")
    if str(database) == ":memory:" or database.exists():
        return
    half = database.with_name(f".new-{database.name}")
    half.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{half}", str(database.parent / "artifacts")).engine.dispose()
    half.rename(database)


def _experiment(client: MlflowClient, name: str, local: Path | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = (local / name.replace(" ", "_")).as_uri() if local else None
        try:
            return client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
        except MlflowException as exc:
            found = client.get_experiment_by_name(name)
            if exc.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment '{name}' was deleted; restore it in MLflow or set tracking.experiment to another"
        )
    for key, value in EXPERIMENT_TAGS.items():
        if key not in found.tags:
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)
