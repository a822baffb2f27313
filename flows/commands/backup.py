"""`ferflow backup` and `ferflow restore`: a workspace and its databases, in one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.errors import ConfigError
from flows.commands.session import Session, command

Database = Annotated[
    str,
    typer.Option(envvar="FERFLOW_MLFLOW_DATABASE", help="PostgreSQL URL, as of 'ferflow up'.", show_envvar=True),
]


@command(reads=("search.storage",))
def backup(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the copy.", show_default=False)],
    database: Database = "",
    store: Annotated[
        bool, typer.Option("--store/--no-store", help="Also the store, which can be computed again.")
    ] = True,
) -> dict[str, Any]:
    """Copy the workspace and its databases to a new folder; servers may run meanwhile."""
    from fer_core.housekeeping.backup import back_up
    from flows.support.servers import noted_database

    folder = folder.expanduser().absolute()
    databases = _databases(session, database or noted_database(session.workspace))
    note = back_up(session.workspace, folder, databases, store=store)
    result = {"backup": str(folder), "files": len(note.files), "databases": sorted(note.databases)}
    parts = f" and PostgreSQL's {', '.join(sorted(note.databases))}" if databases else ""
    session.say(f"{len(note.files)} files{parts} are in {folder}. It shows faces: keep it as private as the workspace.")
    session.next("the copy in use", "restore", folder)
    return result


@command(reads=("search.storage",))
def restore(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a backup.", show_default=False)],
    database: Database = "",
) -> dict[str, Any]:
    """Copy a backup into a new workspace (--workspace), and correct all addresses of files in it."""
    from fer_core.databases import make_database
    from fer_core.housekeeping.backup import restore as bring_back
    from fer_core.tracking.relocation import change_addresses, relocate

    workspace = session.workspace
    databases = _databases(session, database)
    for url in databases.values():
        make_database(url, "--database", ConfigError)
    note = bring_back(folder.expanduser().absolute(), workspace, databases)
    if "mlflow" in note.databases:
        change_addresses(databases["mlflow"], [Path(note.workspace)], workspace)
    relocate(workspace)
    result = {"workspace": str(workspace), "files": len(note.files), "databases": sorted(note.databases)}
    session.say(f"{result['files']} files of {note.made_at} are in {workspace}, from {note.workspace}")
    session.next("the versions that it has", "list", "versions")
    return result


def _databases(session: Session, database: str) -> dict[str, str]:
    """Return the PostgreSQL databases of the servers and of searches, by the part that uses them."""
    from fer_core.databases import beside, with_driver
    from flows.support.servers import PREFECT

    found = {}
    if database:
        url = with_driver(database)
        if not url.startswith("postgresql"):
            raise ConfigError(f"--database '{database}' is not of PostgreSQL; copy that file by itself")
        found = {"mlflow": url, "prefect": beside(url, PREFECT)}
    storage = with_driver(session.config.search.storage)
    return found | ({"optuna": storage} if storage.startswith("postgresql") else {})
