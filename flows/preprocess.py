"""Flow `preprocess`: make and store the equalised faces of every clip of a manifest, and show the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow

from fer_core.clips.cells import markdown_text
from fer_core.clips.datasets import may_leave
from fer_core.config import RunConfig
from fer_core.dataset.dataset import Dataset
from fer_core.preprocess.clip_rows import stored_faces, stored_ledgers
from fer_core.preprocess.frame_table import frame_table, write_table
from fer_core.reports.plots import contact_sheet, figure_png
from fer_core.store import write_atomic
from fer_core.workspace import Workspace
from flows.support.artifacts import show_markdown, show_picture, show_table
from flows.support.environment import settle
from flows.support.prepare import prepare_faces
from flows.support.summary import name_run, show_summary

SHEET_COLUMNS = 8


@flow(name="preprocess", persist_result=False)
def preprocess_flow(frames_table: str = "", config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008  frozen; fills the form
    """Preprocess the clips of a manifest; stored faces are reused.

    Args:
        frames_table: .parquet or .csv file for every selected frame: clip, frame, time, box, weight, used; empty: none.
        config: all settings; `preprocess`, `limits`, `split` and `manifest` matter here.
    """
    config = settle(config)
    name_run(f"clips of {Path(config.manifest or Workspace.open(config.workspace).manifest).name}")
    prepared = prepare_faces(config)
    table = Path(frames_table).expanduser().absolute() if frames_table else None
    if table:
        ledgers = stored_ledgers(prepared.rows, Workspace.open(config.workspace).store)
        write_table(frame_table(ledgers), table)
    return summarize(config, prepared, {"The table of frames": table} if table else {})


def summarize(config: RunConfig, prepared: Dataset, pages: Mapping[str, Path]) -> dict[str, Any]:
    """Show the results of the clips, with links to `pages`, and return their counts."""
    rows, clips = prepared.rows, prepared.manifest.clips
    classes = [
        {
            "emotion": str(emotion),
            "clips": sum(c.emotion == emotion for c in clips),
            "faces": sum(r.n_used for r, c in zip(rows, clips, strict=True) if c.emotion == emotion),
            "frames selected": sum(r.n_selected for r, c in zip(rows, clips, strict=True) if c.emotion == emotion),
        }
        for emotion in prepared.manifest.class_counts()
    ]
    show_table("faces-per-class", classes, "Faces found per class")
    bad = [{"clip": r.clip, "status": r.status.value, "reason": r.reason} for r in rows if not r.status.scored]
    if bad:
        show_table("clips-left-out", bad, "Clips that cannot be used, and why")
    _show_faces(config, prepared)
    used, selected = sum(r.n_used for r in rows), sum(r.n_selected for r in rows)
    markdown = (
        f"## {len(prepared.usable)} of {len(rows)} clips can be used\n\n{used} faces in {selected} frames.\n\n"
        "Next: flow `search`, `train` or `compare`.\n"
    )
    show_summary(markdown, Workspace.open(config.workspace).root, pages=pages)
    return {
        "clips": len(rows),
        "usable": len(prepared.usable),
        "cached": sum(r.cached for r in rows),
        "frames": selected,
        "faces": used,
        "status": dict(Counter(r.status.value for r in rows)),
        "fingerprint": prepared.fingerprint,
        "synthetic": prepared.manifest.synthetic,
    }


def _show_faces(config: RunConfig, prepared: Dataset) -> None:
    """Show the last face of some clips of each class.

    The picture is on the run's page where the databases allow pictures to leave this machine. Otherwise it is only in
    the workspace, because the Prefect server may be on any machine.
    """
    sheet = figure_png(apex_sheet(config, prepared))
    if config.tracking.upload_faces or all(may_leave(c) for c in prepared.manifest.clips):
        show_picture("contact-sheet", sheet, "Last face of some clips of each class")
    else:
        path = Workspace.open(config.workspace).contact_sheet
        write_atomic(path, sheet)
        show_markdown(
            "contact-sheet",
            f"Faces of these clips stay on the machine they were found on: {markdown_text(str(path))}\n",
        )


def apex_sheet(config: RunConfig, prepared: Dataset) -> Any:
    """Return a figure with the last face of up to eight clips of each class, one row per class."""
    emotion_of = {c.id: c.emotion for c in prepared.manifest.clips}
    chosen: dict[str, list[Any]] = {}
    for row in prepared.usable:
        members = chosen.setdefault(str(emotion_of[row.clip]), [])
        if len(members) < SHEET_COLUMNS:
            members.append(row)
    workspace = Workspace.open(config.workspace)
    rows = {
        emotion: [faces.pixels[-1] for faces in stored_faces(members, workspace.store)]
        for emotion, members in sorted(chosen.items())
    }
    return contact_sheet(rows, "Synthetic faces" if prepared.manifest.synthetic else "")
