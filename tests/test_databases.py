from __future__ import annotations

import pytest
from pydantic import ValidationError

from fer_core.config import RunConfig, load_config
from fer_core.databases import check_database, check_extension, make_database, with_driver, without_password
from fer_core.errors import ConfigError, StoreError
from flows.support.servers import _prefect_database

WITH_PASSWORD = [
    "postgresql+psycopg://fer:hunter2@db/mlflow",
    "http://lab:hunter2@mlflow:5000",
    "postgresql://db/x?user=fer&password=hunter2",
]


@pytest.mark.parametrize("url", WITH_PASSWORD)
@pytest.mark.parametrize("setting", ["tracking.uri", "search.storage"])
def test_fault_114_an_address_with_a_password_is_refused_and_not_repeated(setting, url):
    with pytest.raises(ConfigError, match=rf"{setting}: an address holds no password.*\$PGPASSWORD") as caught:
        load_config(None, [f"{setting}={url}"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", WITH_PASSWORD[:2])
def test_a_form_refuses_a_password_before_a_run_exists(url):
    import re

    fields = RunConfig.model_json_schema()["$defs"]
    for section, name in (("TrackingConfig", "uri"), ("SearchConfig", "storage")):
        pattern = fields[section]["properties"][name]["pattern"]
        assert not re.search(pattern, url)
        for good in ("auto", "http://127.0.0.1:5000", "postgresql+psycopg://fer@db/mlflow", "sqlite:////a/b.db"):
            assert re.search(pattern, good), good


@pytest.mark.parametrize(
    "text, shown",
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("see http://u:p@h and http://h2:80/", "see http://u:***@h and http://h2:80/"),
        ("postgresql://h/d?password=p&x=1", "postgresql://h/d?password=***&x=1"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("a:b@c", "a:b@c"),
    ],
)
def test_passwords_are_masked_and_nothing_else(text, shown):
    assert without_password(text) == shown


@pytest.mark.parametrize(
    "url", ["mysql://u@h/d", "postgresql+asyncpg://h/d", "somewhere", "", "redis://h", "sqlite+x://"]
)
def test_a_database_of_another_kind_is_refused(url):
    with pytest.raises(StoreError, match=r"search\.storage '.*' is of no kind known here; use postgresql\+psycopg://"):
        check_database(url, "search.storage", StoreError)


def test_a_database_that_is_away_is_named_with_a_remedy():
    with pytest.raises(StoreError, match=r"search\.storage \S+ cannot be reached \(.*refused.*\); start it") as caught:
        check_database("postgresql+psycopg://fer@127.0.0.1:9/optuna", "search.storage", StoreError)
    assert "\n" not in str(caught.value)


def test_a_wrong_password_is_named(postgres, monkeypatch):
    check_database(postgres.url(), "search.storage", StoreError)
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(StoreError, match="password authentication failed"):
        check_database(postgres.url(), "search.storage", StoreError)


def test_postgresql_without_a_driver_gets_the_installed_one():
    assert with_driver("postgresql://h/d") == "postgresql+psycopg://h/d"
    assert with_driver("sqlite:///x") == "sqlite:///x"


def test_a_plain_address_is_a_setting():
    assert load_config(None, ["tracking.uri=postgresql://fer@db/x"]).tracking.uri == "postgresql://fer@db/x"
    with pytest.raises(ValidationError):
        RunConfig.model_validate({"tracking": {"uri": WITH_PASSWORD[0]}})


def test_a_database_that_is_not_there_is_made(postgres):
    url = postgres.url('odd "name"')
    make_database(url, "--database", ConfigError)
    make_database(url, "--database", ConfigError)
    check_database(url, "--database", ConfigError)
    check_extension(url, "plpgsql", ConfigError)
    with pytest.raises(ConfigError, match="lacks the extension nosuch"):
        check_extension(url, "nosuch", ConfigError)


def test_a_database_that_cannot_be_made_is_named_with_the_command_that_makes_it(postgres, monkeypatch):
    import sqlalchemy

    with sqlalchemy.create_engine(postgres.url()).begin() as connection:
        connection.execute(sqlalchemy.text("CREATE ROLE poor LOGIN PASSWORD 'known to the tests'"))
    url = postgres.url("none").replace("fer@", "poor@")
    with pytest.raises(ConfigError, match=r"permission denied.*createdb --owner poor none"):
        make_database(url, "--database", ConfigError)


def test_prefect_gets_a_database_of_its_own_and_its_driver():
    assert _prefect_database("sqlite:///x") == {}
    found = _prefect_database("postgresql+psycopg://fer@db:5433/team?sslmode=require")
    assert found == {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://fer@db:5433/team_prefect?ssl=require"
    }
