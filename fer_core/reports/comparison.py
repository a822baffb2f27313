"""A comparison of models as an HTML page, Markdown and JSON, with one table and one figure."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from fer_core.clips.cells import markdown_text
from fer_core.evaluation.abstention import RANKING_COLUMNS
from fer_core.experiments.comparison import Comparison, Entry
from fer_core.experiments.external_validation import ExternalValidation
from fer_core.experiments.untrained import NO_TRAINING
from fer_core.preprocess.changes import DESCRIPTIONS
from fer_core.reports.comparison_plot import comparison_figure
from fer_core.reports.page import data_uri, render_page
from fer_core.reports.plots import figure_png

COLUMNS = ("mean recall %", "minus first", *RANKING_COLUMNS, "parameters", "s to train", "CPU ms a clip")

RANKING = (
    "AUROC: how often a clip that is right has a higher calibrated confidence than one that is wrong; 0.5 is a coin. "
    "Risk area: share of answered clips that are wrong, averaged from all clips answered to the surest alone."
)

STAYS = (
    "The same clips, changed in ways after which no person would see another expression: share of the verdicts, in %, "
    "that are the same as for the unchanged clip. Both are by the same fit, which never saw the clip's subject."
)


def comparison_row(entry: Entry) -> dict[str, Any]:
    """Return an entry as text cells by column: name and title, then the columns of `COLUMNS`."""
    difference = "–"
    if entry.difference is not None:
        d = entry.difference
        value, low, high = (f"{round(100 * v, 1) + 0.0:+.1f}" for v in (d.value, d.low, d.high))  # no -0.0
        difference = f"{value} [{low}, {high}]"
    texts = (
        str(entry.evaluation.mean_recall),
        difference,
        *entry.ranking.columns().values(),
        f"{entry.n_parameters:,}",
        f"{entry.seconds:.1f}" if entry.trained else NO_TRAINING,
        f"{entry.ms_per_clip:.1f}",
    )
    return {"model": entry.name, "what": entry.title, **dict(zip(COLUMNS, texts, strict=True))}


def comparison_markdown(comparison: Comparison, external: ExternalValidation | None = None) -> str:
    """Return the tables as Markdown, with the data and the folds they are based on."""
    rows = [comparison_row(entry) for entry in comparison.entries]
    names = list(rows[0])
    lines = ["## Models compared", "", _rests_on(comparison), ""]
    if comparison.synthetic:
        lines += ["**Synthetic faces: these numbers say nothing about people.**", ""]
    lines += [f"| {' | '.join(names)} |", f"|{' --- |' * 2}{' ---: |' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(row.values())} |" for row in rows]
    lines += ["", RANKING]
    lines += [f"\n{name} has no row: {markdown_text(why)}" for name, why in comparison.failed.items()]
    if external is not None:
        rows = [{"model": name, **judged.columns()} for name, judged in external.results.items()]
        lines += ["", f"### On {markdown_text(external.name)}", "", _tells(external), ""]
        lines += [f"| {' | '.join(rows[0])} |", f"| --- |{' ---: |' * (len(rows[0]) - 1)}"] if rows else []
        lines += [f"| {' | '.join(row.values())} |" for row in rows]
        lines += [f"\n{name} has no row: {markdown_text(why)}" for name, why in external.failed.items()]
    if comparison.stays:
        rows = stays_rows(comparison)
        lines += ["", "### Would the verdict survive?", "", STAYS, "", f"| {' | '.join(rows[0])} |"]
        lines += [f"| --- |{' ---: |' * (len(rows[0]) - 1)}", *(f"| {' | '.join(row.values())} |" for row in rows)]
    return "\n".join([*lines, ""])


def stays_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row of text cells for each model: the share of its verdicts that stay under each change, in %."""
    return [
        {"model": name, **{DESCRIPTIONS[change]: f"{100 * share.value:.0f}" for change, share in stays.items()}}
        for name, stays in comparison.stays.items()
    ]


def comparison_json(comparison: Comparison, external: ExternalValidation | None = None) -> dict[str, Any]:
    """Return all numbers as JSON-able values: `rows` as in the tables, `models` with full precision."""
    return {
        "external": external.to_json() if external else None,
        "folds": comparison.folds,
        "seed": comparison.seed,
        "clips": comparison.n_clips,
        "subjects": comparison.n_subjects,
        "synthetic": comparison.synthetic,
        "rows": [comparison_row(entry) for entry in comparison.entries],
        "models": {
            entry.name: {
                "evaluation": entry.evaluation.to_json(),
                "difference": asdict(entry.difference) if entry.difference else None,
                "auroc": None if np.isnan(entry.ranking.auroc) else entry.ranking.auroc,
                "mean_risk": entry.ranking.mean_risk,
                "parameters": entry.n_parameters,
                "seconds": entry.seconds,
                "ms_per_clip": entry.ms_per_clip,
                "trained": entry.trained,
            }
            for entry in comparison.entries
        },
        "failed": comparison.failed,
        "stays": {
            "rows": stays_rows(comparison),
            "models": {
                name: {change: [share.value, share.low, share.high] for change, share in stays.items()}
                for name, stays in comparison.stays.items()
            },
        }
        if comparison.stays
        else None,
    }


def comparison_page(
    comparison: Comparison, external: ExternalValidation | None = None, *, data: str, backbone: str
) -> str:
    """Return the self-contained HTML page.

    Args:
        data: fingerprint of the clips.
        backbone: name of the backbone that made the features.
    """
    recalls = [
        (e.name, ["–" if r.value != r.value else f"{100 * r.value:.0f}" for r in e.evaluation.recall])
        for e in comparison.entries
    ]
    return render_page(
        "compare.html.j2",
        extra_css="compare.css",
        rests_on=_rests_on(comparison),
        synthetic=comparison.synthetic,
        columns=COLUMNS,
        ranking=RANKING,
        rows=[comparison_row(entry) for entry in comparison.entries],
        classes=[str(c) for c in comparison.classes],
        recalls=recalls,
        failed=comparison.failed,
        stays=stays_rows(comparison),
        stays_text=STAYS,
        external=external,
        tells=_tells(external) if external else "",
        figure=data_uri(figure_png(comparison_figure(comparison), dpi=150), "image/png"),
        data=data,
        backbone=backbone,
    )


def _rests_on(comparison: Comparison) -> str:
    published = [entry.name for entry in comparison.entries if not entry.trained]
    told = f" Nothing of {' and '.join(published)} was trained: networks as published, read by 'ferflow adopt'."
    return _folds(comparison) + told * bool(published)


def _folds(comparison: Comparison) -> str:
    return (
        f"{comparison.n_clips} clips of {comparison.n_subjects} subjects, {comparison.folds} folds by subject "
        f"(seed {comparison.seed}); every clip is scored by models that never saw its subject."
    )


def _tells(external: ExternalValidation) -> str:
    people = "Drawn or rendered faces are among them. " if external.synthetic else ""
    return (
        f"{people}Each model fitted once more, to all clips it was compared on, and shown clips of other people. "
        f"Recall in %, mean over their emotions ({', '.join(external.labels)}), with its 95 % interval by subject."
    )
