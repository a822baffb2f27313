"""`ferflow data forget`: a person withdraws; what the workspace keeps of them goes, what cannot is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.session import RunManifest, Session, command

if TYPE_CHECKING:
    from fer_core.config import RunConfig


@command(reads=("manifest", "tracking"))
def forget(
    session: Session,
    subject: Annotated[str, typer.Argument(help="Subject as in the manifest: <dataset>:<id>.", show_default=False)],
    manifest: RunManifest = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed and what would stay.")
    ] = False,
) -> dict[str, Any]:
    """Remove a person's faces, features, predictions, tables and manifest rows; list the models trained on the
    person."""
    from fer_core.housekeeping.forget import forget as forget_subject
    from fer_core.workspace import Workspace
    from flows.support.environment import settle

    config = settle(session.with_manifest(manifest))
    workspace = Workspace.open(config.workspace)
    rows_of = Path(config.manifest).expanduser() if config.manifest else workspace.manifest
    found = forget_subject(subject, rows_of, workspace, dry_run)
    versions, unknown = _versions(config, subject)
    done = "would go" if dry_run else "removed"
    session.table(
        f"{subject}: {done}", ("kind", "entries"), [*found.removed.items(), (f"rows of {rows_of}", found.rows)]
    )
    remaining = {
        "file of theirs, yours to delete": [str(clip.path) for clip in found.clips],
        "model trained on them; retire it or train it again": [str(folder) for folder in found.models],
        "registered version trained on them": [f"{config.tracking.model} {version}" for version in versions],
        "registered version that does not say whom it was trained on": [
            f"{config.tracking.model} {version}" for version in unknown
        ],
        "scored folder that shows them; score again without them": [str(folder) for folder in found.results],
        "picture that may show them; make it again, or delete it": [str(page) for page in found.pages],
        "clip that is gone, what was made of it goes with 'ferflow store --unused'": list(found.unread),
    }
    session.say_lines(f"Remains, {what}: {name}" for what, names in remaining.items() for name in names)
    if found.rows and not dry_run:
        session.say("The data have another fingerprint now: split them again, and train without them.")
    if dry_run:
        session.next("their removal", "data", "forget", subject, manifest)
    else:
        session.next("what is stored", "store")
    return {
        "subject": subject,
        "dry_run": dry_run,
        "removed": dict(found.removed),
        "rows": found.rows,
        "files": [str(clip.path) for clip in found.clips],
        "models": [str(folder) for folder in found.models],
        "versions": versions,
        "versions_unknown": unknown,
        "results": [str(folder) for folder in found.results],
        "pages": [str(page) for page in found.pages],
        "unread": list(found.unread),
    }


def _versions(config: RunConfig, subject: str) -> tuple[list[int], list[int]]:
    """Registered versions trained on the subject, and those that do not say; none where nothing was ever registered."""
    from fer_core.tracking.run import connect
    from fer_core.tracking.subjects import versions_trained_on

    workspace = Path(config.workspace)
    if config.tracking.uri == "auto" and not (workspace / "mlflow.db").is_file():
        return [], []
    return versions_trained_on(connect(config.tracking, workspace), subject)
