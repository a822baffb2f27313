"""Database addresses: accepted kinds, a check that a database can be reached, and retries while it restarts.

An address must not contain a password, because settings, Prefect's parameters and command lines would show it.
PostgreSQL's client library reads the password from `$PGPASSWORD` or `~/.pgpass`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fer_core.errors import FerError

log = logging.getLogger(__name__)

PROBE_S = 5
OUTAGE_S = 60.0  # how long a running command waits for a database; a restart takes seconds
KINDS = "postgresql+psycopg://user@host/name, sqlite:////absolute/file.db"
_PASSWORD = re.compile(r"(://[^/@:\s]*):[^/@\s]*@|([?&](?:password|sslpassword|token|secret))=[^&\s]*", re.IGNORECASE)


def without_password(text: str) -> str:
    """Return `text` with the passwords in its URLs replaced by `***`."""
    return _PASSWORD.sub(lambda found: f"{found[1]}:***@" if found[1] is not None else f"{found[2]}=***", text)


_REFUSED = (
    "an address holds no password, since settings are shown and recorded; leave it out and set $PGPASSWORD "
    "(or ~/.pgpass) for PostgreSQL, $MLFLOW_TRACKING_USERNAME and $MLFLOW_TRACKING_PASSWORD for MLflow"
)


def _refuse_password(url: str) -> str:
    if _PASSWORD.search(url):
        raise ValueError(_REFUSED)
    return url


# type of a setting; with the pattern, a Prefect form refuses a password before a run is created
Address = Annotated[
    str,
    AfterValidator(_refuse_password),
    Field(json_schema_extra={"pattern": r"^[^@]*$|^[^:]+://[^:@/]*@[^@]*$"}),
]


def with_driver(url: str) -> str:
    """Return a `postgresql://` URL with the installed driver; any other URL as it is."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1) if url.startswith("postgresql://") else url


def beside(url: str, suffix: str) -> str:
    """Return the URL of the database `NAME_suffix` on the server of the database NAME."""
    import sqlalchemy

    parsed = sqlalchemy.make_url(url)
    return parsed.set(database=f"{parsed.database}_{suffix}").render_as_string(False)


def check_database(url: str, setting: str, error: type[FerError]) -> None:
    """Try to reach a database for at most `PROBE_S` seconds.

    Args:
        url: SQLAlchemy URL.
        setting: name of the setting with this URL, for the message.
        error: type of the exception to raise.
    Raises:
        error: the URL contains a password, is of an unknown kind, or the database cannot be reached.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError

    shown = without_password(url)
    if shown != url:
        raise error(f"{setting} '{shown}': {_REFUSED}")
    try:
        kind = sqlalchemy.make_url(url).drivername
    except ArgumentError:
        kind = ""
    if kind not in ("sqlite", "postgresql+psycopg"):
        raise error(f"{setting} '{shown}' is of no kind known here; use {KINDS}")
    with _connected(url, setting, error):
        pass


def make_database(url: str, setting: str, error: type[FerError]) -> None:
    """Check a database like `check_database`; a PostgreSQL database that does not exist is created, empty.

    Raises:
        error: see `check_database`, or the user may not create databases.
    """
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    try:
        check_database(url, setting, error)
        return
    except error as exc:
        if not _is_missing(exc.__cause__):
            raise
    wanted = sqlalchemy.make_url(url)
    name = str(wanted.database)
    with _connected(wanted.set(database="postgres").render_as_string(False), setting, error) as server:
        quoted = server.dialect.identifier_preparer.quote_identifier(name)
        try:
            server.execution_options(isolation_level="AUTOCOMMIT").execute(
                sqlalchemy.text(f"CREATE DATABASE {quoted} ENCODING 'UTF8' TEMPLATE template0")
            )
        except SQLAlchemyError as exc:
            raise error(
                f"{setting} {url}: there is no database '{name}', and it cannot be made ({_reason(exc)}); make it as "
                f"the administrator: createdb --owner {wanted.username or 'USER'} {name}"
            ) from exc
    log.info("made the database '%s', which was not there", name)
    check_database(url, setting, error)


def check_extension(url: str, name: str, error: type[FerError]) -> None:
    """Check that a PostgreSQL server can offer an extension.

    Raises:
        error: it is not installed there.
    """
    import sqlalchemy

    with _connected(url, "database", error) as connection:
        asked = sqlalchemy.text("SELECT 1 FROM pg_available_extensions WHERE name = :name")
        if connection.execute(asked, {"name": name}).first() is None:
            raise error(
                f"the PostgreSQL server of {url} lacks the extension {name}, which Prefect needs; install the "
                "additional modules of PostgreSQL there (contrib)"
            )


@contextmanager
def _connected(url: str, setting: str, error: type[FerError]) -> Iterator[Any]:
    """Connect within `PROBE_S` seconds. Raises `error` with a remedy if this fails."""
    import sqlalchemy
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    options = {} if url.startswith("sqlite") else {"connect_timeout": PROBE_S}
    try:
        connection = sqlalchemy.create_engine(url, connect_args=options, poolclass=sqlalchemy.NullPool).connect()
    except (SQLAlchemyError, NoSuchModuleError, ImportError) as exc:
        raise error(
            f"{setting} {without_password(url)} cannot be reached ({_reason(exc)}); start it, or see to its "
            "address and to $PGPASSWORD"
        ) from exc
    with connection:
        yield connection


def _reason(exc: BaseException) -> str:
    return without_password(" ".join(str(exc).split("\n(Background")[0].split()))[:300]


def _is_missing(exc: BaseException | None) -> bool:
    """Return True if PostgreSQL answered that there is no such database; psycopg names no code while it connects."""
    return exc is not None and re.search(r'database ".*" does not exist', str(exc)) is not None


def wait_for_restarts() -> None:
    """Make SQLAlchemy retry refused PostgreSQL connections for `OUTAGE_S` seconds, in all libraries of this process."""
    from sqlalchemy import Engine, event

    if not event.contains(Engine, "do_connect", _connect_again):
        event.listen(Engine, "do_connect", _connect_again)


def _connect_again(dialect: Any, record: Any, args: Any, parameters: Any) -> Any:
    if dialect.name != "postgresql" or "connect_timeout" in parameters:  # `check_database` has its own time limit
        return None
    until = time.monotonic() + OUTAGE_S
    while True:
        try:
            return dialect.connect(*args, **parameters)
        except dialect.loaded_dbapi.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
