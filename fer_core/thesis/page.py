"""The reproduction as a page: the thesis's numbers beside ours, its claims answered, its figures drawn again."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from markupsafe import Markup

from fer_core import __version__
from fer_core.clips.cells import markdown_text
from fer_core.emotions import SIX
from fer_core.evaluation.metrics import Evaluation, Interval
from fer_core.published import COMPUTE, CONTRADICTIONS, MEAN, TABLE_3_2, TABLE_4_2
from fer_core.reports.page import data_uri, render_page
from fer_core.reports.plots import curves_figure, figure_svg
from fer_core.thesis.claims import answer_claims
from fer_core.thesis.departures import departures, fc_start, side_names, widths_name
from fer_core.thesis.reproduction import THESIS_RULES, Outcome, Reproduction

_NAMES = {"majority_vote": "majority vote", "mean_scores": "mean scores"}
UNTRAINED = (
    "Beside them, face networks as published, of which nothing was trained (`ferflow adopt`), on the same test clips. "
    "Each opened the test set once too."
)
_SETTINGS = {"table-4.1": "Table 4.1", "section-4.2.2": "§4.2.2"}


def reproduction_html(found: Reproduction) -> str:
    """The whole page, self-contained."""
    low = _axis_low(found)
    return render_page(
        "reproduction.html.j2",
        extra_css="reproduction.css",
        headline=_headline(found),
        setting=_SETTINGS.get(found.setting, found.setting),
        stopping=stopping_name(found),
        generated=time.strftime("%d %B %Y, %H:%M").lstrip("0"),
        fingerprint=found.data.fingerprint,
        synthetic=found.data.synthetic,
        rehearsal=rehearsal(found),
        data={
            "names": ", ".join(name or "(unnamed)" for name in found.data.datasets),
            "n_test": len(found.labels),
            "n_people": len(set(found.subjects)),
            "stopped_on": found.data.stopped_on,
        },
        axis=[f"{v:g}" for v in np.linspace(low, 100, 3)],
        cross_validated=any(o.out_of_fold for o in found.outcomes),
        outcomes=[_outcome(o, low) for o in found.outcomes],
        notes=_notes(found),
        untrained=[
            (name, _percent(e.mean_recall.value), _range(e.mean_recall), str(e.accuracy))
            for name, e in found.untrained.items()
        ],
        untrained_note=UNTRAINED,
        claims=answer_claims(found),
        emotions=[str(e) for e in SIX],
        recalls=[_recalls(o, rule) for o in found.tested for rule in THESIS_RULES],
        matrices=[_matrices(o) for o in found.tested],
        differences=departures(found),
        sides=_sides(found),
        compute=COMPUTE,
        contradictions=CONTRADICTIONS,
        lockbox=lockbox_sentence(found),
        ferflow=__version__,
        machine=f"{found.environment.get('platform', '')}, torch {found.environment.get('torch', '')}",
    )


def reproduction_markdown(found: Reproduction) -> str:
    """The same for a terminal or a run's page: table, claims, what differs."""
    names = ", ".join(markdown_text(name) or "(unnamed)" for name in found.data.datasets)
    lines = ["# The thesis, reproduced", ""]
    if found.data.synthetic:
        lines += ["**Synthetic faces: these numbers say nothing about people.**", ""]
    if not_it := rehearsal(found):
        lines += [f"**A rehearsal, not the thesis's network: {markdown_text(not_it)}.**", ""]
    lines += [
        f"{names}: {len(found.labels)} test clips of {len(set(found.subjects))} people. Setting "
        f"{_SETTINGS.get(found.setting, found.setting)}, {stopping_name(found)}. Mean of the per-class recalls in %, "
        "95 % intervals by person.",
        "",
        "| implementation | rule | thesis | here | plain accuracy | by cross-validation | epochs, thesis | here | "
        "seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for o in found.outcomes:
        for rule in THESIS_RULES:
            test, fold = o.tests.get(rule), o.out_of_fold.get(rule)
            here = [str(test.mean_recall), str(test.accuracy)] if test else [markdown_text(o.reason), "–"]
            lines.append(
                f"| {o.number}: {o.thesis.network}, {o.thesis.loss} | {_NAMES[rule]} | {o.thesis.average[rule]:.2f} | "
                f"{here[0]} | {here[1]} | {fold.mean_recall if fold else '–'} | {o.thesis.epochs} | {len(o.history)} | "
                f"{o.seconds:.0f} |"
            )
    if found.untrained:
        lines += [
            "",
            UNTRAINED,
            "",
            "| network, no training | here, mean scores | plain accuracy |",
            "| --- | --- | --- |",
        ]
        lines += [f"| {name} | {e.mean_recall} | {e.accuracy} |" for name, e in found.untrained.items()]
    for note in _notes(found):
        lines += ["", markdown_text(note)]
    for claim in answer_claims(found):
        lines += ["", f"## {claim.claim}", "", f"{claim.source}. {claim.answer}", ""]
        lines += ["| " + " | ".join(claim.columns) + " |", "|" + " --- |" * len(claim.columns)]
        lines += ["| " + " | ".join(row) + " |" for row in claim.rows]
    lines += ["", "## What differs from the thesis", "", "| | thesis | here |", "| --- | --- | --- |"]
    lines += [f"| {what} | {thesis} | {markdown_text(here)} |" for what, thesis, here in departures(found)]
    return "\n".join([*lines, "", lockbox_sentence(found), ""])


def rehearsal(found: Reproduction) -> str:
    """Settings in which this experiment differs from the thesis's, in words; empty when there are none."""
    said = []
    if found.backbone.label != "vgg16":
        said.append(f"{found.backbone.label} in place of VGG16")
    if found.shrink > 1:
        said.append(f"FC widths divided by {found.shrink}")
    if found.changed:
        said.append("another " + ", ".join(f"train.{name}" for name in found.changed))
    short = [o for o in found.outcomes if o.train.epochs < o.thesis.epochs and o.train.epochs <= len(o.history)]
    if short:
        said.append(f"at most {max(o.train.epochs for o in short)} epochs")
    return ", ".join(said)


def stopping_name(found: Reproduction) -> str:
    """The stopping rule of training, in words."""
    if found.fixed_epochs:
        return "trained for the thesis's epochs"
    rules = {o.train.stopping for o in found.outcomes}
    return "stopped by the rule of §4.3" if rules == {"thesis"} else f"stopping: {', '.join(sorted(rules))}"


def lockbox_sentence(found: Reproduction) -> str:
    """A sentence on how often the test set was opened."""
    if not found.tested:
        return "The test set was not opened."
    which = ", ".join(str(o.opening) for o in found.tested)
    most = max(o.openings for o in found.tested)
    return f"These were looks {which} of {most} at this test set so far."


def _headline(found: Reproduction) -> dict[str, str]:
    """The last implementation tested, by mean scores: the thesis's best number when all were run."""
    if not found.tested:
        return {"title": "No implementation could be trained", "thesis": "", "here": "", "range": "", "lead": ""}
    last = found.tested[-1]
    ours = last.tests[MEAN].mean_recall
    here, span = _percent(ours.value), _range(ours)
    thesis = f"{last.thesis.average[MEAN]:.2f}"
    return {
        "title": f"Thesis {thesis}, here {here}",
        "thesis": thesis,
        "here": here,
        "range": span,
        "lead": f"Implementation {last.number} by mean scores.",
    }


def _outcome(o: Outcome, low: float) -> dict[str, Any]:
    rules = []
    for rule in THESIS_RULES if o.tested else THESIS_RULES[-1:]:
        row: dict[str, Any] = {"name": _NAMES[rule], "thesis": f"{o.thesis.average[rule]:.2f}", "here": ""}
        if o.tested:
            test = o.tests[rule]
            fold = o.out_of_fold.get(rule)
            row |= {
                "here": _percent(test.mean_recall.value),
                "range": _range(test.mean_recall),
                "track": _track(test.mean_recall, o.thesis.average[rule], low),
                "accuracy": str(test.accuracy),
                "out_of_fold": str(fold.mean_recall) if fold else "–",
            }
        rules.append(row)
    n = len(o.history)
    loss, accuracy, _ = o.thesis.figures
    curves = figure_svg(curves_figure({"": o.history})) if n else b""
    return {
        "number": o.number,
        "network": o.thesis.network,
        "loss": o.thesis.loss,
        "reason": o.reason or "not tested",
        "rules": rules,
        "curves": data_uri(curves, "image/svg+xml") if n else "",
        "caption": f"Mean loss (Fig. {loss}) and accuracy per frame (Fig. {accuracy})",
        "stopped": f"{n} epochs, thesis {o.thesis.epochs}" + ("" if o.tested else f"; {o.reason}"),
        "widths": f"FC {widths_name(o)}",
        "compute": [
            f"{o.n_weights:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") if o.n_weights else "–",
            o.thesis.epochs,
            n or "–",
            f"{o.seconds / n:.1f}" if n else "–",
            _duration(o.seconds) if n else "–",
        ],
        "machine": f"{o.device}, {o.threads} thread{'' if o.threads == 1 else 's'}" if o.device else "–",
        "start": fc_start(o),
    }


