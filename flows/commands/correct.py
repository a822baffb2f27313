"""`ferflow data correct`: labels that a person confirmed or corrected in a report go into the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.errors import DataError
from flows.commands.session import Session, command

NAMED = 20  # clips named on a terminal; --json has all


@command(reads=())
def correct(
    session: Session,
    corrections: Annotated[
        Path, typer.Argument(metavar="CORRECTIONS", help="corrections.csv, from a report's review.", show_default=False)
    ],
    manifest: Annotated[
        Path, typer.Argument(metavar="CSV", help="The manifest that gets the labels.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="CSV", help="Manifest to write; default: the same file.")
    ] = None,
) -> dict[str, Any]:
    """Put confirmed and corrected labels into a manifest, with who said so and when; clips are found by content."""
    from fer_core.clips.corrections import correct as put_into
    from fer_core.clips.corrections import read_corrections
    from fer_core.clips.manifest import content_digests, read_manifest, write_manifest
    from fer_core.clips.rows import read_rows
    from fer_core.evaluation.metrics import proportion

    given = read_corrections(corrections)
    target = out or manifest
    if out is None and (unread := read_rows(manifest, labelled=False, subject="none", classes=None).unread):
        raise DataError(
            f"{manifest} has columns that ferflow does not read ({', '.join(unread)}) and would lose; write to another "
            "file with --out"
        )
    clips = read_manifest(manifest, labelled=False, subject="none", classes=None)
    with session.progress("Reading clips") as progress:
        found = put_into(clips, content_digests(clips, progress), given)
    write_manifest(found.manifest, target)
    told = [c for c in given if c.label is not None]
    right = sum(c.label == c.verdict for c in told)
    accuracy = proportion(right, len(told)) if told else None
    session.say_lines(
        f"{clip}: {before or '(none)'} -> {now}" for clip, (before, now) in [*found.changed.items()][:NAMED]
    )
    if (more := len(found.changed) - NAMED) > 0:
        session.say(f"... and {more} more, all of them with --json")
    session.say_lines(f"Not in {manifest}: {clip}" for clip in found.unmatched[:NAMED])
    session.say(
        f"{len(found.changed)} labels changed, {len(found.confirmed)} confirmed, {len(found.unclear)} could not be "
        f"told, {len(found.unmatched)} are not in the manifest. Written: {target}"
    )
    if accuracy is not None:
        session.say(
            f"The model was right on {right} of {len(told)} reviewed clips: {accuracy} %. A review begins with the "
            "most doubtful clips, so this is no estimate for the whole batch unless all of it was reviewed."
        )
    session.next("a search with these labels", "search", target)
    return {
        "out": str(target),
        "changed": {clip: list(labels) for clip, labels in found.changed.items()},
        "confirmed": list(found.confirmed),
        "unclear": list(found.unclear),
        "unmatched": list(found.unmatched),
        "reviewed": len(told),
        "right": right,
        "accuracy": None if accuracy is None else [accuracy.value, accuracy.low, accuracy.high],
    }
