"""Load the champion or another version for scoring, and count a scored batch; used with and without Prefect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fer_core.clips.cells import csv_text
from fer_core.config import RunConfig
from fer_core.evaluation.drift import drift, sample_from
from fer_core.evaluation.metrics import proportion
from fer_core.models.engine import on_engine
from fer_core.reports.drift import drift_page, drift_sentence
from fer_core.reports.scores import write_report
from fer_core.runtime import resolve_device
from fer_core.scoring.batch import Batch, score_batch
from fer_core.scoring.explain import explainable
from fer_core.scoring.inputs import Item, passed_over, printable
from fer_core.scoring.scorer import ClipScorer
from fer_core.store import write_atomic
from fer_core.tracking.batch_run import log_batch
from fer_core.tracking.drift_reference import load_reference
from fer_core.tracking.registry import load_champion, load_version
from fer_core.tracking.run import connect


def champion_scorer(config: RunConfig) -> ClipScorer:
    """Return a scorer for the champion, checked and loaded; arguments and errors as in `version_scorer`."""
    return version_scorer(config, 0)


def version_scorer(config: RunConfig, version: int) -> ClipScorer:
    """Return a scorer for a registered version, checked and loaded.

    Args:
        config: prepared by `environment.settle`.
        version: number of the version; 0 for the champion.
    Raises:
        ConfigError: the named device does not exist, or the named engine cannot be used.
        RegistryError: the version does not exist, or its files were changed after registration.
        TrackingError: MLflow does not answer.
    """
    device = resolve_device(config.score.device, "score.device")
    workspace = Path(config.workspace)
    tracking = connect(config.tracking, workspace)
    found = load_version(tracking, version, device) if version else load_champion(tracking, device)
    return ClipScorer(
        on_engine(found.bundle, config.score.engine), config.score, limits=config.limits,
        store_root=workspace / "store", name=found.name, version=str(found.version),
    )  # fmt: skip


def explaining_scorer(config: RunConfig, version: int) -> ClipScorer:
    """Return a scorer like `version_scorer` that explains its verdicts, if the model can."""
    plain = version_scorer(config, version)
    cfg = config.score.model_copy(update={"explain": max(config.score.explain, 2 * explainable(plain.bundle))})
    return ClipScorer(
        plain.bundle, cfg, limits=config.limits, store_root=Path(config.workspace) / "store", name=plain.name,
        version=plain.version, warm=plain.warm,
    )  # fmt: skip


def score_into(
    scorer: ClipScorer, items: list[Item], out: Path, store: Path, progress: Callable[[int, int], None] | None = None
) -> Batch:
    """Score every item, and write tables and report to `out`; see `score_batch`."""
    batch = score_batch(scorer, items, out, store, progress)
    write_report(batch.rows, scorer, out / "report.html", batch.tally)
    return batch


def record_batch(config: RunConfig, scorer: ClipScorer, batch: Batch, items: Sequence[Item]) -> dict[str, Any]:
    """Log the batch to MLflow, and compare its clips with those that the version was trained on.

    `drift.html` beside the report shows the comparison.

    Args:
        config: prepared by `environment.settle`.
        items: the items of the batch.
    Returns:
        The run, its page, the warning about drift (empty without one), and the page of the comparison (empty if the
        version has no record of its training clips).
    Raises:
        TrackingError: MLflow does not answer; the results of the batch are written already.
        StoreError: the page cannot be written.
    """
    tracking = connect(config.tracking, Path(config.workspace))
    run = log_batch(tracking, batch, scorer)
    page = batch.out / "drift.html"
    page.unlink(missing_ok=True)
    told = {"run": run.id, "url": run.url, "drift": "", "drift_page": ""}
    if (reference := load_reference(tracking, int(scorer.version))) is None:
        return told
    tally = batch.tally
    sample = sample_from(tally.measures, tally.confidences, tally.emotions)
    found = drift(reference, sample)
    html = drift_page(found, reference, sample, f"{scorer.name} version {scorer.version}", _reviewed(batch, items))
    write_atomic(page, html.encode())
    run.log_metrics({f"drift/{d.measure}": d.psi for d in found if d.psi == d.psi})
    return told | {"drift": drift_sentence(found), "drift_page": str(page)}


def _reviewed(batch: Batch, items: Sequence[Item]) -> str:
    """Return a sentence on the clips whose label a person confirmed or corrected; empty without any."""
    reviewed = {item.clip.id for item in items if item.clip.labelled_by}
    rows = batch.rows if reviewed else ()
    are_right = [row.label == row.emotion for row in rows if row.clip in reviewed and row.label and row.emotion]
    if not are_right:
        return ""
    n, right = len(are_right), sum(are_right)
    return (
        f"{n} clips of this batch have a label that a person confirmed or corrected; {right} verdicts are as labelled: "
        f"{proportion(right, n)} %."
    )


def account_for(paths: Sequence[str | Path], config: RunConfig, out: Path) -> dict[str, Any]:
    """Return the number of files in folders among `paths` that are not clips, by reason; `passed_over.csv` lists them.

    Args:
        paths: the inputs of the batch.
        config: settings; `limits.follow_links` is used.
        out: folder for `passed_over.csv`.
    Raises:
        StoreError: the file cannot be written.
    """
    rows = passed_over(paths, follow_links=config.limits.follow_links)
    table = out / "passed_over.csv"
    table.unlink(missing_ok=True)
    if rows:
        cells = [("path", "reason"), *((printable(row.path), row.reason) for row in rows)]
        write_atomic(table, csv_text(cells).encode())
    return {"passed_over": dict(Counter(row.reason for row in rows).most_common())}


def summarize(scorer: ClipScorer, batch: Batch) -> dict[str, Any]:
    """Return the counts of the batch."""
    tally, agreement = batch.tally, batch.tally.agreement
    return {
        "clips": tally.n_rows,
        "status": tally.counts,
        "emotions": dict(tally.emotions.most_common()),
        "abstained": tally.abstained,
        "unscored": tally.unscored,
        "remembered": batch.remembered,
        "seen_in_training": agreement.seen_in_training,
        "unnamed": agreement.unnamed,
        "labelled": agreement.labelled or None,
        "right": agreement.right if agreement.labelled else None,
        "people": agreement.sentence,
        "model": f"{scorer.name} version {scorer.version}",
        "synthetic_trained": scorer.bundle.facts.synthetic,
        "report": str(batch.out / "report.html"),
    }
