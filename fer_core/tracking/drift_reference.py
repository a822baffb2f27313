"""The training clips' side of drift: logged with the run that makes a version, loaded when a batch is scored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from fer_core.config import Rule
from fer_core.dataset.table import FeatureTable
from fer_core.errors import DataError, RegistryError
from fer_core.evaluation.calibration import calibrated_apart
from fer_core.evaluation.drift import Sample, sample_of
from fer_core.evaluation.metrics import clip_verdicts
from fer_core.tracking.connection import Tracking
from fer_core.tracking.registry import run_text
from fer_core.tracking.run import Run

if TYPE_CHECKING:
    from fer_core.preprocess.faces import Ledger

FILE = "drift_reference.json"
RULE: Rule = "mean_scores"


def log_reference(run: Run, table: FeatureTable, scores: np.ndarray, ledgers: Iterable[Ledger]) -> Sample:
    """Log the measures of a version's labelled clips; confidence and verdicts are out of fold.

    Args:
        table: the clips.
        scores: (N, k) out-of-fold frame scores.
        ledgers: frames of these clips.
    Raises:
        TrackingError: MLflow does not answer.
    """
    verdicts, raw = clip_verdicts(scores, table.offsets, np.arange(table.n_clips), RULE)
    apart = len(set(table.subjects)) > 1 and len(set(table.labels.tolist())) > 1
    shares = calibrated_apart(raw, table.labels, table.subjects) if apart else raw
    sample = sample_of(
        ledgers,
        shares[np.arange(len(shares)), verdicts].tolist(),
        (str(table.classes[index]) for index in verdicts),
    )
    run.log_json(sample.to_json(), FILE)
    return sample


def load_reference(tracking: Tracking, version: int) -> Sample | None:
    """Return the measures of the clips of a version; None if it was registered without clips, or by an older ferflow.

    Raises:
        RegistryError: there is no such version, or its file is damaged.
    """
    text = run_text(tracking, version, FILE, "training clips")
    if text is None:
        return None
    try:
        return Sample.from_json(json.loads(text))
    except (DataError, ValueError) as exc:
        raise RegistryError(f"{FILE} of version {version} is damaged ({exc}); train it again") from exc
