"""Write the pictures of the documentation, `docs/pictures/*.png`, from real pages: `make screenshots [WORKSPACE=DIR]`.

It runs the demo and a comparison in a workspace, starts `ferflow up` on it, opens the pages in Debian's chromium with a
fresh profile, and photographs them. The clips are drawn, so all results are marked as synthetic.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from fer_core.config import TrackingConfig
from fer_core.tracking.connection import Tracking, connect
from mlflow_server.address import (
    MLFLOW_PASSWORD,
    MLFLOW_USER,
    PREFECT_AUTH,
    Addresses,
    announced,
    credentials,
    login_link,
    running,
)

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

PICTURES = Path(__file__).parent / "pictures"
SIZE = {"width": 1280, "height": 860}
WAIT_MS, START_S = 180_000, 300
SUBJECTS, TRIALS = 10, 6


def main(given: str = "") -> None:
    """Write all pictures; `given` is a workspace that an earlier call has filled."""
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = Path(given or temporary).absolute()
        os.environ["FERFLOW_WORKSPACE"] = str(workspace)
        if not (workspace / "scored").is_dir():
            ferflow("demo", "--subjects", SUBJECTS, "--set", f"search.trials={TRIALS}")
        with servers(workspace) as addresses, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            browser = chromium.new_context(viewport=SIZE)  # type: ignore[arg-type]
            browser.set_default_timeout(WAIT_MS)
            ferflow("score", workspace / "synthetic" / "unseen" / "manifest.csv")  # its page links to the servers
            prefect(browser, addresses.prefect, credentials(workspace)[PREFECT_AUTH])
            mlflow(browser, addresses.mlflow, workspace)
            report(browser, workspace)
            chromium.close()
    total = sum(path.stat().st_size for path in PICTURES.glob("*.png"))
    print(f"{len(list(PICTURES.glob('*.png')))} pictures, {total / 1e6:.2f} MB, in {PICTURES}")


def ferflow(*words: object) -> None:
    subprocess.run([Path(sys.executable).parent / "ferflow", *map(str, words)], check=True)


@contextmanager
def servers(workspace: Path) -> Iterator[Addresses]:
    """The workspace's running `ferflow up`, or one on free ports, which is stopped at the end."""
    if found := running(workspace):
        yield found
        return
    ports = []
    for option in ("--mlflow-port", "--prefect-port"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports += [option, str(probe.getsockname()[1])]
    process = subprocess.Popen([Path(sys.executable).parent / "ferflow", "up", *ports], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_S
        while (found := announced(workspace)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"ferflow up does not start; see the logs in {workspace / 'servers'}")
            time.sleep(0.5)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def save(page: Page, name: str) -> None:
    """Write what the page shows as a PNG, without losing a colour."""
    page.wait_for_timeout(1500)  # transitions of the page and its charts
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(PICTURES / f"{name}.png", optimize=True)
    print(f"{name}.png {(PICTURES / f'{name}.png').stat().st_size / 1e3:.0f} kB", flush=True)


def prefect(browser: BrowserContext, url: str, auth: str) -> None:
    """The form of a search, and the page of the run that scored."""
    page = browser.new_page()
    page.goto(login_link(url, auth, "deployments"))
    page.get_by_placeholder("Search deployments").fill("search")
    page.get_by_role("link", name="search", exact=True).first.click()
    page.wait_for_url("**/deployments/deployment/**")
    page.get_by_role("button", name="Run", exact=True).first.click()
    page.get_by_text("Custom run").first.click()
    page.get_by_text("Number of trials").first.wait_for()
    save(page, "prefect-form")
    page.goto(f"{url}/runs")
    page.get_by_role("link", name=re.compile("^score: ")).first.click()
    page.wait_for_url("**/runs/flow-run/**")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("summary", exact=True).first.click()
    page.get_by_role("link", name="The run in MLflow").first.wait_for()
    save(page, "prefect-summary")
    page.close()


def mlflow(browser: BrowserContext, url: str, workspace: Path) -> None:
    """The saved view of the search, its two best trials compared, and the page of the version."""
    kept = credentials(workspace)
    os.environ.update({name: kept[name] for name in (MLFLOW_USER, MLFLOW_PASSWORD)})
    tracking = connect(TrackingConfig(uri=url), workspace)
    parent, best = search_and_best(tracking)
    page = browser.new_page()
    trials = tracking.view_url(f"ferflow-{parent[:12]}")
    page.goto(login_link(url, f"{kept[MLFLOW_USER]}:{kept[MLFLOW_PASSWORD]}", trials.removeprefix(f"{url}/")))
    page.get_by_text("trial ").first.wait_for()
    save(page, "mlflow-trials")
    page.goto(f"{trials}&compareRunsMode=CHART")
    page.get_by_text("To choose by").first.wait_for()
    save(page, "mlflow-charts")
    runs = ",".join(f'"{run}"' for run in best)
    page.goto(
        f'{url}/#/compare-runs?runs=[{runs}]&experiments=["{tracking.experiment_id}"]&workflowType=machine_learning'
    )
    page.get_by_text("Comparing 2 Runs").first.wait_for()
    page.get_by_text("Visualizations", exact=True).click()  # closes them: the tables below come into the picture
    page.get_by_text("Run details", exact=True).click()
    save(page, "mlflow-compare")
    page.goto(tracking.version_url(1))
    page.get_by_text("mean recall, people held out").first.wait_for()
    save(page, "mlflow-version")
    page.close()


def search_and_best(tracking: Tracking) -> tuple[str, list[str]]:
    """The newest search, and its two best trials."""
    (search,) = tracking.client.search_runs([tracking.experiment_id], "tags.kind = 'search'", max_results=1)
    trials = tracking.client.search_runs(
        [tracking.experiment_id], f"tags.`mlflow.parentRunId` = '{search.info.run_id}' and metrics.mean_recall >= 0",
        order_by=["metrics.mean_recall DESC"], max_results=2,
    )  # fmt: skip
    return search.info.run_id, [run.info.run_id for run in trials]


def report(browser: BrowserContext, workspace: Path) -> None:
    """The demo's report of the scored folder, and its review at the first clip that is a film."""
    page = browser.new_page()
    page.goto(min((workspace / "scored").rglob("report.html")).as_uri())
    save(page, "report")
    page.get_by_role("button", name="Review labels").click()
    page.get_by_role("textbox").last.fill("Anna")
    page.keyboard.press("Enter")
    while page.locator("#film video").count() == 0:
        page.keyboard.press("ArrowRight")
    save(page, "review")
    page.close()


if __name__ == "__main__":
    main(*sys.argv[1:2])
