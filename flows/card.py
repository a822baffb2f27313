"""Flow `card`: write the data card of a manifest, a page about its clips and the results of preprocessing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from fer_core.clips.datasets import scan
from fer_core.config import RunConfig
from fer_core.evaluation.datacard import DataCard, data_card
from fer_core.preprocess.store import FacesStore
from fer_core.reports.datacard import card_html, markdown_card
from fer_core.store import writable_place, write_atomic
from fer_core.tracking.run import connect, start_run
from fer_core.workspace import Workspace
from flows.support.artifacts import progress_bar
from flows.support.environment import settle
from flows.support.prepare import face_rows
from flows.support.summary import name_run, show_summary


@flow(name="card", persist_result=False)
def card_flow(out: str = "", faces: bool = True, config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008
    """Preprocess every clip of a manifest and write its data card, which also lists unusable clips with the reasons.

    Args:
        out: HTML file; empty: card.html in the workspace.
        faces: show people's faces. What is sent to MLflow never does where their databases forbid passing them on.
        config: all settings; `manifest`, `preprocess` and `limits` matter here.
    """
    config = settle(config)
    workspace = Workspace.open(config.workspace)
    page = Path(out).expanduser().absolute() if out else workspace.card
    writable_place(page)  # before any clip is read
    tracking = connect(config.tracking, workspace.root)
    manifest = Path(config.manifest).expanduser() if config.manifest else workspace.manifest
    found = scan("manifest", manifest, subject="none", classes=config.class_list)
    name_run(f"{len(found.manifest.clips)} clips of {manifest.name}")
    rows = face_rows(found.manifest.clips, config)
    move = progress_bar("brightness", f"A second look at {len(rows)} clips")
    card = data_card(manifest.name, found, rows, config.preprocess, config.limits, FacesStore(workspace.store), move)
    write_atomic(page, card_html(card, faces=faces).encode())
    with start_run(tracking, "data card") as run:
        may_leave = card.redistribute or config.tracking.upload_faces
        run.log_text(card_html(card, faces=faces and may_leave), "card.html")
        run.log_data(manifest.name, card.fingerprint, synthetic=found.manifest.synthetic, source=str(manifest))
        run.log_json(card.numbers(), "card.json")
    markdown = f"{markdown_card(card)}\nNext: flow `search` or `train`.\n"
    show_summary(markdown, workspace.root, run_url=run.url, pages={"The whole card": page})
    return {"card": str(page), **_summary(card), "run": run.id, "url": run.url}


def _summary(card: DataCard) -> dict[str, Any]:
    """Return the card's numbers, one per line."""
    numbers = card.numbers()
    return {name: value for name, value in numbers.items() if value not in ([], None)}
