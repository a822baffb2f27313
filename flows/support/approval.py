"""Ask a person whether a version is to be champion: on the page of the flow run, or where `answered_by` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from fer_core.errors import RegistryError
from fer_core.tracking.approval import LONGEST_NAME, LONGEST_REASON, Approval

Asker = Callable[[str], Approval]
_askers: list[Asker] = []  # not a context variable, which threads do not inherit
POLL_S = 2


@contextmanager
def answered_by(asker: Asker) -> Iterator[None]:
    """Ask `asker(question)` in place of the page of the flow run, until the end of the block."""
    _askers.append(asker)
    try:
        yield
    finally:
        _askers.remove(asker)


def ask(question: str, timeout_s: float) -> Approval:
    """Return the answer of a person.

    Args:
        question: Markdown: the version, and what the gate found.
        timeout_s: time that the page of the flow run waits for an answer.
    Raises:
        RegistryError: nobody answered in time, or the answer has no name or reason.
    """
    return _askers[-1](question) if _askers else _ask_on_page(question, timeout_s)


def _ask_on_page(question: str, timeout_s: float) -> Approval:
    from prefect.exceptions import FlowPauseTimeout
    from prefect.flow_runs import pause_flow_run
    from prefect.input import RunInput
    from pydantic import Field

    class Answer(RunInput):
        decision: Literal["approve", "refuse"] = Field(title="Decision")
        name: str = Field(min_length=1, max_length=LONGEST_NAME, pattern=r"\S", title="Your name")
        reason: str = Field(min_length=1, max_length=LONGEST_REASON, pattern=r"\S", title="Reason")

    try:
        found = pause_flow_run(
            wait_for_input=Answer.with_initial_data(description=question), timeout=int(timeout_s), poll_interval=POLL_S
        )
    except FlowPauseTimeout as exc:
        raise RegistryError(
            f"nobody answered within {timeout_s / 3600:.3g} h (promote.approval_timeout_s), so nothing is changed; run "
            "promote again, and press Resume on the page of its run"
        ) from exc
    return Approval(found.decision == "approve", found.name.strip(), found.reason.strip())
