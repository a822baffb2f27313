"""The question whether a version is to be champion, at the prompt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from fer_core.errors import ConfigError
from flows.commands.session import Session

if TYPE_CHECKING:
    from fer_core.tracking.approval import Approval
    from flows.support.approval import Asker


def asker(session: Session, yes_by: str, reason: str) -> Asker:
    """Return what answers the question: the options of the command, or the person at the terminal.

    Args:
        yes_by: name of the person who approves; empty: ask.
        reason: why.
    Raises:
        ConfigError: there is no terminal to ask at, or only one of the options was given.
    """
    if bool(yes_by) != bool(reason):
        raise ConfigError("--yes-by NAME and --reason TEXT go together; give both, or none to be asked on a terminal")
    if not yes_by and not sys.stdin.isatty():
        raise ConfigError(
            "promote.approval asks a person, and this is no terminal; give --yes-by NAME --reason TEXT, or start the "
            "flow 'promote' in the Prefect UI of 'ferflow up' and answer on its page"
        )

    def ask(question: str) -> Approval:
        from fer_core.tracking.approval import Approval

        for line in question.splitlines():
            session.note(line)
        if yes_by:
            return Approval(True, yes_by, reason)
        approved = typer.confirm("Make it the champion?", err=True)
        return Approval(approved, typer.prompt("Your name", err=True), typer.prompt("Reason", err=True))

    return ask
