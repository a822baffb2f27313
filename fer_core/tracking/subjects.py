"""Training subjects of a registered model."""

from __future__ import annotations

from fer_core.errors import RegistryError
from fer_core.models.bundle import subject_digest
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.registry import load_out_of_fold_record


def versions_trained_on(tracking: Tracking, subject: str) -> tuple[list[int], list[int]]:
    """Versions of the registered model whose out-of-fold record names the subject, and those without a record.

    Raises:
        TrackingError: MLflow refuses.
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
