"""`ferflow diff`: which clips of a batch get another verdict from another version."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.errors import ConfigError, DataError
from flows.commands.run_flow import settled
from flows.commands.session import FollowLinks, Session, command
from flows.support import reads

NAMED = 20  # clips named on a terminal; the page and --json have all


@command(reads=reads.SCORE)
def diff(
    session: Session,
    batch: Annotated[
        Path,
        typer.Option("--batch", metavar="PATH", help="A folder that 'score' wrote, videos, or a manifest."),
    ],
    versions: Annotated[
        tuple[int, int], typer.Option("--versions", metavar="OLD NEW", min=1, help="Two versions of the model.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the page; default: in the workspace.")
    ] = None,
    follow_links: FollowLinks = False,
) -> dict[str, Any]:
    """Show which clips two versions call differently, with both explanations: flips.html and flips.csv."""
    from fer_core.clips.cells import csv_text
    from fer_core.reports.flips import flips_page
    from fer_core.scoring.batch import new_folder, scored_rows
    from fer_core.scoring.flips import flips_of, items_of_batch
    from fer_core.scoring.inputs import printable as named
    from fer_core.store import write_atomic
    from flows.support.champion import explaining_scorer
    from flows.support.environment import check_local

    if versions[0] == versions[1]:
        raise ConfigError(f"--versions names version {versions[0]} twice; name two versions")
    config = settled(session, follow_links)
    check_local(config, "a comparison of versions")
    if config.score.faces == "all":
        raise ConfigError("score.faces is 'all', but versions are compared on the main face of a clip; leave it out")
    if not batch.expanduser().exists():
        raise DataError(
            f"no such file or folder: {batch}; name a folder that 'ferflow score' wrote, videos, or a manifest"
        )
    items = items_of_batch(batch.expanduser(), follow_links=config.limits.follow_links)
    scorers = [explaining_scorer(config, version) for version in versions]
    if scorers[0].classes != scorers[1].classes:
        raise ConfigError(
            f"versions {versions[0]} and {versions[1]} have other classes; their verdicts cannot be compared"
        )
    store = Path(config.workspace) / "store"
    rows = []
    for scorer in scorers:
        with session.progress(f"Version {scorer.version}") as progress:
            rows.append(scored_rows(scorer, items, store, progress)[0])
    found = flips_of(*rows)
    folder = out.expanduser().absolute() if out else new_folder(Path(config.workspace) / "diffs")
    folder.mkdir(parents=True, exist_ok=True)
    page = flips_page(found, scorers[0].name, (scorers[0].version, scorers[1].version), scorers[0].classes)
    write_atomic(folder / "flips.html", page.encode())
    table = [
        (named(f.before.clip), f.before.label or "", *_cells(f.before), *_cells(f.after), f.outcome)
        for f in found.flips
    ]
    columns = ("clip", "label", "before", "confidence_before", "after", "confidence_after", "outcome")
    write_atomic(folder / "flips.csv", csv_text([columns, *table]).encode())
    session.table(f"{len(found.flips)} of {found.clips} verdicts flip", columns, table[:NAMED])
    session.say(f"Written: {folder / 'flips.html'} and flips.csv")
    session.next("the gate for the newer one", "promote", "--version", max(versions))
    return {
        "versions": list(versions),
        "clips": found.clips,
        "flips": [dict(zip(columns, row, strict=True)) for row in table],
        "page": str(folder / "flips.html"),
    }


def _cells(row: Any) -> tuple[str, str]:
    """Return verdict and confidence; the status where there is no verdict."""
    return (str(row.emotion), f"{row.confidence:.4f}") if row.emotion else (row.status.value, "")
