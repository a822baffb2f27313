"""Record a scored batch as an MLflow run: counts, confidence, time and version, without names or faces of clips."""

from __future__ import annotations

from typing import Any

import numpy as np

from fer_core.scoring.batch import Batch
from fer_core.scoring.scorer import ClipScorer
from fer_core.tracking.connection import Tracking
from fer_core.tracking.run import Run, start_run

KIND = "batch"  # tag `kind`
BINS = 10  # of the histogram of confidence


def log_batch(tracking: Tracking, batch: Batch, scorer: ClipScorer) -> Run:
    """Log a batch as a finished run, and return the run.

    Raises:
        TrackingError: MLflow does not answer or refuses the request.
    """
    tally, agreement = batch.tally, batch.tally.agreement
    metrics: dict[str, float] = {
        "clips": tally.n_rows,
        "scored": tally.n_rows - tally.unscored,
        "abstained": tally.abstained,
        "remembered": batch.remembered,
        "seconds": tally.seconds,
        "seen_in_training": agreement.seen_in_training,
    }
    metrics |= {f"status/{name}": n for name, n in tally.counts.items()}
    metrics |= {f"verdicts/{name}": tally.emotions[str(name)] for name in scorer.classes}
    confidences = np.array(tally.confidences)
    if len(confidences):
        metrics["confidence/mean"] = float(np.mean(confidences))
    if agreement.labelled:
        metrics |= {"labelled": agreement.labelled, "as_labelled": agreement.right / agreement.labelled}
    tags = {
        "kind": KIND,
        "version": scorer.version,
        "model_digest": scorer.bundle.digest,
        "synthetic": str(scorer.bundle.facts.synthetic).lower(),
    }
    clips = f"{tally.n_rows} clip{'' if tally.n_rows == 1 else 's'}"
    with start_run(tracking, f"score {clips}", tags=tags) as run:
        run.log_metrics(metrics)
        run.log_json(histogram(confidences), "confidence.json")
    return run


def histogram(confidence: np.ndarray) -> dict[str, Any]:
    """Return the number of clips by confidence in ten equal bins from 0 to 1, as JSON-able edges and counts."""
    counts, edges = np.histogram(confidence, BINS, (0, 1))
    return {"edges": [round(float(edge), 2) for edge in edges], "clips": counts.tolist()}
