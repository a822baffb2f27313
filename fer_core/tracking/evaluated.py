"""The results of `ferflow evaluate`, kept with the version: tags that the gate reads, and a line of its description."""

from __future__ import annotations

from fer_core.errors import RegistryError
from fer_core.experiments.version_evaluation import VersionEvaluation
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.registry import registered_version

RUN, MEAN_RECALL, STAYS = "evaluation.run", "evaluation.mean_recall", "evaluation.least_stays"  # tags


def note_evaluation(tracking: Tracking, version: int, run_id: str, found: VersionEvaluation) -> None:
    """Keep with a version what an evaluation found.

    Args:
        run_id: of the evaluation.
    Raises:
        RegistryError: there is no such version. TrackingError: MLflow refuses.
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
        client.update_model_version(name, str(version), f"{before}\n\n{line} (run {run_id}).".strip())


def least_stays(tracking: Tracking, version: int) -> float:
    """Smallest share of a version's verdicts that stayed under a change, in its newest `evaluate --stress`; NaN
    without one.

    Raises:
        RegistryError: there is no such version, or its tag is no number.
    """
    text = registered_version(tracking, version).tags.get(STAYS, "nan")
    try:
        return float(text)
    except ValueError as exc:
        raise RegistryError(f"tag {STAYS} of version {version} is '{text[:40]}', no number; evaluate it again") from exc
