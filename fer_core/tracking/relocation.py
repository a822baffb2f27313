"""Repair a workspace that was moved or copied.

MLflow's database stores absolute addresses of all artifacts, so it still points to the old folder, and new runs would
write there. `check_in_place` detects this when the workspace is opened; `relocate` repairs it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from fer_core.databases import without_password
from fer_core.errors import TrackingError

if TYPE_CHECKING:
    from sqlalchemy import Inspector

ARTIFACTS = "artifacts"
_COLUMNS = ("artifact_location", "artifact_uri", "source", "storage_location")  # of whatever table has one


def check_in_place(workspace: Path) -> None:
    """Check that the runs of a workspace are written into it.

    Raises:
        TrackingError: it was moved or copied, and not relocated since.
    """
    if old := former_places(workspace):
        raise TrackingError(
            f"workspace {workspace} was moved or copied from {', '.join(map(str, old))}: its runs and models are still "
            f"recorded there; mend it with: ferflow doctor --relocate --workspace {workspace}"
        )


def former_places(workspace: Path) -> list[Path]:
    """Return the folders from which the workspace was moved or copied, by the addresses of its experiments.

    If such a folder still exists, it counts only if its own database has the same experiment. Otherwise it is another
    workspace that records its runs here.
    """
    found = set()
    for experiment in _experiments(workspace):
        place = _root_of(experiment[0])
        if place is None or _same(place, workspace):
            continue
        if not place.exists() or experiment in _experiments(place):
            found.add(place)
    return sorted(found)


def _experiments(workspace: Path) -> list[tuple[str, int]]:
    """Return (artifact location, time of creation) of each experiment; empty without a database."""
    database = workspace / "mlflow.db"
    if not database.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(
                "SELECT coalesce(artifact_location, ''), creation_time FROM experiments"
            ).fetchall()
    except sqlite3.Error as exc:
        raise TrackingError(f"{database} cannot be read ({exc}); restore it, or move it away to begin anew") from exc


def relocate(workspace: Path) -> list[Path]:
    """Change all addresses of former folders in MLflow's database to the workspace, in one transaction.

    Returns:
        The former folders; empty if there was nothing to repair.
    Raises:
        TrackingError: the database cannot be written.
    """
    old = former_places(workspace)
    if not old:
        return []
    with FileLock(workspace / ".mlflow.lock"):
        change_addresses(f"sqlite:///{workspace / 'mlflow.db'}", old, workspace)
    return old


def change_addresses(database: str, old: Sequence[Path], workspace: Path) -> None:
    """Change all addresses of former folders in a database of MLflow to the workspace, in one transaction.

    Args:
        database: SQLAlchemy URL.
    Raises:
        TrackingError: the database cannot be written.
    """
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            places = list(_addresses(sqlalchemy.inspect(connection)))
            for place in old:
                for before, after in (
                    (place.as_uri(), workspace.as_uri()),
                    (f"file://{place}", workspace.as_uri()),
                    (str(place), str(workspace)),
                ):
                    given = {"after": after, "rest": len(before) + 1, "before": f"{before}/"}
                    for table, column in places:
                        connection.execute(
                            sqlalchemy.text(
                                f"UPDATE {table} SET {column} = :after || substr({column}, :rest) "
                                f"WHERE substr({column}, 1, :rest) = :before"
                            ),
                            given,
                        )
    except sqlalchemy.exc.SQLAlchemyError as exc:
        reason = str(exc).splitlines()[0]
        raise TrackingError(f"{without_password(database)} cannot be relocated ({reason}); stop what uses it") from exc


def _addresses(inspector: Inspector) -> Iterator[tuple[str, str]]:
    """Yield (table, column) of all artifact addresses."""
    from sqlalchemy import String

    for table in inspector.get_table_names():
        texts = {column["name"] for column in inspector.get_columns(table) if isinstance(column["type"], String)}
        yield from ((table, column) for column in _COLUMNS if column in texts)


def _root_of(location: str) -> Path | None:
    """Return the workspace that contains an experiment's artifacts; None if they are outside of any workspace."""
    parts = urlsplit(location)
    if parts.scheme not in ("", "file"):
        return None
    folder = Path(unquote(parts.path) if parts.scheme else location)
    return folder.parent.parent if folder.is_absolute() and folder.parent.name == ARTIFACTS else None


def _same(place: Path, workspace: Path) -> bool:
    """True if two paths are the same folder, also by a link or another spelling."""
    return place == workspace or (place.exists() and workspace.exists() and place.samefile(workspace))
