"""A PostgreSQL server of its own for the tests that need one, from the programs that the system has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import free_port

PASSWORD = "known to the tests"


class Postgres:
    """A server with a password, on a port of loopback; it refuses to run as root, so root starts it as `postgres`."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder, self.port = programs, folder, free_port()
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        (folder / "password").write_text(PASSWORD)
        options = ["--auth", "scram-sha-256", "--pwfile", folder / "password", "--username", "fer", "--no-sync"]
        self._run("initdb", "--pgdata", folder / "data", *options)

    def _run(self, program: str, *args: object) -> None:
        command = [str(self.programs / program), *map(str, args)]
        subprocess.run(command, user=self._user, cwd="/", check=True, stdout=subprocess.DEVNULL, timeout=120)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "--wait", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--wait", "-D", self.folder / "data", "-m", "fast")

    def url(self, database: str = "postgres") -> str:
        """Without a password, which libpq takes from $PGPASSWORD."""
        return f"postgresql+psycopg://fer@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """The URL of a new database."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="fer", password=PASSWORD, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A started server; the test is skipped where PostgreSQL is not installed."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), *filter(None, [shutil.which("initdb")])]
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="fer-pg-", dir="/tmp"))  # short: it holds a unix socket
    try:
        server = Postgres(Path(found[-1]).parent, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
