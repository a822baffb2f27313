"""The people of a team: a file of users, their passwords and roles, for servers that other machines can reach.

    anna: {password: correct horse battery, role: admin}
    ben: {password: staple staple staple, role: editor}
    cleo: {password: another long password, role: reader}

An admin may do everything in MLflow, an editor may write runs and models, a reader may read them. Admins and editors
run flows; whoever runs flows runs commands as the owner of the servers. Pages of the workspace open for all three.

Run as `python -m mlflow_server.users FILE` to write the users into MLflow's own accounts.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlflow_server import ServerError
from mlflow_server.address import MLFLOW_USER, USER

ROLES = {"admin": "MANAGE", "editor": "EDIT", "reader": "READ"}  # role -> permission on MLflow's experiments and models
SHORTEST_PASSWORD = 12  # MLflow's own minimum
GRANTED = ("experiment", "registered_model")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class User:
    """A person who may log in."""

    name: str
    password: str
    role: str

    @property
    def runs_flows(self) -> bool:
        return self.role != "reader"


def read_users(file: Path) -> list[User]:
    """Read a file of users.

    Raises:
        ServerError: other users of the machine can read it, or it has faults; all of them are named.
    """
    try:
        mode = file.stat().st_mode
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ServerError(f"users file {file} cannot be read ({' '.join(str(exc).split())})") from exc
    if mode & 0o077:
        raise ServerError(f"users file {file} can be read by other users of this machine; run: chmod 600 {file}")
    if not isinstance(found, dict) or not found:
        raise ServerError(f"users file {file} needs a line for each user: NAME: {{password: …, role: admin}}")
    faults = [fault for name, given in found.items() for fault in _faults(str(name), given)]
    if not any(isinstance(given, dict) and given.get("role") == "admin" for given in found.values()):
        faults.append("no user has the role admin")
    if faults:
        raise ServerError(f"users file {file}: {'; '.join(faults)}")
    return [User(str(name), given["password"], given["role"]) for name, given in found.items()]


def _faults(name: str, given: Any) -> list[str]:
    """Return what is wrong with one entry, without its password."""
    shown = repr(name[:64])
    if not isinstance(given, dict) or set(given) != {"password", "role"}:
        return [f"user {shown} needs a password and a role"]
    faults = []
    if not _NAME.fullmatch(name) or name == USER:
        faults.append(f"user {shown}: a name has letters, digits and . _ @ -, and is not '{USER}'")
    if not isinstance(given["password"], str) or len(given["password"]) < SHORTEST_PASSWORD:
        faults.append(f"user {shown}: a password has {SHORTEST_PASSWORD} characters or more (in quotes, if all digits)")
    if given["role"] not in ROLES:
        faults.append(f"user {shown}: a role is {', '.join(ROLES)}")
    return faults


def write_accounts(users: Sequence[User], environment: Mapping[str, str]) -> None:
    """Make MLflow's accounts equal to the file: add, change and remove users and their permissions.

    Args:
        environment: has the name of the administrator, whom `bootstrap_admin_user` makes, and MLflow's own settings.
    """
    from mlflow.server.auth import bootstrap_admin_user, store

    bootstrap_admin_user()
    kept = {user.name for user in users} | {environment[MLFLOW_USER]}
    for account in store.list_users():
        if account.username not in kept:
            store.delete_user(account.username)
    for user in users:
        admin = user.role == "admin"
        if store.has_user(user.name):
            store.update_user(user.name, password=user.password, is_admin=admin)
        else:
            store.create_user(user.name, user.password, is_admin=admin)
        for kind in GRANTED:
            store.grant_user_permission(user.name, kind, "*", ROLES[user.role])


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m mlflow_server.users FILE`."""
    (file,) = sys.argv[1:] if argv is None else argv
    write_accounts(read_users(Path(file)), os.environ)


if __name__ == "__main__":
    main()
