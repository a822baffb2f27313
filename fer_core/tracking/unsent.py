"""Requests to MLflow that wait in the workspace, because the server does not answer or runs are sent later.

Every run that waits has a folder `<workspace>/unsent/<id>`: `requests.jsonl`, one request a line in the order they were
made, and the artifacts. `id` is the run's id in MLflow or, for a run that MLflow has not made yet, its token
(`run.start_run`). `tracking.sync` sends them; sending a request twice stores nothing twice.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fer_core.errors import StoreError
from fer_core.store import write_atomic

log = logging.getLogger(__name__)

FOLDER = "unsent"  # in the workspace
Request = Mapping[str, Any]  # one of the kinds in `sending.send`, by its name
_REQUESTS, _ARTIFACTS = "requests.jsonl", "artifacts"


@dataclass(frozen=True)
class WaitingRun:
    """The requests of one run that MLflow has not received.

    Args:
        id: the run's id in MLflow, or the token of a run that MLflow has not made yet.
        folder: folder of its requests.
    """

    id: str
    folder: Path

    def exists(self) -> bool:
        """Return True if there are requests."""
        return (self.folder / _REQUESTS).is_file()

    def add(self, request: Request, content: bytes = b"") -> None:
        """Add a request after the others.

        Args:
            content: bytes of the artifact, for a request of the kind `artifact`.
        Raises:
            StoreError: the workspace cannot be written.
        """
        from fer_core.tracking.running import this_process

        path = self.folder / _REQUESTS
        with self.locked():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if "artifact" in request:
                    write_atomic(self.folder / _ARTIFACTS / request["artifact"], content)
                lines = [request]
                if not path.is_file():
                    lines.insert(0, {"begun": time.time_ns(), "owner": this_process()})
                torn = path.is_file() and not path.read_bytes().endswith(b"\n")  # by a kill in the middle of a line
                with path.open("a") as file:
                    file.write("\n" * torn + "".join(f"{json.dumps(line)}\n" for line in lines))
            except OSError as exc:
                raise StoreError(
                    f"cannot write {path} ({exc.strerror}); MLflow does not answer either. Free some space, and run "
                    "the same command again"
                ) from exc

    def requests(self) -> list[Request]:
        """Return the requests in the order they were made; the first one says when the run began to wait."""
        found = []
        for line in (self.folder / _REQUESTS).read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # a process was killed while it wrote the line
                log.warning("%s: an incomplete line is left out", self.folder / _REQUESTS)
        return found

    def artifacts(self) -> Path | None:
        """Return the folder of the artifacts; None if there are none."""
        folder = self.folder / _ARTIFACTS
        return folder if folder.is_dir() else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from adding requests, or from sending them."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"cannot make {self.folder.parent} ({exc.strerror}); free some space") from exc
        with FileLock(self.folder.parent / f".{self.id}.lock"):
            yield

    def remove(self) -> None:
        """Remove the requests, which MLflow has received, by one rename first: a kill leaves all of them or none."""
        gone = self.folder.with_name(f".sent-{self.id}")
        shutil.rmtree(gone, ignore_errors=True)
        self.folder.rename(gone)
        shutil.rmtree(gone)
        (self.folder.parent / f".{self.id}.lock").unlink(missing_ok=True)


@dataclass(frozen=True)
class Unsent:
    """All runs that wait in a workspace."""

    workspace: Path

    def of(self, run_id: str) -> WaitingRun:
        """Return the requests of a run, of which there may be none."""
        return WaitingRun(run_id, self.workspace / FOLDER / run_id)

    def runs(self) -> list[WaitingRun]:
        """Return the runs that wait, in the order in which they began to wait."""
        folders = [path.parent for path in (self.workspace / FOLDER).glob(f"[!.]*/{_REQUESTS}")]
        found = [WaitingRun(folder.name, folder) for folder in folders]
        return sorted(found, key=lambda run: (run.requests()[0].get("begun", 0), run.id))
