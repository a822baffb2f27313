"""Open Optuna's storage by URL; a restart of its database does not end the search."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from fer_core.databases import OUTAGE_S, make_database, with_driver
from fer_core.errors import StoreError

log = logging.getLogger(__name__)

_OF_THE_CACHE = {"_create_new_trial", "_get_best_trial_id", "_get_trials", "_set_trial_param"}


def check_storage(url: str) -> None:
    """Check that the kind of a storage URL is known and that its database can be reached; `auto` is always valid.

    Raises:
        StoreError: the kind is unknown, or the database cannot be reached.
    """
    if url != "auto":
        make_database(with_driver(url), "search.storage", StoreError)


def open_storage(url: str) -> BaseStorage:
    """Open Optuna's storage at a URL and create its tables if needed.

    Raises:
        StoreError: the kind of database is unknown, or it cannot be reached.
    """
    check_storage(url)
    url = with_driver(url)
    return RDBStorage(url) if url.startswith("sqlite") else _PatientStorage(url)


def _patiently(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method so that it is repeated while its database is unavailable or has closed the connection."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        until = time.monotonic() + OUTAGE_S
        while True:
            try:
                return method(*args, **kwargs)
            except (optuna.exceptions.StorageInternalError, DBAPIError, PendingRollbackError) as exc:
                cause = exc.__cause__ if isinstance(exc, optuna.exceptions.StorageInternalError) else exc
                if not _away(cause) or time.monotonic() > until:
                    raise
                log.warning("search.storage is unavailable; trying again for %.0f s", until - time.monotonic())
                time.sleep(0.5)

    return call


def _away(cause: BaseException | None) -> bool:
    """Whether an error says that the database cannot be reached, or was cut off in the middle of a call.

    Where a query fails, Optuna tries another on the same connection, which then cannot be used: a PendingRollbackError.
    """
    if isinstance(cause, DBAPIError):
        return cause.connection_invalidated or type(cause).__name__ == "OperationalError"
    return isinstance(cause, PendingRollbackError)


class _PatientStorage(RDBStorage):
    """A storage in which each call is one transaction on its own connection, so that it can be repeated.

    Optuna puts a cache in front of this storage, which also calls the private methods in `_OF_THE_CACHE`.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, engine_kwargs={"poolclass": NullPool})

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        called = name in _OF_THE_CACHE or (not name.startswith("_") and callable(getattr(BaseStorage, name, None)))
        return _patiently(found) if called else found
