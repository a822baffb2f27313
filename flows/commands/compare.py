"""`ferflow compare`: models on the same faces and folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.rivals.names import NAMES
from flows.commands.runs import backbone_checked, corpus_checked, run_flow, settled
from flows.commands.session import Session, command


@command()
def compare(
    session: Session,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help=f"{' '.join(NAMES)}; the first is what the others are held against. None: all.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=0, help="Most epochs of the networks over clips; 0: those of their recipes.")
    ] = 0,
) -> dict[str, Any]:
    """Compare models on the training subjects, each clip scored out of fold: one table, one figure."""
    from fer_core.rivals.catalogue import rivals

    config = settled(session)
    rivals(models or [], config.train)  # refuse an unknown name before anything is done
    config = backbone_checked(corpus_checked(config))
    result = run_flow(session, "flows.compare", "compare_flow", config, models=models or [], epochs=epochs)
    rows = json.loads(Path(result["numbers"]).read_text(encoding="utf-8"))["rows"]
    session.table("", list(rows[0]), [list(row.values()) for row in rows])
    return {**result, "rows": rows}