def _notes(found: Reproduction) -> list[str]:
    """Notes under the table that a reader must not overlook."""
    notes = [
        f"Implementation {o.number} gives one answer, {o.one_answer}, to every test clip: it has learnt nothing from "
        f"this setting (learning rate {o.train.lr:g}, batches of {o.train.batch_size})."
        for o in found.tested
        if o.one_answer is not None
    ]
    return notes + [f"Implementation {o.number} has no test result: {o.reason}." for o in found.outcomes if o.reason]


def _recalls(o: Outcome, rule: Any) -> dict[str, Any]:
    evaluation = o.tests[rule]
    cells = [
        (_percent(i.value), _range(i)) if not np.isnan(i.value) else ("–", "no clips") for i in evaluation.recall[:6]
    ]
    thesis = []
    for emotion in SIX:
        if emotion in o.thesis.recall:
            thesis.append(f"{o.thesis.recall[emotion][rule]:.2f}")
        else:
            thesis.append(f"{o.thesis.unsaid[emotion]:.2f}°" if emotion in o.thesis.unsaid else "")
    return {"number": o.number, "rule": _NAMES[rule], "cells": cells, "thesis": thesis if any(thesis) else []}


def _matrices(o: Outcome) -> dict[str, Any]:
    return {
        "number": o.number,
        "figure": o.thesis.figures[2],
        "rules": [
            {
                "name": _NAMES[rule],
                "mean": str(o.tests[rule].mean_recall),
                "thesis": f"{o.thesis.average[rule]:.2f}",
                "rows": _matrix(o.tests[rule]),
            }
            for rule in THESIS_RULES
        ],
    }


