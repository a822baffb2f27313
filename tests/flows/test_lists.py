"""`ferflow list` as it is typed."""

from __future__ import annotations

import json

import pytest

from tests.flows.test_cli import run


def test_versions_are_shown_with_the_next_command(champion_workspace):
    done = run("list", "versions", "--workspace", champion_workspace)
    assert done.exit_code == 0, done.stderr
    assert "champion" in done.stdout and "challenger" in done.stdout and "synthetic" in done.stdout
    assert "ferflow promote --version 2" in done.stdout.splitlines()[-1]


def test_json_has_all_rows_and_null_for_what_is_unknown(champion_workspace):
    done = run("list", "versions", "--most", 1, "--workspace", champion_workspace, "--json")
    rows = json.loads(done.stdout)["versions"]
    assert [row["version"] for row in rows] == [2, 1] and rows[0]["ms_per_clip"] is None


@pytest.mark.parametrize(
    ("what", "following"),
    [("versions", "ferflow adopt fer2013"), ("trials", "ferflow search"), ("runs", "ferflow up")],
)
def test_empty_workspace_names_what_to_do(workspace, what, following):
    done = run("list", what)
    assert done.exit_code == 0 and following in done.stdout.splitlines()[-1]
