"""The servers in a browser, as a person uses them: refused, logged in by the link, forms, pages of runs, MLflow."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from flows.serve import SERVED
from mlflow_server.address import MLFLOW_PASSWORD, MLFLOW_USER, PREFECT_AUTH, Addresses, credentials, login_link
from tests.browser import CHROMIUM, needs_browser
from tests.flows.test_cli import run
from tests.flows.test_cli_servers import TEAM, up
from tests.saved_models import register_champion

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.timeout(600)]
WAIT_MS = 100_000
ENDED_MS = 400_000  # the last run waits for all others
ENDED = re.compile("^(Completed|Failed|Crashed|Cancelled)$")


@dataclass(frozen=True)
class Served:
    """A running `ferflow up` on a workspace with two versions, and 36 drawn clips of six people in two databases."""

    addresses: Addresses
    workspace: Path

    def prefect(self, page: str) -> str:
        return login_link(self.addresses.prefect, credentials(self.workspace)[PREFECT_AUTH], page)

    def mlflow(self, page: str) -> str:
        kept = credentials(self.workspace)
        return login_link(self.addresses.mlflow, f"{kept[MLFLOW_USER]}:{kept[MLFLOW_PASSWORD]}", page)


@pytest.fixture(scope="module")
def served(ferflow, tmp_path_factory) -> Iterator[Served]:
    workspace = tmp_path_factory.mktemp("browser") / "workspace"
    workspace.mkdir()
    register_champion(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERFLOW_WORKSPACE", str(workspace))
        subprocess.run([ferflow, "data", "synth", str(workspace / "clips"), "--subjects", "6"], check=True)
        clips = pd.read_csv(workspace / "clips" / "manifest.csv")
        clips["path"] = "clips/" + clips["path"]
        clips["dataset"] = ["one"] * 18 + ["two"] * 18
        clips.to_csv(workspace / "clips.csv", index=False)
        (workspace / "incoming").mkdir()
        for film in sorted((workspace / "clips").rglob("*.mp4"))[:2]:
            shutil.copy(film, workspace / "incoming")
        with up(ferflow, workspace, workspace, signal.SIGTERM) as addresses:
            yield Served(addresses, workspace)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def new_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page of a browser that has never been here."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, **options)
    context.set_default_timeout(WAIT_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    with new_page(browser) as page:
        yield page


def test_people_of_a_team_log_in_with_their_own_passwords(ferflow, workspace, tmp_path, browser):
    users = tmp_path / "users.yaml"
    users.write_text(TEAM)
    users.chmod(0o600)
    cleo = {"username": "cleo", "password": "another long password"}  # reads, and starts no flows
    with up(ferflow, workspace, tmp_path, signal.SIGTERM, "--host", "0.0.0.0", "--users", str(users)) as addresses:
        with new_page(browser, http_credentials={**cleo, "password": "a guess"}) as page:
            for url in (f"{addresses.mlflow}/", f"{addresses.prefect}/pages/"):
                answer = page.goto(url)
                assert answer is not None and answer.status == 401
        with new_page(browser, http_credentials=cleo) as page:
            page.goto(f"{addresses.mlflow}/#/experiments")
            page.get_by_role("heading", name="Experiments").wait_for()
            page.goto(f"{addresses.prefect}/pages/")
            page.get_by_role("heading", name="Pages, newest first").wait_for()
        with new_page(browser) as page:
            for login in ("cleo:another long password", "anna:a guess", "anna:correct horse battery"):
                page.goto(f"{addresses.prefect}/deployments")
                page.get_by_placeholder("admin:pass").fill(login)
                page.get_by_role("button", name="Login").click()
                if login.endswith("battery"):
                    page.get_by_role("link", name="end-to-end", exact=True).first.wait_for()
                else:
                    page.get_by_text("Authentication failed.").first.wait_for()


def test_strangers_are_refused(served, page):
    page.goto(f"{served.addresses.prefect}/deployments")
    page.wait_for_url("**/login?redirect=**")
    assert page.request.get(f"{served.addresses.prefect}/pages/").status == 401
    assert page.request.get(f"{served.addresses.mlflow}/").status == 401
    page.goto(login_link(served.addresses.mlflow, "ferflow:a guess"))
    page.get_by_text("out of date or incomplete").wait_for()


def test_a_wrong_value_is_refused_before_a_run_exists_by_the_sentence_of_the_command_line(served, page):
    page.goto(served.prefect("deployments"))
    wrong = str(served.workspace / "gone.csv")
    for form, change, said, command in (
        ("search", fill("Number of trials", "0"), "search.trials: Input", ("search", "--set", "search.trials=0")),
        ("card", fill("Clips: path of a manifest CSV", wrong), f"no manifest at {wrong}", ("data", "card", wrong)),
    ):
        open_form(page, form)
        change(page)
        page.get_by_role("button", name="Submit").click()
        shown = page.get_by_text(re.compile(re.escape(said))).first.inner_text()
        sentence = shown[shown.index(said) :].split(";")[0].strip()
        assert sentence in " ".join(run(*command).stderr.split())
        page.goto(f"{served.addresses.prefect}/deployments")
    page.goto(f"{served.addresses.prefect}/runs")
    page.get_by_text("Run a task or flow to get started").first.wait_for()


Act = Callable[["Page"], None]


def fill(title: str, value: str) -> Act:
    return lambda page: field_of(page, title).locator("input, textarea").first.fill(value)


def choose(title: str, choice: str) -> Act:
    def act(page: Page) -> None:
        field_of(page, title).locator(".p-select-button__control").press("ArrowDown")
        page.get_by_role("option", name=choice, exact=True).click()
        page.get_by_text("Parameters", exact=True).click()  # a list of several choices stays open, and takes a click

    return act


def add(title: str, *values: str) -> Act:
    def act(page: Page) -> None:
        for place, value in enumerate(values):
            field_of(page, title).get_by_role("button", name="Add item").click()
            field_of(page, title).locator("input, textarea").nth(place).fill(value)

    return act


def change(section: str) -> Act:
    return lambda page: field_of(page, section).get_by_text("Change", exact=True).click()


def switch(title: str) -> Act:
    return lambda page: field_of(page, title).locator(".p-toggle__control").first.click()


@dataclass(frozen=True)
class Started:
    """What a person enters in a form, and expects of its run: its name, its summary, and the titles of linked pages."""

    acts: tuple[Act, ...]
    name: str
    says: str
    pages: Mapping[str, str] = field(default_factory=dict)  # link -> pattern of the start of its page's title
    in_mlflow: str = ""  # text on the run's page


DEMO = choose("Preset", "demo")
FIRST = {
    "train": Started((DEMO,), "train: head on fer2013", "Candidate: version 3", in_mlflow="candidate"),
    "card": Started(
        (switch("Show faces"),), "card: 36 clips of clips.csv", "clips.csv: 36 clips of 6 people",
        {"The whole card": "clips.csv: 36 clips of 6 people"}, "data card",
    ),
    "preprocess": Started(
        (fill("Path of the table of frames (.parquet or .csv)", "frames.csv"),), "preprocess: clips of clips.csv",
        "36 of 36 clips can be used",
    ),
    "score": Started(
        (fill("Abstain below this confidence", "0.99"),), "score: 2 clips of incoming/", "2 abstained",
        {"The report": "2 clips · face-emotion"}, "score",
    ),
    "watch": Started(
        (fill("Time without a change (s)", "1"),), "watch: 2 new in incoming/", "2 new rows",
        {"What arrived, newest first": "incoming"},
    ),
    "evaluate": Started(
        (fill("Version", "2"),), "evaluate: version 2 on clips.csv", "face-emotion version 2 on clips.csv",
        {"The whole page": "face-emotion version 2"}, "evaluation of version 2",
    ),
    "adopt": Started((choose("Compare with the neutral face", "none"),), "adopt: fer2013", "Adopted: ", {}, "adopted"),
    "search": Started(
        (DEMO, fill("Number of trials", "2")), "search: 2 trials of head on fer2013", "face-emotion-",
        {"The whole page": "Search"},
    ),
    "cross-database": Started((DEMO,), "cross-database: one, two", "Across databases", {}, "cross-database"),
    "compare": Started(
        (change("Search and folds"), fill("Folds", "2"), choose("Models", "head-mean")),
        "compare: head-mean on fer2013", "Models compared", {"The whole page": r"\d models? compared"},
    ),
    "reproduce-thesis": Started(
        (
            add("Implementations", "4"), fill("Divide the FC widths by", "64"), change("More of this flow"),
            add("Settings of all implementations", "backbone.name=fer2013", "train.epochs=2"),
        ),
        "reproduce-thesis: implementation 4, table-4.1", "hesis", {"The whole page": "Thesis"}, "thesis table-4.1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def started(served, browser) -> dict[str, tuple[Started, str]]:
    """What was entered in each form, and the page of the run: all are submitted one after another, and two run at a
    time. Two forms need the run of `train`.
    """
    with new_page(browser) as page:
        page.goto(served.prefect("deployments"))
        page.get_by_placeholder("Search deployments").wait_for()  # the link logs in, and then opens this page
        found = {name: (wanted, submit(page, served, name, wanted)) for name, wanted in FIRST.items()}
        page.goto(found["train"][1])
        open_summary(page, FIRST["train"])
        trained = opened(page, "The run in MLflow").url.split("/runs/")[1][:32]
        last = {
            "promote": Started(
                (fill("Version", "3"), switch("Promote in any case")), "promote: version 3", "Gate: "
            ),
            "rerun": Started((fill("MLflow run", trained),), "rerun: candidate", "run again", {}, "again candidate"),
            "end-to-end": Started(
                (DEMO, fill("Number of trials", "1")), "end-to-end: clips of clips.csv", "End to end",
                {"The report of the scored clips": "36 clips · face-emotion"},
            ),
        }  # fmt: skip
        return found | {name: (wanted, submit(page, served, name, wanted)) for name, wanted in last.items()}


@pytest.mark.parametrize("name", SERVED)
def test_a_flow_is_started_from_its_form_and_its_page_says_what_came_out_and_leads_there(started, served, page, name):
    wanted, url = started[name]
    page.goto(served.prefect(url.removeprefix(f"{served.addresses.prefect}/")))
    open_summary(page, wanted)
    for link, title in wanted.pages.items():
        shown = opened(page, link)
        assert re.match(title, shown.title()) and shown.url.startswith(f"{served.addresses.prefect}/pages/")
    if wanted.in_mlflow:
        logged = opened(page, "The run in MLflow")
        logged.get_by_role("heading").get_by_text(wanted.in_mlflow).first.wait_for()
        assert logged.url.startswith(f"{served.addresses.mlflow}/#/experiments/")
        assert logged.url.endswith("workflowType=machine_learning")  # else MLflow shows its pages for language models
    if name in ("train", "adopt", "promote"):
        opened(page, "The version in MLflow").get_by_text("Networks and licences").first.wait_for()


def test_two_runs_are_compared_and_the_model_is_opened_in_mlflow(served, page):
    page.goto(served.mlflow("#/experiments/1/runs?workflowType=machine_learning"))
    for name in ("candidate 0", "candidate 1"):
        page.get_by_role("link", name=name, exact=True).first.wait_for()
        row = page.get_by_role("row").filter(has_text=name).first
        row.get_by_role("checkbox").first.check(force=True)
    assert page.get_by_text("Ask questions about").count() == 0  # the assistant would cover a quarter of the page
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Comparing 2 Runs").first.wait_for()
    page.goto(f"{served.addresses.mlflow}/#/models/face-emotion/versions/1?workflowType=machine_learning")
    page.get_by_text("Networks and licences").first.wait_for()


def field_of(page: Page, title: str) -> Locator:
    """The field of a form with this whole title, also in an opened section."""
    label = page.locator(
        ".schema-form-property__label", has_text=re.compile(rf"^\s*{re.escape(title)} \(Optional\)\s*$")
    )
    return page.locator(".p-label", has=label).last


def open_form(page: Page, name: str) -> None:
    page.get_by_placeholder("Search deployments").fill(name)
    page.get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_url("**/deployments/deployment/**")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    page.get_by_role("button", name="Submit").wait_for()


def submit(page: Page, served: Served, name: str, wanted: Started) -> str:
    """Start a run from its form, and return the address of its page."""
    page.goto(f"{served.addresses.prefect}/deployments")
    open_form(page, name)
    for act in wanted.acts:
        act(page)
    with page.expect_response("**/create_flow_run") as created:
        page.get_by_role("button", name="Submit").click()
    return f"{served.addresses.prefect}/runs/flow-run/{created.value.json()['id']}"


def open_summary(page: Page, wanted: Started) -> None:
    """Watch the run to its end on its page, and open the first of its artifacts."""
    ended = page.locator(".state-badge").get_by_text(ENDED).first
    ended.wait_for(timeout=ENDED_MS)
    assert ended.inner_text() == "Completed"
    page.get_by_text(wanted.name).first.wait_for()
    page.get_by_text("Artifacts", exact=True).first.click()
    first = page.locator(".artifact-card").first
    first.get_by_text("summary", exact=True).click()
    page.get_by_text(wanted.says).first.wait_for()


def opened(page: Page, link: str) -> Page:
    """The page behind a link, which opens in a tab of its own."""
    with page.expect_popup() as found:
        page.get_by_role("link", name=link).first.click()
    found.value.wait_for_load_state()
    return found.value
