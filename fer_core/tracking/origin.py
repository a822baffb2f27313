"""What started the runs of a command, such as a flow run, as tags of its MLflow runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

_tags: ContextVar[Mapping[str, str]] = ContextVar("tags of the origin", default={})  # noqa: B039  never changed


def started_by(tags: Mapping[str, str]) -> None:
    """Give these tags to the MLflow runs that are started from now on, until the next call."""
    _tags.set(dict(tags))


def origin_tags() -> Mapping[str, str]:
    """Return the tags of `started_by`."""
    return _tags.get()
