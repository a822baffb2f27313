"""Keep the results of `ferflow evaluate` with the version: tags for the promotion gate, and a line on its card."""

from __future__ import annotations

from fer_core.errors import RegistryError
from fer_core.experiments.stability import Stability
from fer_core.experiments.version_evaluation import VersionEvaluation
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.registry import registered_version
from fer_core.tracking.version_card import with_evaluation

RUN, MEAN_RECALL, STAYS = "evaluation.run", "evaluation.mean_recall", "evaluation.least_stays"  # tags


def note_evaluation(tracking: Tracking, version: int, run_id: str, found: Stability) -> None:
    """Write the results of an evaluation to the tags and the card of a version.

    Args:
        version: the evaluated version.
        run_id: run of the evaluation.
        found: results of the evaluation.
    Raises:
        RegistryError: the version does not exist.
        TrackingError: MLflow refuses the request.
    """
    name, client = tracking.cfg.model, tracking.client
    card, tags = registered_version(tracking, version).description or "", {RUN: run_id}
    if isinstance(found, VersionEvaluation):
        tags[MEAN_RECALL] = f"{found.evaluation.mean_recall.value:.4f}"
    if found.stress:
        tags[STAYS] = f"{found.least_stays:.4f}"
    with mlflow_errors(f"version {version} of '{name}'"):
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, value)
        client.update_model_version(name, str(version), with_evaluation(card, _told(found, run_id)))


def _told(found: Stability, run_id: str) -> str:
    """Return the evaluation as a list item of the card, with what became of the verdicts under each change."""
    kind = ", some drawn or rendered" if found.synthetic else ""
    people = f"{len(found.clips)} clips of {found.n_subjects} other people{kind}"
    text = f"- {people}: "
    if isinstance(found, VersionEvaluation):
        text += f"mean recall {found.evaluation.mean_recall} %"
    else:
        text += "without labels"
    if found.stress:
        shares = ", ".join(f"{s.what} {100 * s.stays.value:.0f}" for s in found.stress)
        text += f"; of the verdicts stay, in %: {shares}"
    return f"{text} (run {run_id})."


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
