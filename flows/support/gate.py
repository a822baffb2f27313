"""Put a version through the gate and promote it. Without Prefect, because it takes seconds where no server runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fer_core.config import PromoteConfig, RunConfig
from fer_core.errors import RegistryError
from fer_core.evaluation.gate import Adopted, GateVerdict, beside_adopted, gate
from fer_core.tracking.approval import Approval, record_answer
from fer_core.tracking.connection import Tracking, connect
from fer_core.tracking.evaluated import least_stays
from fer_core.tracking.promotion import promote
from fer_core.tracking.registry import (
    adopted_version,
    champion_version,
    load_out_of_fold_record,
    load_version,
    version_to_promote,
)
from fer_core.workspace import Workspace
from flows.support.approval import ask

log = logging.getLogger("fer_core.gate")  # below `fer_core`, whose messages Prefect shows


def promote_if_passed(config: RunConfig, version: int, show: Callable[[str, str], None]) -> dict[str, Any]:
    """Make a version champion if it passes the gate; otherwise report the failed checks and change nothing.

    With `promote.approval`, a person is asked before.

    Args:
        config: settings from `settle`; `promote` holds the gate's floors and ceilings.
        version: of the registered model; 0: the newest candidate.
        show: called with the decision in Markdown, and the URL of the version ('' without a server).
    Raises:
        RegistryError: there is nothing to judge the version by, nobody answers, or promoting it fails.
    """
    tracking = connect(config.tracking, Workspace.open(config.workspace).root)
    version = version or version_to_promote(tracking)
    champion = champion_version(tracking)
    if champion == version:
        already = {"passed": True, "reason": "it is champion already"}
        show(f"# Version {version}\n\nIt is champion already.\n\nNext: flow `score`.\n", tracking.version_url(version))
        return {"version": version, "champion": version, "previous": None, **already}
    record = load_out_of_fold_record(tracking, version)
    if record is None and (champion or not _adopted(tracking, version) or _floors(config.promote)):
        raise RegistryError(
            f"version {version} has no record for the gate to judge; make one with 'ferflow train', or with "
            "'ferflow adopt' on a labelled manifest"
        )
    against = load_out_of_fold_record(tracking, champion) if champion else None
    if champion and against is None and not config.promote.force:
        raise RegistryError(
            f"champion version {champion} has no out-of-fold record to be compared with; set promote.force=true to "
            f"replace it by version {version} all the same"
        )
    verdict = GateVerdict((), None, _UNJUDGED)
    if record:
        verdict = gate(record, against, config.promote, least_stays(tracking, version))
        adopted = adopted_version(tracking)
        if adopted not in (None, version, champion) and not _adopted(tracking, version):
            network = Adopted(adopted, load_out_of_fold_record(tracking, adopted))
            verdict = beside_adopted(verdict, record, network, config.promote)
    forced = config.promote.force and not verdict.passed
    markdown = verdict.to_markdown() + ("\nPromoted all the same: `promote.force` was set.\n" if forced else "")
    answer = None
    if config.promote.approval and (verdict.passed or forced):
        after = f" after version {champion}" if champion else ""
        question = f"# Is version {version} to be champion{after}?\n\n{markdown}"
        answer = ask(question, config.promote.approval_timeout_s)
        if not answer.approved:
            return _refused(tracking, version, champion, verdict, answer, markdown, show)
    approved = f"\n\n{answer.sentence}" if answer else ""
    following = "flow `score`" if verdict.passed or forced else "another candidate, by flow `train`"
    show(f"# Version {version}\n\n{markdown}{approved}\n\nNext: {following}.\n", tracking.version_url(version))
    told = {"reason": verdict.reason, "untrained": verdict.untrained, "warning": verdict.warning}
    if verdict.warning:
        log.warning("%s", verdict.warning)
    if not verdict.passed and not forced:
        log.warning("version %d does not pass the gate: %s", version, verdict.reason)
        return {"version": version, "champion": champion, "previous": None, "passed": False, **told}
    promote(tracking, version, replacing=champion, note=markdown, approval=answer)
    told |= {"approved_by": answer.by} if answer else {}
    return {"version": version, "champion": version, "previous": champion, "passed": verdict.passed, **told}


def _refused(
    tracking: Tracking,
    version: int,
    champion: int | None,
    verdict: GateVerdict,
    answer: Approval,
    markdown: str,
    show: Callable[[str, str], None],
) -> dict[str, Any]:
    """Record a refusal, and return the result of the promotion."""
    record_answer(tracking, version, answer, markdown)
    text = f"# Version {version}\n\n{markdown}\n\n{answer.sentence}\n\nNext: another candidate, by flow `train`.\n"
    show(text, tracking.version_url(version))
    log.warning("version %d: %s", version, answer.sentence)
    return {
        "version": version, "champion": champion, "previous": None, "passed": verdict.passed, "refused_by": answer.by,
        "reason": answer.sentence,
    }  # fmt: skip


_UNJUDGED = (
    "Networks were adopted as they are, without labelled clips: there is nothing to judge them by, and no champion to "
    "compare them with."
)


def _adopted(tracking: Tracking, version: int) -> bool:
    return load_version(tracking, version).bundle.facts.model == "adopted"


def _floors(cfg: PromoteConfig) -> bool:
    """Return True if the settings require a check that needs measurements."""
    others = {"force", "beat_adopted", "approval", "approval_timeout_s"}
    return cfg.model_dump(exclude=others) != PromoteConfig().model_dump(exclude=others)
