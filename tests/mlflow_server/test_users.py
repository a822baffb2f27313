from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from mlflow_server import ServerError
from mlflow_server.guard import Guard
from mlflow_server.launch import mlflow_server, write_accounts
from mlflow_server.logins import Logins
from mlflow_server.users import User, read_users

TEAM = """
anna: {password: correct horse battery, role: admin}
ben: {password: staple staple staple, role: editor}
cleo: {password: another long password, role: reader}
"""
ANNA, BEN, CLEO = "anna:correct horse battery", "ben:staple staple staple", "cleo:another long password"
OWN = "ferflow:of the server"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "users.yaml"
    path.write_text(TEAM)
    path.chmod(0o600)
    return path


def header(login: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}


def get(app: Any, path: str, login: str = "") -> Any:
    import httpx

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as client:
            return await client.get(path, headers=header(login))

    return asyncio.run(ask())


def test_a_file_of_users_is_read(file):
    assert read_users(file) == [
        User("anna", "correct horse battery", "admin"),
        User("ben", "staple staple staple", "editor"),
        User("cleo", "another long password", "reader"),
    ]


@pytest.mark.parametrize(
    "text, said",
    [
        ("anna: {password: hunter22, role: admin}", "user 'anna': a password has 12 characters or more"),
        ("anna: {password: 123456789012, role: admin}", r"\(in quotes, if all digits\)"),
        ("anna: {password: correct horse battery, role: boss}", "a role is admin, editor, reader"),
        ("anna: {password: correct horse battery}", "user 'anna' needs a password and a role"),
        ("ferflow: {password: correct horse battery, role: admin}", "is not 'ferflow'"),
        ("'a:b': {password: correct horse battery, role: admin}", "a name has letters, digits"),
        ("ben: {password: correct horse battery, role: editor}", "no user has the role admin"),
        ("[anna]", "needs a line for each user"),
        ("anna: [", "cannot be read"),
    ],
)
def test_faults_of_the_file_are_named_without_a_password(file, text, said):
    file.write_text(text)
    with pytest.raises(ServerError, match=said) as refused:
        read_users(file)
    assert "hunter22" not in str(refused.value)


def test_all_faults_are_told_at_once(file):
    file.write_text("anna: {password: short, role: boss}\nben: {password: short, role: boss}")
    with pytest.raises(ServerError) as refused:
        read_users(file)
    assert str(refused.value).count("a password has") == 2 and str(refused.value).count("a role is") == 2


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_that_others_can_read_is_refused(file, mode):
    file.chmod(mode)
    with pytest.raises(ServerError, match="run: chmod 600"):
        read_users(file)


def test_accounts_follow_the_file(file, tmp_path):
    """A person who leaves the file loses the account; a changed password and role hold."""
    from sqlalchemy import create_engine, text

    pytest.importorskip("flask_wtf")
    server = mlflow_server(tmp_path, host="0.0.0.0", users=file)
    environment = {
        **server.environment, "MLFLOW_TRACKING_USERNAME": "ferflow", "MLFLOW_AUTH_ADMIN_USERNAME": "ferflow",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "of the server, long",
    }  # fmt: skip

    def accounts() -> dict[str, tuple[bool, set[str]]]:
        engine = create_engine(f"sqlite:///{tmp_path / 'servers' / 'mlflow-accounts.db'}")
        with engine.connect() as connection:
            people = list(connection.execute(text("select id, username, is_admin from users")))
            granted = list(
                connection.execute(
                    text(
                        "select a.user_id, p.permission from role_permissions p join user_role_assignments a "
                        "on a.role_id = p.role_id"
                    )
                )
            )
        return {name: (bool(admin), {p for user, p in granted if user == key}) for key, name, admin in people}

    write_accounts(file, environment)
    assert accounts() == {
        "ferflow": (True, set()), "anna": (True, {"MANAGE"}), "ben": (False, {"EDIT"}), "cleo": (False, {"READ"}),
    }  # fmt: skip
    file.write_text(TEAM.replace("role: editor", "role: reader").replace("cleo", "dora"))
    write_accounts(file, environment)
    assert accounts()["ben"] == (False, {"READ"})
    assert set(accounts()) == {"ferflow", "anna", "ben", "dora"}
    assert oct((tmp_path / "servers" / "mlflow-accounts.db").stat().st_mode)[-2:] == "00"


@pytest.fixture
def prefect(file):
    """What a request says when it arrives at Prefect."""
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(Request(scope).headers.get("authorization", "none"))(scope, receive, send)

    return Logins(app, read_users(file), OWN)


@pytest.mark.parametrize(
    "login, path, becomes",
    [
        (ANNA, "/api/flows", OWN), (BEN, "/api/flows", OWN), (CLEO, "/api/flows", CLEO), (OWN, "/api/flows", OWN),
        ("anna:guessed", "/api/flows", "anna:guessed"), (CLEO, "/pages/card.html", OWN), ("", "/pages/card.html", ""),
    ],
)  # fmt: skip
def test_people_enter_prefect_by_their_own_passwords_and_readers_only_see_pages(prefect, login, path, becomes):
    assert get(prefect, path, login).text == header(becomes).get("Authorization", "none")


@pytest.mark.parametrize("login, token", [(ANNA, OWN), (CLEO, CLEO), ("anna:guessed", "anna:guessed")])
def test_the_event_feed_takes_the_same_logins(file, login, token):
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(json.loads((await receive())["text"])["token"])

    async def sent() -> dict[str, Any]:
        return {"type": "websocket.receive", "text": json.dumps({"type": "auth", "token": login})}

    asyncio.run(Logins(app, read_users(file), OWN)({"type": "websocket"}, sent, None))  # type: ignore[arg-type]
    assert seen == [token]


def test_before_accounts_every_path_but_two_needs_a_login():
    """MLflow itself would answer for static files and its own settings."""
    from starlette.responses import PlainTextResponse

    guard = Guard(PlainTextResponse("mlflow"), ["localhost"], [OWN, ANNA])
    found = {
        path: get(guard, path).status_code for path in ("/", "/static/x", "/api/2.0/mlflow/server-info", "/health")
    }
    assert found == {"/": 401, "/static/x": 401, "/api/2.0/mlflow/server-info": 401, "/health": 200}
    assert [get(guard, "/", login).status_code for login in (ANNA, OWN, BEN, "anna:guessed")] == [200, 200, 401, 401]


def test_every_name_of_the_machine_is_answered_beyond_loopback(file, tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("FERFLOW_ALLOWED_HOSTS", "lab.example, ")
    command = mlflow_server(tmp_path, host="0.0.0.0", users=file).command
    names = command[command.index("--hosts") + 1].split(",")
    assert {"localhost", "127.0.0.1", socket.gethostname(), "lab.example"} <= set(names)
    assert not {"", "*", "0.0.0.0"} & set(names)
    assert os.fspath(Path(tmp_path)) not in "".join(names)
