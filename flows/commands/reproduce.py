"""`ferflow reproduce`: the thesis's own experiment, or a recorded run again; `ferflow cross-database`: the matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.commands.run_flow import backbone_checked, dataset_checked, run_flow, settled
from flows.commands.session import RunManifest, Session, command
from flows.support import reads

if TYPE_CHECKING:
    from fer_core.config import RunConfig

Setting = Literal["table-4.1", "section-4.2.2"]

THESIS = "thesis"
SETTING: Setting = "table-4.1"
SET_HERE = ("workspace", "limits", "tracking")  # what of the settings a run that is run again does not bring itself
DECIDED = ("train", "backbone", "split")  # by the thesis, unless the user sets them


@command(reads=reads.FITS)
def reproduce(
    session: Session,
    what: Annotated[
        str,
        typer.Argument(
            metavar="thesis|RUN_ID",
            help="The thesis; or the MLflow run of a trial, a candidate or one of its implementations, to run again.",
            show_default=False,
        ),
    ],
    manifest: Annotated[
        Path | None,
        typer.Argument(metavar="[CSV]", help="Manifest of the clips; default: that of the run.", show_default=False),
    ] = None,
    setting: Annotated[
        Setting | None,
        typer.Option("--setting", help=f"Learning rate and batch, thesis only; {SETTING} unless given."),
    ] = None,
    fixed_epochs: Annotated[
        bool, typer.Option("--fixed-epochs", help="170, 170, 260, 180 epochs, not the rule of §4.3; thesis only.")
    ] = False,
    cross_validate: Annotated[
        bool,
        typer.Option(
            "--cross-validate", help="Also cross-validate by subject, which takes several times as long; thesis only."
        ),
    ] = False,
    shrink: Annotated[
        int | None,
        typer.Option("--shrink", min=1, help="Divide the FC widths by this number, for a quick test; thesis only."),
    ] = None,
    only: Annotated[
        list[int] | None,
        typer.Option("--only", min=1, max=4, help="Number of an implementation; may be repeated; thesis only."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the page; thesis only.")] = None,
) -> dict[str, Any]:
    """Run the thesis's four implementations and compare them with its results on a page; or repeat a recorded trial,
    candidate or implementation and show what differs."""
    if what != THESIS:
        options = {
            "--setting": setting, "--fixed-epochs": fixed_epochs, "--cross-validate": cross_validate,
            "--shrink": shrink, "--only": only, "--out": out,
        }  # fmt: skip
        _refuse_options(session, what, [name for name, value in options.items() if value])
        config = settled(session)
        _check_run(config, what)
        place = str(manifest.absolute()) if manifest else ""
        again = run_flow(session, "flows.rerun", "rerun_flow", config, run_id=what, manifest=place)
        session.next("all runs", "list", "runs")
        return again
    given = overrides_of(session)
    config = settled(session, manifest=manifest)
    setting = setting or SETTING
    _check(config, setting, given, cross_validate)
    result = run_flow(
        session, "flows.reproduce", "reproduce_thesis_flow", config, setting=setting, fixed_epochs=fixed_epochs,
        cross_validate=cross_validate, shrink=shrink or 1, only=list(only or []), overrides=given,
        out=str(out.expanduser().absolute()) if out else "",
    )  # fmt: skip
    session.next("other models on the same faces and folds", "compare", manifest)
    return result


def overrides_of(session: Session) -> list[str]:
    """The user's settings in the sections that the thesis fixes, as `--set` writes them: --config, then --set itself.

    Raises:
        ConfigError: the file has training settings, which would make one network of the four.
    """
    import json

    from fer_core.config import load_config
    from fer_core.errors import ConfigError

    lines = []
    filed = load_config(session.config_file)
    for section, values in filed.model_dump(mode="json", include=set(DECIDED), exclude_unset=True).items():
        if section == "train":
            raise ConfigError(
                f"{session.config_file} sets train.{next(iter(values))}, but each implementation has its own training "
                "settings: drop the section train (--only 4 for one implementation; --set train.FIELD=VALUE for "
                "all alike)"
            )
        lines += [f"{section}.{name}={json.dumps(value)}" for name, value in values.items()]
    return [*lines, *(line for line in session.overrides if line.partition("=")[0].split(".")[0] in DECIDED)]


def _refuse_options(session: Session, run_id: str, thesis_only: list[str]) -> None:
    """Refuse what would change nothing: a run is run again as it was."""
    from fer_core.errors import ConfigError

    if thesis_only:
        raise ConfigError(
            f"'reproduce {THESIS}' alone takes {' and '.join(thesis_only)}; run '{run_id[:64]}' is run again as it was"
        )
    for line in session.overrides:
        if line.partition("=")[0].split(".")[0] not in SET_HERE:
            raise ConfigError(
                f"--set {line} would change nothing: run '{run_id[:64]}' is run again as it was. --set can give "
                f"{', '.join(SET_HERE)}, and a manifest behind it says where its clips are now"
            )


def _check_run(config: RunConfig, run_id: str) -> None:
    """Refuse now a run that the flow would refuse after a server has started."""
    from fer_core.tracking.recorded import read_recorded
    from fer_core.tracking.run import connect

    read_recorded(connect(config.tracking, Path(config.workspace)), run_id)


def _check(config: RunConfig, setting: str, overrides: list[str], cross_validate: bool) -> None:
    """Refuse now a manifest, split, folds or backbone that the flow would refuse after a server has started."""
    from fer_core.models.registry import requirements_of
    from fer_core.thesis.implementation import configure

    first = configure(1, config, setting, overrides=overrides)
    dataset_checked(first, folded=cross_validate, complete=True)
    backbone_checked(first, requirements_of(first.train))


@command(reads=reads.FITS)
def cross_database(
    session: Session,
    manifest: RunManifest = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of figure, table and numbers.")
    ] = None,
) -> dict[str, Any]:
    """Train on each database and test on every other, with intervals. The test set is not used."""
    from fer_core.dataset.load import load_dataset, trained_on
    from fer_core.experiments.cross_database import several
    from fer_core.models.registry import requirements_of
    from fer_core.workspace import Workspace

    config = settled(session, manifest=manifest)
    several(trained_on(load_dataset(config, Workspace.open(config.workspace))).datasets)
    backbone_checked(config, requirements_of(config.train))
    folder = str(out.expanduser().absolute()) if out else ""
    result = run_flow(session, "flows.cross_database", "cross_database_flow", config, out=folder)
    session.next("the best settings on all of them", "search", manifest)
    return result