def _matrix(evaluation: Evaluation) -> list[dict[str, Any]]:
    shares = evaluation.normalized()
    return [
        {
            "truth": str(emotion),
            "cells": [
                {
                    "share": f"{shares[i, j]:.0f}" if n else "",
                    "count": int(n),
                    "level": f"q{max(1, round(shares[i, j] / 10))}" if n else "q",
                }
                for j, n in enumerate(evaluation.confusion[i])
            ],
        }
        for i, emotion in enumerate(evaluation.classes)
    ]


def _sides(found: Reproduction) -> list[dict[str, Any]]:
    rows = []
    for side, name in side_names().items():
        here = found.data.clips.get(side, (0,) * 6)
        thesis = TABLE_3_2[side]
        rows.append(
            {
                "name": f"{name} clips",
                "here": [*here, sum(here), found.data.people.get(side, 0)],
                "thesis": [*thesis, sum(thesis)],
            }
        )
    frames = found.data.frames
    rows.append(
        {
            "name": "training frames",
            "here": [*frames, sum(frames), ""],
            "thesis": [*TABLE_4_2, sum(TABLE_4_2)],
        }
    )
    return rows


def _axis_low(found: Reproduction) -> float:
    """Start of the chart's axis: the round number below every value shown."""
    lows = [100 * o.tests[r].mean_recall.low for o in found.tested for r in THESIS_RULES]
    lows += [o.thesis.average[r] for o in found.outcomes for r in THESIS_RULES]
    return float(10 * np.floor(min(lows) / 10))


def _track(here: Interval, thesis: float, low: float) -> Markup:
    """The interval as a bar, our value and the thesis's as strokes, on an axis from `low` to 100."""

    def x(percent: float) -> float:
        return 100 * (percent - low) / (100 - low)

    left, right, value = x(100 * here.low), x(100 * here.high), x(100 * here.value)
    return Markup(
        '<svg class="track" viewBox="0 0 100 16" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="base" x="0" y="7.5" width="100" height="1"/>'
        f'<rect class="range" x="{left:.1f}" y="5" width="{max(right - left, 0.5):.1f}" height="6"/>'
        f'<rect class="here" x="{value - 0.5:.1f}" y="2" width="1" height="12"/>'
        f'<rect class="then" x="{x(thesis) - 0.4:.1f}" y="0" width=".8" height="16"/></svg>'
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _range(interval: Interval) -> str:
    return f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
