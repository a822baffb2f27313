"""A person approves a version, or refuses it: on the page of a run, at the prompt; and what is recorded of it."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fer_core.config import RunConfig, TrackingConfig
from fer_core.errors import RegistryError
from fer_core.tracking.approval import Approval
from fer_core.tracking.connection import connect
from fer_core.tracking.registry import champion_version, registered_version
from fer_core.tracking.relocation import relocate
from tests.evaluation.test_gate import record_of
from tests.flows.test_cli import run

ASKS = ("--set", "promote.approval=true")


@pytest.fixture
def place(champion_workspace, tmp_path, monkeypatch):
    """A copy of the workspace, whose version 2 passes the gate."""
    copy = tmp_path / "workspace"
    shutil.copytree(champion_workspace, copy)
    relocate(copy)
    monkeypatch.setattr(
        "flows.support.gate.load_out_of_fold_record", lambda tracking, version: record_of(0.5 + 0.2 * version)
    )
    monkeypatch.setattr("flows.support.gate.least_stays", lambda tracking, version: None)
    return copy


@pytest.fixture
def tracking(place):
    return connect(TrackingConfig(), place)


def asked(place, **settings) -> RunConfig:
    promote = {"approval": True, **settings}
    return RunConfig.model_validate({"workspace": str(place), "promote": promote})


def answered(config: RunConfig, *answers: dict) -> dict:
    """Run the flow, and give each answer on its page as the UI does."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from flows.promote import promote_flow

    paused = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
    with get_client(sync_client=True) as client, ThreadPoolExecutor(1) as pool:
        result = pool.submit(promote_flow, version=2, config=config)
        for answer in answers:
            deadline = time.monotonic() + 60
            while not (found := client.read_flow_runs(flow_run_filter=paused)):
                assert time.monotonic() < deadline and not result.done(), result
                time.sleep(0.2)
            client.resume_flow_run(found[0].id, run_input=answer)
        return result.result(60)


def test_approved_on_the_page_it_is_champion_and_says_by_whom(place, tracking, prefect_server):
    wrong = {"decision": "approve", "name": " ", "reason": "x"}  # leaves the run as it was
    found = answered(asked(place), wrong, {"decision": "approve", "name": "Anna", "reason": "better on fear"})
    assert (found["champion"], found["previous"], found["approved_by"]) == (2, 1, "Anna")
    version = registered_version(tracking, 2)
    assert (version.tags["approved_by"], version.tags["approved_because"]) == ("Anna", "better on fear")
    assert "Approved by Anna on 2" in version.description and "better on fear" in version.tags["promotion"]


def test_refused_on_the_page_the_champion_stays_and_the_version_says_why(place, tracking, prefect_server):
    found = answered(asked(place), {"decision": "refuse", "name": "Ben", "reason": "too few elderly people"})
    assert (found["champion"], found["refused_by"]) == (1, "Ben")
    assert champion_version(tracking) == 1
    version = registered_version(tracking, 2)
    assert version.tags["refused_because"] == "too few elderly people" and "approved_by" not in version.tags
    assert "Refused by Ben" in version.description


def test_without_an_answer_everything_stays_as_it_was(place, tracking, prefect_server):
    before = registered_version(tracking, 2)
    with pytest.raises(RegistryError, match=r"nobody answered within .*so nothing is changed"):
        answered(asked(place, approval_timeout_s=2))
    assert champion_version(tracking) == 1
    assert registered_version(tracking, 2).tags == before.tags


def test_a_version_that_fails_the_gate_is_not_asked_about(place, tracking):
    from flows.support.gate import promote_if_passed

    found = promote_if_passed(asked(place, min_mean_recall=0.99), 2, show=lambda text, url: None)
    assert (found["passed"], found["champion"]) == (False, 1)


def test_yes_by_approves_at_the_prompt(place, tracking):
    words = ("promote", "--version", 2, "--workspace", place)
    done = run(*words, "--yes-by", "Anna", "--reason", "better on fear")
    assert done.exit_code == 0 and "Is version 2 to be champion after version 1?" in done.stderr
    assert registered_version(tracking, 2).tags["approved_by"] == "Anna"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (ASKS, "promote.approval asks a person, and this is no terminal; give --yes-by NAME --reason TEXT"),
        (("--yes-by", "Anna"), "--yes-by NAME and --reason TEXT go together"),
        (("--yes-by", "  ", "--reason", "x"), "an answer needs a name"),
    ],
)
def test_without_a_terminal_or_a_name_nothing_happens(place, tracking, given, sentence):
    done = run("promote", "--version", 2, "--workspace", place, *given)
    assert done.exit_code == 1 and sentence in done.stderr
    assert champion_version(tracking) == 1


def test_an_answer_is_made_harmless_for_the_pages_that_show_it():
    assert "\\<b\\>" in Approval(True, "<b>", "x").sentence or "&lt;b" in Approval(True, "<b>", "x").sentence
    with pytest.raises(RegistryError, match="needs a reason"):
        Approval(True, "Anna", "x\n# y")


ON_A_TERMINAL = """
import sys
from flows.commands.approve import asker
from flows.commands.session import Session
from fer_core.config import RunConfig
print("ANSWER", asker(Session(RunConfig()), "", "")("# Is version 2 to be champion?"))
"""


def test_on_a_terminal_the_question_is_asked(tmp_path):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True
    ) as process:
        os.write(ours, b"n\nBen\nno elderly people\n")
        assert process.stdout is not None
        told = process.stdout.read()
    os.close(theirs)
    os.close(ours)
    assert "ANSWER Approval(approved=False, by='Ben', reason='no elderly people')" in told
