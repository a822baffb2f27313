"""The servers in a browser, as a person uses them: refused, logged in by the link, forms, pages of runs, MLflow."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_server.address import MLFLOW_PASSWORD, MLFLOW_USER, PREFECT_AUTH, Addresses, credentials, login_link
from tests.browser import CHROMIUM, needs_browser
from tests.flows.test_cli_servers import up
from tests.saved_models import register_champion

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [needs_browser, pytest.mark.slow]
WAIT_MS = 100_000


@dataclass(frozen=True)
class Served:
    """A running `ferflow up` on a workspace with two versions, and 12 drawn clips of two people."""

    addresses: Addresses
    workspace: Path
    clips: Path

    def prefect(self, page: str) -> str:
        return login_link(self.addresses.prefect, credentials(self.workspace)[PREFECT_AUTH], page)

    def mlflow(self, page: str) -> str:
        kept = credentials(self.workspace)
        return login_link(self.addresses.mlflow, f"{kept[MLFLOW_USER]}:{kept[MLFLOW_PASSWORD]}", page)


@pytest.fixture(scope="module")
def served(ferflow, tmp_path_factory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("browser")
    workspace = root / "workspace"
    workspace.mkdir()
    register_champion(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERFLOW_WORKSPACE", str(workspace))
        subprocess.run([ferflow, "data", "synth", str(root / "clips"), "--subjects", "2"], check=True, cwd=root)
        (workspace / "incoming").mkdir()
        for film in sorted((root / "clips").rglob("*.mp4"))[:2]:
            shutil.copy(film, workspace / "incoming")
        with up(ferflow, workspace, root, signal.SIGTERM) as addresses:
            yield Served(addresses, workspace, root / "clips")


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a browser that has never been here."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
        page.set_default_timeout(WAIT_MS)
        yield page
        browser.close()


def test_strangers_are_refused(served, page):
    page.goto(f"{served.addresses.prefect}/deployments")
    page.wait_for_url("**/login?redirect=**")
    assert page.request.get(f"{served.addresses.prefect}/pages/").status == 401
    assert page.request.get(f"{served.addresses.mlflow}/").status == 401
    page.goto(login_link(served.addresses.mlflow, "ferflow:a guess"))
    page.get_by_text("out of date or incomplete").wait_for()


def test_a_flow_is_started_from_its_form_and_its_links_open(served, page):
    """A wrong value is answered by a sentence before a run exists."""
    page.goto(served.prefect("deployments"))
    wrong = str(served.clips / "gone.csv")
    open_form(page, "card")
    manifest = page.locator("textarea").first  # the first field of the form
    manifest.fill(wrong)
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(re.compile(f"no manifest at {re.escape(wrong)}")).first.wait_for()
    manifest.fill(str(served.clips / "manifest.csv"))
    submit(page)
    open_summary(page, served, "card: 12 clips of manifest.csv")
    assert opened(page, "The whole card").title().startswith("manifest.csv: 12 clips of 2 people")
    run = opened(page, "The run in MLflow")
    run.get_by_text("data card").first.wait_for()
    assert run.url.startswith(f"{served.addresses.mlflow}/#/experiments/")


def test_scoring_from_its_form_leads_to_the_report(served, page):
    """One value is changed: the model abstains below a confidence that random weights never reach."""
    page.goto(served.prefect("deployments"))
    open_form(page, "score")
    page.locator("input[type=number]").first.fill("0.99")
    submit(page)
    open_summary(page, served, "score: 2 clips of incoming/")
    report = opened(page, "The report")
    report.get_by_role("button", name="Review labels").wait_for()
    assert report.get_by_text("abstained").count() > 0


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
    page.get_by_text("champion").first.wait_for()


def open_form(page: Page, name: str) -> None:
    page.get_by_placeholder("Search deployments").fill(name)
    page.get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_url("**/deployments/deployment/**")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    page.get_by_role("button", name="Submit").wait_for()


def submit(page: Page) -> None:
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("scheduled to start now").first.wait_for()


def open_summary(page: Page, served: Served, run: str) -> None:
    """Watch the run to its end, and open the first of its artifacts."""
    page.goto(f"{served.addresses.prefect}/runs")
    page.get_by_role("link", name=run).first.click()
    page.get_by_text("Completed", exact=True).first.wait_for()
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("summary", exact=True).first.click()


def opened(page: Page, link: str) -> Any:
    """The page behind a link, which opens in a tab of its own."""
    with page.expect_popup() as found:
        page.get_by_role("link", name=link).first.click()
    found.value.wait_for_load_state()
    return found.value
