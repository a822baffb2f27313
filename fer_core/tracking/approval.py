"""The answer of a person to the question whether a version is to be champion, recorded with the version."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fer_core.clips.cells import markdown_text
from fer_core.errors import RegistryError
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.registry import registered_version
from fer_core.tracking.version_card import with_gate

LONGEST_NAME, LONGEST_REASON = 100, 500


@dataclass(frozen=True)
class Approval:
    """An answer.

    Args:
        approved: True to make the version champion.
        by: name of the person.
        reason: why.
    Raises:
        RegistryError: name or reason is empty or too long.
    """

    approved: bool
    by: str
    reason: str

    def __post_init__(self) -> None:
        for what, text, longest in (("name", self.by, LONGEST_NAME), ("reason", self.reason, LONGEST_REASON)):
            if not text.strip() or len(text) > longest or not text.isprintable():
                raise RegistryError(
                    f"an answer needs a {what} of 1 to {longest} printable characters; got {text[:60]!r}"
                )

    @property
    def sentence(self) -> str:
        """The answer as Markdown, with the date."""
        what = "Approved" if self.approved else "Refused"
        return f"{what} by {markdown_text(self.by)} on {time.strftime('%Y-%m-%d')}: {markdown_text(self.reason)}"


def record_answer(tracking: Tracking, version: int, answer: Approval, decision: str) -> None:
    """Write an answer into the tags of a version, and a refusal also into its description.

    The description of an approved version is written by `promotion.promote`.

    Args:
        decision: the decision of the gate, Markdown.
    Raises:
        RegistryError: MLflow does not take it.
    """
    name, client, kind = tracking.cfg.model, tracking.client, "approved" if answer.approved else "refused"
    with mlflow_errors(f"recording the answer on version {version}", RegistryError):
        client.set_model_version_tag(name, str(version), f"{kind}_by", answer.by)
        client.set_model_version_tag(name, str(version), f"{kind}_because", answer.reason)
        if not answer.approved:
            card = registered_version(tracking, version).description or ""
            client.update_model_version(name, str(version), with_gate(card, f"{decision}\n\n{answer.sentence}"))
