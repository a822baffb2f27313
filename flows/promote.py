"""Flow `promote`: check a version by the gate and make it champion; the decision is saved with the version."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger

from fer_core.config import PromoteConfig, RunConfig
from fer_core.errors import RegistryError
from fer_core.evaluation.gate import Adopted, GateVerdict, beside_adopted, gate
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
from flows.support.environment import settle
from flows.support.summary import name_run, show_summary


@flow(name="promote", persist_result=False)
def promote_flow(version: int = 0, config: RunConfig = RunConfig()) -> dict[str, Any]:  # noqa: B008  frozen; fills the form
    """Make a version champion if it passes the gate; otherwise report the failed checks and change nothing.

    Args:
        version: of the registered model; 0: the newest candidate.
        config: all settings; `promote` holds the gate's floors and ceilings.
    """
    config = settle(config)
    tracking = connect(config.tracking, Workspace.open(config.workspace).root)
    version = version or version_to_promote(tracking)
    name_run(f"version {version}")
    champion = champion_version(tracking)
    if champion == version:
        return {"champion": version, "previous": None, "passed": True, "reason": "it is champion already"}
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
    following = "flow `score`" if verdict.passed or forced else "another candidate, by flow `train`"
    show_summary(f"# Version {version}\n\n{markdown}\n\nNext: {following}.\n", tracking.workspace)
    beside = {"untrained": verdict.untrained, "warning": verdict.warning}
    if verdict.warning:
        get_run_logger().warning("%s", verdict.warning)
    if not verdict.passed and not forced:
        get_run_logger().warning("version %d does not pass the gate: %s", version, verdict.reason)
        return {"champion": champion, "previous": None, "passed": False, "reason": verdict.reason, **beside}
    promote(tracking, version, replacing=champion, note=markdown)
    return {"champion": version, "previous": champion, "passed": verdict.passed, "reason": verdict.reason, **beside}


_UNJUDGED = (
    "Networks were adopted as they are, without labelled clips: there is nothing to judge them by, and no champion to "
    "compare them with."
)


def _adopted(tracking: Tracking, version: int) -> bool:
    return load_version(tracking, version).bundle.facts.model == "adopted"


def _floors(cfg: PromoteConfig) -> bool:
    """Return True if the settings require a check that needs measurements."""
    return cfg.model_copy(update={"force": False, "beat_adopted": False}) != PromoteConfig()
