"""Find the versions of a registered model that were trained on a subject."""

from __future__ import annotations

from fer_core.errors import RegistryError
from fer_core.models.bundle import subject_digest
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.registry import load_out_of_fold_record


def versions_trained_on(tracking: Tracking, subject: str) -> tuple[list[int], list[int]]:
    """Return the versions whose out-of-fold record contains the subject, and the versions without a record.

    Raises:
        TrackingError: MLflow refuses the request.
    """
    known = subject_digest(subject)
    with mlflow_errors(f"versions of '{tracking.cfg.model}'"):
        found = tracking.client.search_model_versions(f"name='{tracking.cfg.model}'")
    trained, unknown = [], []
    for version in sorted(int(v.version) for v in found):
        try:
            record = load_out_of_fold_record(tracking, version)
        except RegistryError:
            record = None
        if record is None:
            unknown.append(version)
        elif known in record.subjects:
            trained.append(version)
    return trained, unknown
