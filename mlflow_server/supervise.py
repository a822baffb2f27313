"""Start programs under supervisord, wait until each answers, and stop them all.

supervisord restarts programs that crash. It is controlled over a unix socket, whose address it puts into the
environment of all its programs. By this address, `stop_all` finds every process that a program started, and a new start
finds what a killed supervisord left running. Secrets are passed in supervisord's environment, never in a file.
"""

from __future__ import annotations

import http.client
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import psutil

from mlflow_server import ServerError

STOP_S = 9.0  # time for all programs to stop, before they are killed
_SUPERVISORD, _CONFIG = "supervisor.supervisord", "supervisord.conf"
_LONGEST_SOCKET = 100  # bytes a unix socket's path may have, with a margin


@dataclass(frozen=True)
class Program:
    """A program to keep running.

    Args:
        name: one word, also the name of the log.
        command: argument list; no shell interprets it.
        ready: returns True once the program answers; called a few times per second.
        stop_s: seconds between SIGTERM and SIGKILL.
        last: start the program only after the programs before it answer.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    stop_s: int = 2
    last: bool = False


class Supervisor:
    """A running supervisord with its programs, started in order and stopped in reverse."""

    def __init__(self, folder: Path, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        """Start supervisord and the programs.

        Args:
            folder: folder for configuration, logs and socket, created if needed; programs run in its parent folder.
            programs: the programs to start.
            environment: variables for the programs, in addition to those of this process.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.programs = folder, programs
        self.socket = _socket_path(folder)
        config = folder / _CONFIG
        config.write_text(_config(folder, self.socket, programs), encoding="utf-8")
        command = [sys.executable, "-m", _SUPERVISORD, "--nodaemon", "--configuration", str(config)]
        with (folder / "supervisor.log").open("wb") as own:  # holds the reason if it does not start
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=own,
                start_new_session=True,  # Ctrl-C in the terminal reaches only this process, which stops them in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout_s: float, tell: Callable[[str, float], None]) -> None:
        """Wait until every program answers; call `tell` with (name, seconds) for each.

        Raises:
            ServerError: a program ended or did not answer in time; the message has the last line of its log.
        """
        started = time.monotonic()
        for program in self.programs:
            if program.last:
                _server(self.socket).supervisor.startProcess(program.name, False)
            while not program.ready():
                state = self.states().get(program.name, "STARTING")
                if self._process.poll() is not None:
                    raise ServerError(f"supervisord ended while starting: {self._last_words('supervisor')}")
                if state in ("BACKOFF", "FATAL", "EXITED"):
                    raise ServerError(f"{program.name} ended while starting: {self._last_words(program.name)}")
                if time.monotonic() - started > timeout_s:
                    raise ServerError(
                        f"{program.name} did not answer within {timeout_s:.0f} s: {self._last_words(program.name)}"
                    )
                time.sleep(0.2)
            tell(program.name, time.monotonic() - started)

    def states(self) -> dict[str, str]:
        """Return supervisord's state of each program (RUNNING, BACKOFF, …); empty while supervisord does not answer."""
        return {name: state for name, (state, _) in program_states(self.socket).items()}

    def wait(self) -> int:
        """Wait until supervisord ends by itself; return its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """Stop all programs and supervisord, by force after `STOP_S` seconds; no process is left."""
        stop_all(self.folder)
        self._process.wait()

    def _last_words(self, name: str) -> str:
        log = self.folder / f"{name}.log"
        text = log.read_text(errors="replace") if log.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'it said nothing'} (see {log})"


def stop_all(folder: Path) -> int:
    """Stop the supervisord of a folder, its programs and their children, by force after `STOP_S` seconds.

    Any process may have started them. Returns the number of processes that were running.
    """
    there = _processes(folder)
    supervisors = [process for process in there if _SUPERVISORD in process.info["cmdline"]]
    for process in supervisors:  # it stops its programs in order
        process.terminate()
    psutil.wait_procs(supervisors, STOP_S)
    while left := _processes(folder):  # children of a program may still run, and start more
        for process in left:
            process.kill()
        psutil.wait_procs(left, 1)
    _socket_path(folder).unlink(missing_ok=True)
    return len(there)


def _processes(folder: Path) -> list[psutil.Process]:
    """Return the running supervisord of a folder, and all processes with its socket's address in their environment."""
    config, address = str(folder / _CONFIG), f"unix://{_socket_path(folder)}"
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and (
            {_SUPERVISORD, config} <= set(process.info["cmdline"] or ())
            or (process.info["environ"] or {}).get("SUPERVISOR_SERVER_URL") == address
        )
    ]


