"""`ferflow data frames`: videos -> folders of numbered pictures, as the thesis's appendix has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands.session import FAILED, FollowLinks, Session, command


@command(reads=("limits",))
def frames(
    session: Session,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video, or a folder of them.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the frame folders.", show_default=False)],
    follow_links: FollowLinks = False,
) -> dict[str, Any]:
    """Write videos as folders of frames (0000001.jpg, …). An interrupted run resumes."""
    from fer_core.errors import DataError
    from fer_core.preprocess.extract import extract_batch
    from fer_core.scoring.inputs import collect

    limits = session.following(follow_links).limits
    items = collect([source], follow_links=limits.follow_links)
    tree = items[0].root if source.is_dir() else None
    paths = [item.clip.path for item in items]
    videos = [path for path in paths if not path.is_dir() or path.is_symlink()]
    if not videos or source.suffix.lower() == ".csv":
        raise DataError(f"{source} is no video and no folder of videos; there is nothing to write out")
    with session.progress("Writing frames") as progress:
        rows = list(extract_batch(videos, out, limits, tree, progress))
    bad = {str(row.path): row.error for row in rows if row.error}
    session.say_lines(f"{error.status.value}: {path}: {error.reason}" for path, error in bad.items())
    n_frames, n_lost = sum(row.n_frames for row in rows), sum(row.n_lost for row in rows)
    before = sum(row.before for row in rows)
    session.say(
        f"{n_frames} frames of {len(rows) - len(bad)} videos in {out}; {before} were there, {n_lost} frames lost"
    )
    session.next("a manifest of them", "data", "scan", "folder", out, "--out", "clips.csv")
    session.exit_code = FAILED if len(bad) == len(rows) else 0
    return {
        "out": str(out),
        "videos": len(rows),
        "frames": n_frames,
        "lost": n_lost,
        "already_there": before,
        "failed": {path: {"status": error.status, "reason": error.reason} for path, error in bad.items()},
    }
