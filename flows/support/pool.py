"""The work pool from which several machines take flow runs.

`ferflow up --pool NAME` offers the pool: a variable of its Prefect server names the pool and the workspace, and a token
that is also in a file of the workspace. A worker on another machine finds the same token only in the same workspace.
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from pydantic import BaseModel

AT_ONCE = 2  # flow runs on a machine: a folder can be scored during a search; more would share the same cores
VARIABLE = "ferflow_pool"
TOKEN = Path("servers") / "pool-token"


class Pool(BaseModel):
    """What a server tells its workers.

    Args:
        name: the work pool.
        host: name of the machine that serves.
        workspace: absolute path of the workspace there.
        token: content of the file `TOKEN` in the workspace.
    """

    name: str
    host: str
    workspace: str
    token: str

    def is_at(self, workspace: Path) -> bool:
        """Return True if `workspace` is the workspace of the server: the same path, and the same files."""
        try:
            return str(workspace) == self.workspace and (workspace / TOKEN).read_text(encoding="ascii") == self.token
        except (OSError, UnicodeDecodeError):
            return False


def offer(name: str, workspace: Path) -> None:
    """Make the work pool, if it is not there, and tell workers of it.

    Raises:
        ValueError: there is a work pool of this name of another kind.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.variables import Variable
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        try:
            kind = client.read_work_pool(name).type
        except ObjectNotFound:
            kind = ProcessWorker.type
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
    if kind != ProcessWorker.type:
        raise ValueError(f"work pool '{name}' is of type {kind}, not {ProcessWorker.type}; choose another --pool")
    token = secrets.token_urlsafe(16)
    (workspace / TOKEN).write_text(token, encoding="ascii")
    pool = Pool(name=name, host=socket.gethostname(), workspace=str(workspace), token=token)
    Variable.set(VARIABLE, pool.model_dump(), overwrite=True)


def withdraw() -> None:
    """Tell workers that the flows are in no pool any more."""
    from prefect.variables import Variable

    Variable.unset(VARIABLE)