def running_processes(folder: Path) -> list[tuple[str, str, int]]:
    """Return (name, state, pid) of the programs of a folder, of their supervisord, and of all that they started.

    A program that does not run has pid 0. The process of a flow run is named after the run.
    """
    states = program_states(_socket_path(folder))
    programs = {pid: name for name, (_, pid) in states.items() if pid}
    found = [(name, state.lower(), pid) for name, (state, pid) in states.items()]
    for process in _processes(folder):
        if process.pid in programs:
            continue
        environment = process.info["environ"] or {}
        if _SUPERVISORD in process.info["cmdline"]:
            name = "supervisord"
        elif run := environment.get("PREFECT__FLOW_RUN_ID"):
            name = f"flow run {run}"
        else:
            name = f"part of {_program_of(process, programs)}"
        found.append((name, process.info["status"], process.pid))
    return found


def _program_of(process: psutil.Process, programs: Mapping[int, str]) -> str:
    """Return the name of the program that a process descends from."""
    with suppress(psutil.Error):
        for parent in process.parents():
            if parent.pid in programs:
                return programs[parent.pid]
    return "a program that ended"


def program_states(socket_path: Path) -> dict[str, tuple[str, int]]:
    """Return (state, pid) by program of the supervisord at a socket; empty if none listens there."""
    try:
        infos = _server(socket_path).supervisor.getAllProcessInfo()
    except (OSError, http.client.HTTPException, xmlrpc.client.Error):
        return {}
    return {info["name"]: (info["statename"], info["pid"]) for info in infos}


def _server(socket_path: Path) -> Any:
    from supervisor.xmlrpc import SupervisorTransport

    transport: Any = SupervisorTransport(None, None, f"unix://{socket_path}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)


def check_free(host: str, ports: Iterable[tuple[int, str]]) -> None:
    """Refuse ports that are in use.

    Args:
        host: address that the ports will be opened on.
        ports: (port, name of the option that changes it).
    Raises:
        ServerError: a port is in use; the message names the first one and its option.
    """
    for port, option in ports:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as exc:
                raise ServerError(
                    f"port {port} of {host} cannot be used ({exc.strerror}); choose another with {option}"
                ) from exc


def _socket_path(folder: Path) -> Path:
    path = folder / "supervisor.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET:
        return path
    name = blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"ferflow-{os.getuid()}-{name}.sock"


def _config(folder: Path, socket_path: Path, programs: Sequence[Program]) -> str:
    supervisord = {
        "logfile": folder / "supervisord.log",
        "pidfile": folder / "supervisord.pid",
        "childlogdir": folder,
        **({"user": "root"} if os.getuid() == 0 else {}),  # without it, supervisord warns
    }
    sections: dict[str, Mapping[str, object]] = {
        "supervisord": supervisord,
        "unix_http_server": {"file": socket_path, "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    for place, program in enumerate(programs):
        sections[f"program:{program.name}"] = {
            "directory": folder.parent,
            "command": " ".join(shlex.quote(part) for part in program.command),
            "priority": place,
            "autorestart": "true",
            "autostart": str(not program.last).lower(),
            "killasgroup": "true",
            "stopwaitsecs": program.stop_s,
            "redirect_stderr": "true",
            "stdout_logfile": folder / f"{program.name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 1,
        }
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key}={_value(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )


def _value(value: object) -> str:
    text = str(value)
    if "%" in text or " ;" in text or " #" in text or not text.isprintable():
        raise ServerError(f"supervisor cannot take {text!r}; choose a workspace without '%', ' ;', ' #' and newlines")
    return text
