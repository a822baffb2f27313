"""Database addresses: accepted kinds, a check that a database can be reached, and retries while it restarts.

An address must not contain a password, because settings, Prefect's parameters and command lines would show it.
PostgreSQL's client library reads the password from `$PGPASSWORD` or `~/.pgpass`.
"""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from fer_core.errors import FerError

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
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    shown = without_password(url)
    if shown != url:
        raise error(f"{setting} '{shown}': {_REFUSED}")
    try:
        kind = sqlalchemy.make_url(url).drivername
    except ArgumentError:
        kind = ""
    if kind not in ("sqlite", "postgresql+psycopg"):
        raise error(f"{setting} '{shown}' is of no kind known here; use {KINDS}")
    options = {"connect_timeout": PROBE_S} if kind != "sqlite" else {}
    try:
        engine = sqlalchemy.create_engine(url, connect_args=options, poolclass=sqlalchemy.NullPool)
        with engine.connect():
            pass
    except (SQLAlchemyError, NoSuchModuleError, ImportError) as exc:
        reason = " ".join(str(exc).split("\n(Background")[0].split())
        raise error(
            f"{setting} {shown} cannot be reached ({without_password(reason)[:300]}); start it, or see to its "
            "address and to $PGPASSWORD"
        ) from exc


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
