"""Flow `watch`: score what has arrived in a folder, each content once; a schedule runs it again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from fer_core.clips.cells import markdown_text
from fer_core.config import RunConfig
from fer_core.scoring.watch import WatchBusyError
from flows.support.artifacts import progress_bar
from flows.support.environment import check_local, settle
from flows.support.summary import name_run, show_summary
from flows.support.watching import Watcher


@flow(name="watch", persist_result=False)
def watch_flow(config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008  frozen; fills the form
    """Score the clips that have arrived in a folder since the last run, with the champion; each content once.

    Args:
        config: all settings; `watch`, `score`, `limits` and `tracking` matter here.
    """
    config = settle(config)
    check_local(config, "a watched folder")
    watcher = Watcher(config)
    folder = watcher.folder.name
    try:
        result = watcher.once(progress_bar("arrivals", f"Scoring what arrived in {folder}/"))
    except WatchBusyError as exc:
        name_run(f"another process is scoring {folder}/")
        return {"folder": str(watcher.folder), "clips": 0, "busy": str(exc)}
    n = result["clips"]
    name_run(f"{n or 'nothing'} new in {folder}/")
    if n:
        found = ", ".join(f"{count} {emotion}" for emotion, count in result["emotions"].items()) or "no verdict"
        text = f"## {n} new rows, {markdown_text(folder)}/\n\n{markdown_text(found)}.\n"
        show_summary(text, Path(config.workspace), pages={"What arrived, newest first": Path(result["page"])})
    return result
