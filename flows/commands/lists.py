"""`ferflow list versions|trials|runs`: what there is, and what each cost."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.session import Session, command
from flows.support.formatting import duration

if TYPE_CHECKING:
    from fer_core.tracking.connection import Tracking

SHOWN = 50  # rows on a terminal; --json has all
Most = Annotated[int, typer.Option("--most", metavar="N", min=1, help="Show the N newest; --json has all.")]


@command(reads=("tracking",))
def versions(session: Session, most: Most = SHOWN) -> dict[str, Any]:
    """List the versions of the registered model: recall, time per clip, and the time it took to make them."""
    from fer_core.tracking.listing import list_versions

    tracking = _connected(session)
    found = list_versions(tracking)
    rows = [
        (v.version, " ".join(v.aliases), v.model, _percent(v.mean_recall), _percent(v.evaluated), _ms(v.ms_per_clip),
         _time(v.seconds), v.made.replace("T", " "), "synthetic" if v.synthetic else "")
        for v in found[:most]
    ]  # fmt: skip
    columns = ("version", "alias", "model", "out of fold", "evaluated", "ms a clip", "made in", "made", "faces")
    session.table(f"{tracking.cfg.model} at {tracking.shown_uri}", columns, rows)
    _more(session, len(found), most)
    if found and "champion" in found[0].aliases:
        session.next("verdicts on your videos", "score", "VIDEOS")
    elif found:
        session.next("the gate", "promote", "--version", found[0].version)
    else:
        session.next("a first version, without any clips", "adopt", "fer2013")
    return {"versions": [asdict(v) for v in found]}


@command(reads=("tracking",))
def trials(session: Session, most: Most = SHOWN) -> dict[str, Any]:
    """List the trials of all searches: recall, time of the fits, and time per clip."""
    from fer_core.tracking.listing import list_trials

    tracking = _connected(session)
    found = list_trials(tracking)
    rows = [
        (t.study, t.trial, t.state, t.model, t.preset, _percent(t.mean_recall), _time(t.seconds), _ms(t.ms_per_clip),
         t.run)
        for t in found[:most]
    ]  # fmt: skip
    columns = ("study", "trial", "state", "model", "setting", "out of fold", "fits took", "ms a clip", "run")
    session.table(f"Trials at {tracking.shown_uri}", columns, rows)
    _more(session, len(found), most)
    if found:
        total = sum(t.seconds for t in found if not math.isnan(t.seconds))
        session.say(f"All fits together took {duration(total)}.")
        session.next("a trial again, to see whether it repeats", "reproduce", found[0].run)
    else:
        session.next("a search", "search")
    return {"trials": [asdict(t) for t in found]}


@command(reads=("tracking",))
def runs(session: Session, most: Most = SHOWN) -> dict[str, Any]:
    """List the runs that are no trials: searches, candidates, comparisons, evaluations, and scored batches."""
    from fer_core.tracking.listing import list_runs

    tracking = _connected(session)
    found = list_runs(tracking)
    rows = [
        (r.started.replace("T", " "), r.name, r.status, r.children, _time(r.seconds), r.url or r.run)
        for r in found[:most]
    ]
    columns = ("started", "run", "status", "child runs", "took", "page" if found and found[0].url else "id")
    session.table(f"Runs at {tracking.shown_uri}", columns, rows)
    _more(session, len(found), most)
    session.next("their pages in MLflow", "up")
    return {"runs": [asdict(r) for r in found]}


def _connected(session: Session) -> Tracking:
    from fer_core.tracking.connection import connect
    from flows.support.environment import settle

    config = settle(session.config)
    return connect(config.tracking, Path(config.workspace))


def _more(session: Session, n: int, most: int) -> None:
    if n > most:
        session.say(f"... and {n - most} older; --most {n} shows all")


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f} %"


def _ms(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def _time(seconds: float) -> str:
    return "" if math.isnan(seconds) else duration(seconds)
