"""Write a systemd unit and a compose file that run `ferflow up` with the options that were given.

One program is enough: `ferflow up` starts and restarts the servers, and stops them all when it is told to. Neither file
holds a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlflow_server import ServerError

STOP_S = 30  # `ferflow up` needs 10
SECRETS = "/etc/ferflow.env"  # PGPASSWORD=…, for systemd
_PLAIN = re.compile(r"[\w./:=@+,-]+")


@dataclass(frozen=True)
class Unit:
    """What to run.

    Args:
        command: `ferflow up …`, its program as an absolute path.
        workspace: absolute path.
        reads: other files and folders that it reads, absolute.
        health: URL that answers 200 once the servers run.
        user: name of the user to run as.
        python: version of Python for the image, `3.11`.
    """

    command: Sequence[str]
    workspace: Path
    reads: Sequence[Path]
    health: str
    user: str
    python: str


def write_units(folder: Path, unit: Unit) -> list[Path]:
    """Write `ferflow.service`, `compose.yaml` and a `Dockerfile`; files that are there are replaced.

    Raises:
        ServerError: a value cannot stand in such a file, or the folder cannot be written.
    """
    files = {"ferflow.service": _service(unit), "compose.yaml": _compose(unit), "Dockerfile": _dockerfile(unit)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ServerError(f"cannot write units to {folder} ({exc.strerror or exc}); name another folder") from exc
    return [folder / name for name in files]


def _service(unit: Unit) -> str:
    # KillMode=mixed: only `ferflow up` is told to stop; it ends a flow run as cancelled before its server goes
    return (
        "[Unit]\n"
        "Description=ferflow: MLflow, Prefect and the served flows\n"
        "After=network-online.target\n"
        "Wants=network-online.target\n"
        "\n[Service]\n"
        "Type=exec\n"
        f"User={unit.user}\n"
        f"WorkingDirectory={_path(unit.workspace)}\n"
        f"EnvironmentFile=-{SECRETS}\n"
        f"ExecStart={' '.join(_argument(part) for part in unit.command)}\n"
        "KillMode=mixed\n"
        f"TimeoutStopSec={STOP_S}\n"
        "Restart=on-failure\n"
        "RestartSec=10\n"
        "NoNewPrivileges=true\n"
        "\n[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def _compose(unit: Unit) -> str:
    """Return a compose file. The service shares the network of the host, so that the addresses are the same."""
    probe = f"import urllib.request as u; u.urlopen({unit.health!r}, timeout=5)"
    mounts = [f"{unit.workspace}:{unit.workspace}", *(f"{path}:{path}:ro" for path in unit.reads)]
    if wrong := [mount for mount in mounts if mount.count(":") > 1 + mount.endswith(":ro")]:
        raise ServerError(f"a compose file cannot mount {wrong[0]!r}; choose paths without ':'")
    service: dict[str, Any] = {
        "build": ".",
        "image": "ferflow",
        "command": [part.replace("$", "$$") for part in ("ferflow", *unit.command[1:])],
        "user": f"{os.getuid()}:{os.getgid()}",
        "working_dir": str(unit.workspace),
        "environment": {"HOME": str(unit.workspace), "PGPASSWORD": "${PGPASSWORD:-}"},
        "volumes": mounts,
        "network_mode": "host",
        "init": True,
        "restart": "unless-stopped",
        "stop_grace_period": f"{STOP_S}s",
        "healthcheck": {"test": ["CMD", "python", "-c", probe], "interval": "30s", "start_period": "180s"},
    }
    return yaml.safe_dump({"name": "ferflow", "services": {"ferflow": service}}, sort_keys=False)


def _dockerfile(unit: Unit) -> str:
    return (
        f"FROM python:{unit.python}-slim\n"
        "# a wheel of ferflow, from `python -m build`, lies beside this file\n"
        "COPY ferflow-*.whl /tmp/\n"
        'RUN pip install --no-cache-dir "$(ls /tmp/ferflow-*.whl)[team]"\n'
    )


def _argument(text: str) -> str:
    """Return one argument of ExecStart, in quotes where it needs them."""
    escaped = _printable(text).replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(escaped):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _path(path: Path) -> str:
    return _printable(str(path)).replace("%", "%%")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ServerError(f"a unit cannot hold {text!r}; choose paths without newlines")
    return text
