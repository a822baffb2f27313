"""Log a model's confidence to its MLflow run: calibration before and after, abstention, prediction sets, groups."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fer_core.config import Rule
from fer_core.dataset.table import FeatureTable
from fer_core.errors import DataError
from fer_core.evaluation.abstention import SHOWN, CoverageCurve, confidence_auroc, coverage_curve
from fer_core.evaluation.calibration import Reliability, brier_score, calibrated_apart, cross_entropy, reliability
from fer_core.evaluation.conformal import PredictionSets, prediction_sets
from fer_core.evaluation.metrics import Evaluation, by_columns, clip_verdicts
from fer_core.reports.confidence_plots import coverage_figure, groups_figure, sets_figure
from fer_core.reports.plots import reliability_figure
from fer_core.tracking.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Confidence:
    """Quality of a rule's confidence, from out-of-fold clip scores, each calibrated on clips of other subjects.

    Args:
        before, after: reliability of the scores, uncalibrated and calibrated.
        metrics: name in MLflow -> value, of all results here.
        curve: accuracy as a function of coverage.
        sets: prediction sets, one for each coverage for which there are enough clips.
        groups: column -> value -> evaluation, for the databases and the `group_*` columns of the manifest.
    """

    before: Reliability
    after: Reliability
    metrics: Mapping[str, float]
    curve: CoverageCurve
    sets: tuple[PredictionSets, ...]
    groups: Mapping[str, Mapping[str, Evaluation]]


def evaluate_confidence(table: FeatureTable, scores: np.ndarray, rule: Rule, coverages: Sequence[float]) -> Confidence:
    """Evaluate the confidence of out-of-fold scores by one rule.

    Args:
        table: the table of the clips.
        scores: (N, k) out-of-fold frame scores.
        rule: how the frame scores are combined.
        coverages: coverages of the prediction sets.
    """
    clips = np.arange(table.n_clips)
    verdicts, raw = clip_verdicts(scores, table.offsets, clips, rule)
    calibrated = calibrated_apart(raw, table.labels, table.subjects)
    curve = coverage_curve(calibrated, table.labels, table.subjects)
    sets: list[PredictionSets] = []
    for coverage in coverages:
        try:
            sets.append(prediction_sets(calibrated, table.labels, table.subjects, table.classes, coverage))
        except DataError as exc:  # too few subjects or clips; the other results are still valid
            log.warning("%s", exc)
    auroc = confidence_auroc(calibrated, table.labels)
    metrics: dict[str, float] = {"abstention/mean_risk": curve.mean_risk, "abstention/auroc": auroc}
    stages = {"before": raw, "after": calibrated}
    found = {name: reliability(values, table.labels) for name, values in stages.items()}
    for name, values in stages.items():
        end = "_uncalibrated" if name == "before" else ""
        metrics[f"calibration/error{end}"] = found[name].expected_error
        metrics[f"calibration/brier{end}"] = brier_score(values, table.labels)
        metrics[f"calibration/log_loss{end}"] = cross_entropy(values, table.labels)
    for share in SHOWN:
        metrics[f"abstention/accuracy_at_{100 * share:.0f}"] = curve.at(share)[1].value
    for made in sets:
        prefix = f"sets/{100 * made.confidence:g}"
        metrics[f"{prefix}/coverage"] = made.covered.accuracy.value
        metrics[f"{prefix}/size"] = float(made.sizes.mean())
        for emotion, interval in zip(made.covered.classes, made.covered.recall, strict=True):
            metrics[f"{prefix}/coverage/{emotion}"] = interval.value
    columns = {**table.groups, "database": table.datasets}
    groups = by_columns(verdicts, table.labels, table.subjects, columns, table.classes)
    return Confidence(found["before"], found["after"], metrics, curve, tuple(sets), groups)


def log_confidence(run: Run, table: FeatureTable, scores: np.ndarray, rule: Rule) -> Confidence:
    """Evaluate the confidence at `tracking.coverages`, and log metrics and figures to the run of a candidate.

    Raises:
        TrackingError: MLflow reports an error or cannot be reached.
    """
    found = evaluate_confidence(table, scores, rule, run.tracking.cfg.coverages)
    run.log_metrics(found.metrics)
    run.log_figure(reliability_figure({"before": found.before, "after": found.after}), "figures/reliability.png")
    run.log_figure(coverage_figure(found.curve, "Out of fold, abstaining"), "figures/abstention.png")
    run.log_json(found.curve.to_json(), "figures/abstention.json")
    if found.sets:
        run.log_figure(sets_figure(found.sets, "Out of fold, prediction sets"), "figures/prediction_sets.png")
        run.log_json([made.to_json() for made in found.sets], "figures/prediction_sets.json")
    for column, groups in found.groups.items():
        name = "".join(c if c.isalnum() else "_" for c in column)[:60]
        run.log_figure(groups_figure(column, groups), f"figures/groups/{name}.png")
        run.log_json({value: e.to_json() for value, e in groups.items()}, f"figures/groups/{name}.json")
    return found
