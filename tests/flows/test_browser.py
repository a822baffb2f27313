"""The servers in a browser, as a person uses them: refused, logged in by the link, a form, a run's page, its links."""

from __future__ import annotations

import re
import signal
import subprocess
from typing import Any

import pytest

from mlflow_server.address import PREFECT_AUTH, credentials, login_link
from tests.browser import CHROMIUM, needs_browser
from tests.flows.test_cli_servers import up

WAIT_MS = 100_000
RUN = "card: 12 clips of manifest.csv"


@needs_browser
@pytest.mark.slow
def test_a_flow_is_started_from_its_form_and_its_links_open(workspace, ferflow, tmp_path):
    from playwright.sync_api import sync_playwright

    clips = tmp_path / "clips"
    subprocess.run([ferflow, "data", "synth", str(clips), "--subjects", "2"], check=True, cwd=tmp_path)
    with up(ferflow, workspace, tmp_path, signal.SIGTERM) as addresses, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        refuse_a_stranger(browser.new_page(), addresses.prefect)
        page = browser.new_context().new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(login_link(addresses.prefect, credentials(workspace)[PREFECT_AUTH], "deployments"))
        start_the_card(page, str(tmp_path / "gone.csv"), str(clips / "manifest.csv"))
        page.goto(f"{addresses.prefect}/runs")
        page.get_by_role("link", name=RUN).first.click()
        page.get_by_text("Completed", exact=True).first.wait_for()
        page.get_by_text("Artifacts", exact=True).first.click()
        page.get_by_text("summary", exact=True).first.click()
        with page.expect_popup() as opened:
            page.get_by_role("link", name="The whole card").click()
        opened.value.wait_for_load_state()
        assert opened.value.title().startswith("manifest.csv: 12 clips of 2 people")
        with page.expect_popup() as opened:
            page.get_by_role("link", name="The run in MLflow").click()
        opened.value.get_by_text("data card").first.wait_for()
        assert opened.value.url.startswith(f"{addresses.mlflow}/#/experiments/")
        browser.close()


def refuse_a_stranger(page: Any, prefect: str) -> None:
    page.goto(f"{prefect}/deployments")
    page.wait_for_url("**/login?redirect=**")
    assert page.request.get(f"{prefect}/pages/").status == 401


def start_the_card(page: Any, wrong: str, right: str) -> None:
    """Open the form, give a wrong value, read the sentence, and give the right one."""
    page.get_by_role("link", name="card", exact=True).first.click()
    page.wait_for_url("**/deployments/deployment/**")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    manifest = page.locator("textarea").first  # the first field of the form
    manifest.fill(wrong)
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(re.compile(f"no manifest at {re.escape(wrong)}")).first.wait_for()
    manifest.fill(right)
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("scheduled to start now").first.wait_for()
