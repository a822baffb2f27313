"""`ferflow sync`: send MLflow the runs and models that wait in the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_core.errors import FerError
from flows.commands.session import FAILED, Session, command

if TYPE_CHECKING:
    from fer_core.config import RunConfig
    from fer_core.tracking.sync import Sent


@command(reads=("tracking",))
def sync(session: Session) -> dict[str, Any]:
    """Send MLflow the runs and models that were kept in the workspace while it did not answer, or by --offline."""
    from flows.commands.run_flow import settled

    config = settled(session)
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"offline": False})})
    sent = _send(session, config)
    _tell(session, sent)
    if not sent.runs and not sent.writing and not sent.refused:
        session.say("Nothing waits to be sent.")
    session.exit_code = FAILED if sent.refused else 0
    if sent.versions:
        session.next("the gate, which makes it the champion if it passes", "promote")
    return {
        "runs": list(sent.runs),
        "versions": list(sent.versions),
        "writing": sent.writing,
        "refused": dict(sent.refused or {}),
    }


def send_kept(session: Session, config: RunConfig) -> None:
    """Send what a command has kept, if MLflow answers again, and say what waits on."""
    from fer_core.tracking.unsent import Unsent

    if not (waiting := len(Unsent(Path(config.workspace)).runs())):
        return
    if not config.tracking.offline:
        try:
            _tell(session, _send(session, config))
            return
        except FerError as exc:
            session.note(f"MLflow has not received everything: {exc}")
    session.say(f"{waiting} runs wait in {config.workspace}/unsent; send them when MLflow answers: ferflow sync")


def _send(session: Session, config: RunConfig) -> Sent:
    from fer_core.tracking.connection import connect
    from fer_core.tracking.sync import send_unsent

    with session.progress("Sending runs") as progress:
        return send_unsent(connect(config.tracking, Path(config.workspace)), progress)


def _tell(session: Session, sent: Sent) -> None:
    if sent.runs:
        session.say(f"{len(sent.runs)} runs are sent to MLflow, complete.")
    for version in sent.versions:
        session.say(f"Version {version} is registered.")
    if sent.writing:
        session.say(f"{sent.writing} runs are still being written; sync again when their commands have ended.")
    for run, reason in (sent.refused or {}).items():
        session.say(f"Run {run} waits on, MLflow refuses it: {reason}")
