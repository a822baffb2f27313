"""Keep the results of `ferflow evaluate` with the version: tags for the promotion gate, and a description line."""

from __future__ import annotations

from fer_core.errors import RegistryError
from fer_core.experiments.version_evaluation import VersionEvaluation
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.registry import registered_version
from fer_core.tracking.version_card import LIMIT

RUN, MEAN_RECALL, STAYS = "evaluation.run", "evaluation.mean_recall", "evaluation.least_stays"  # tags


def note_evaluation(tracking: Tracking, version: int, run_id: str, found: VersionEvaluation) -> None:
    """Write the results of an evaluation to the tags and the description of a version.

    Args:
        version: the evaluated version.
        run_id: run of the evaluation.
        found: results of the evaluation.
    Raises:
        RegistryError: the version does not exist.
        TrackingError: MLflow refuses the request.
    """
    name, client = tracking.cfg.model, tracking.client
    before, numbers = registered_version(tracking, version).description or "", found.evaluation
    tags = {RUN: run_id, MEAN_RECALL: f"{numbers.mean_recall.value:.4f}"}
    line = (
        f"Evaluated on {numbers.n_clips} clips of {numbers.n_subjects} other people"
        f"{', some drawn or rendered' if found.synthetic else ''}: mean recall {numbers.mean_recall} %"
    )
    if found.stress:
        worst = min(found.stress, key=lambda s: s.stays.value)
        tags[STAYS] = f"{found.least_stays:.4f}"
        line += f"; under the worst change ({worst.what}) {100 * worst.stays.value:.0f} % of the verdicts stay"
    with mlflow_errors(f"version {version} of '{name}'"):
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, value)
        line = f"\n\n{line} (run {run_id})."
        client.update_model_version(name, str(version), f"{before[: LIMIT - len(line)]}{line}".strip())


def least_stays(tracking: Tracking, version: int) -> float:
    """Return the smallest share of verdicts that stayed under a change, from the version's tag; NaN without one.

    The tag is from the latest `ferflow evaluate --stress`.

    Raises:
        RegistryError: the version does not exist, or its tag is not a number.
    """
    text = registered_version(tracking, version).tags.get(STAYS, "nan")
    try:
        return float(text)
    except ValueError as exc:
        raise RegistryError(f"tag {STAYS} of version {version} is '{text[:40]}', no number; evaluate it again") from exc
