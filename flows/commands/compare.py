"""`ferflow compare`: models on the same faces and folds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.errors import ConfigError
from fer_core.model_names import compared_names
from flows.commands.run_flow import backbone_checked, dataset_checked, run_flow, settled
from flows.commands.session import Offline, Session, command
from flows.support import reads


@command(reads=reads.FITS)
def compare(
    session: Session,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CSV] [MODEL...]",
            help=f"A manifest, whose name ends in .csv; default: that of the settings. Then models: "
            f"{' '.join(compared_names())}; the others are compared with the first. None: all.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=0, help="Largest number of epochs of networks over clips; 0: as in their recipes.")
    ] = 0,
    external: Annotated[
        Path | None,
        typer.Option(
            "--external", metavar="CSV", help="Manifest of clips of other people; every model is evaluated on them too."
        ),
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option(help="Also show the fetched face networks as published, without training."),
    ] = True,
    stress: Annotated[
        bool,
        typer.Option(
            "--stress",
            help="Also show how many verdicts stay when clips are mirrored, scaled, moved, thinned, turned, darker, "
            "compressed; decodes each clip nine more times.",
        ),
    ] = False,
    offline: Offline = False,
) -> dict[str, Any]:
    """Compare models on the training subjects. Each clip is predicted out of fold. Writes a table and a figure."""
    from fer_core.dataset.load import labelled_clips
    from fer_core.models.registry import joint_requirements, models_of

    lists = [Path(word) for word in models or [] if word.lower().endswith(".csv")]
    if len(lists) > 1:
        raise ConfigError(f"name one manifest, not {', '.join(map(str, lists))}; 'ferflow data merge' joins them")
    models = [word for word in models or [] if not word.lower().endswith(".csv")]
    config = settled(session, manifest=lists[0] if lists else None, offline=offline)
    chosen = models_of(models or compared_names(), config.train)  # refuse an unknown name before anything is done
    if external:
        labelled_clips(external, None)  # a file that cannot be read is refused first
    manifest = dataset_checked(config, folded=True)
    if external:
        labelled_clips(external, manifest.classes)
    backbone_checked(config, joint_requirements(chosen))
    result = run_flow(
        session, "flows.compare", "compare_flow", config, models=models or [], epochs=epochs, untrained=untrained,
        stress=stress,
        external=str(external.expanduser().absolute()) if external else "",
    )  # fmt: skip
    numbers = json.loads(Path(result["numbers"]).read_text(encoding="utf-8"))
    rows, others = numbers["rows"], (numbers["external"] or {}).get("rows", [])
    stays = numbers["stays"]["rows"] if numbers["stays"] else []
    for table in filter(None, (rows, others, stays)):
        session.table("", list(table[0]), [list(row.values()) for row in table])
    session.next("a candidate of the best one", "train", *lists, "--model", "NAME")
    return {**result, "rows": rows, "external": others, "stays": stays}
