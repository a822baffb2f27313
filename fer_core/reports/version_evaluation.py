"""The evaluation of a registered version as Markdown and as an HTML page."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fer_core import __version__
from fer_core.clips.cells import markdown_text
from fer_core.evaluation.metrics import Interval
from fer_core.experiments.stability import Stability, Stress
from fer_core.experiments.version_evaluation import VersionEvaluation
from fer_core.reports.confidence_plots import groups_figure
from fer_core.reports.page import data_uri, render_page
from fer_core.reports.plots import STYLE, canvas, confusion_figure, figure_png, reliability_figure


def stress_figure(stress: Sequence[Stress]) -> Figure:
    """Plot, for each change, the share of verdicts that stay, with intervals by subject; with labels, the share that is
    right too."""
    with rc_context(STYLE):
        figure = canvas(8.4, 0.42 * len(stress) + 1.2)
        ax = figure.subplots()
        places = np.arange(len(stress))
        for offset, color, label, intervals in (
            (-0.13, "#0072B2", "verdicts that stay", [s.stays for s in stress]),
            (0.13, "#D55E00", "right", [s.accuracy for s in stress if s.accuracy is not None]),
        ):
            if not intervals:  # clips without labels
                continue
            value, low, high = np.array([(i.value, i.low, i.high) for i in intervals]).T
            ends = np.clip([value - low, high - value], 0, None)
            ax.errorbar(
                value, places + offset, xerr=ends, fmt="o", color=color, markersize=4, elinewidth=1.2, label=label
            )
        ax.set_yticks(places, [s.what for s in stress])
        ax.invert_yaxis()
        ax.set_xlim(0, 1.02)
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.grid(axis="x")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.08), ncols=2, fontsize=8)
        return figure


def evaluation_markdown(found: Stability, model: str, data: str) -> str:
    """Return the evaluation as a few lines of Markdown; of clips without labels, only what became of the verdicts.

    Args:
        model: name and version of the model.
        data: name of the manifest or folder.
    """
    lines = [f"## {markdown_text(model)} on {markdown_text(data)}", ""]
    if found.synthetic:
        lines += ["**Drawn or rendered faces are among them: these numbers say nothing about people.**", ""]
    lines += [_sentence(found), ""]
    if isinstance(found, VersionEvaluation):
        lines += ["| class | clips | recall, % |", "| --- | ---: | ---: |"]
        lines += [f"| {markdown_text(name)} | {n} | {recall} |" for name, n, recall in _recalls(found)]
    if found.stress:
        columns, rows = stress_table(found.stress)
        lines += ["", f"| change | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
        lines += [f"| {what} | {' | '.join(cells)} |" for what, cells in rows]
    return "\n".join([*lines, ""])


def evaluation_page(found: Stability, model: str, data: str) -> str:
    """Return the self-contained HTML page; arguments as in `evaluation_markdown`."""
    columns, rows = stress_table(found.stress)
    return render_page(
        "evaluation.html.j2",
        extra_css="compare.css",
        model=model,
        data=data,
        sentence=_sentence(found),
        synthetic=found.synthetic,
        recalls=_recalls(found) if isinstance(found, VersionEvaluation) else [],
        left_out=sorted(found.left_out.items(), key=lambda item: -item[1]),
        unnamed=found.unnamed,
        stress=rows,
        stress_columns=columns,
        stress_figure=_picture(stress_figure(found.stress)) if found.stress else "",
        figures=[(title, _picture(figure), text) for title, figure, text in _figures(found)],
        fingerprint=found.fingerprint[:12],
        generated=time.strftime("%d %B %Y, %H:%M").lstrip("0"),
        ferflow=__version__,
    )


def _figures(found: Stability) -> list[tuple[str, Figure, str]]:
    """Return (title, figure, text) of what needs labels."""
    if not isinstance(found, VersionEvaluation):
        return []
    confusion = "Confusion matrix; the recalls are in the table above."
    told = {"calibrated" if found.calibrated else "not calibrated": found.reliability}
    return [
        ("Verdicts against labels", confusion_figure(found.evaluation), confusion),
        ("Confidence", reliability_figure(told), "Share of right verdicts over confidence."),
        *((f"By {column}", groups_figure(column, of), f"Recall by {column}.") for column, of in found.groups.items()),
    ]


def _sentence(found: Stability) -> str:
    if not isinstance(found, VersionEvaluation):
        return (
            f"{len(found.clips)} clips of {found.n_subjects} people, without labels: how many verdicts are right is "
            f"not known. It answers on {100 * found.answered:.1f} % of the clips."
        )
    judged, error = found.evaluation, 100 * found.reliability.expected_error
    right = "" if np.isnan(found.answered_right) else f", and is right on {100 * found.answered_right:.1f} % of these"
    kind = "" if found.calibrated else " (the version is not calibrated)"
    return (
        f"Mean recall {judged.mean_recall} % and accuracy {judged.accuracy} % on {judged.n_clips} clips of "
        f"{judged.n_subjects} people, with 95 % intervals by person; calibration error {error:.1f} %{kind}. It answers "
        f"on {100 * found.answered:.1f} % of the clips{right}."
    )


def _recalls(found: VersionEvaluation) -> list[tuple[str, int, str]]:
    """Return (class, number of its clips, recall) for each class."""
    counts = found.evaluation.confusion.sum(axis=1).tolist()
    recalls = zip(found.evaluation.classes, counts, found.evaluation.recall, strict=True)
    return [(str(name), n, _percent(recall)) for name, n, recall in recalls]


def stress_table(stress: Sequence[Stress]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the columns, and (change, cells) of each row; clips without labels have no column of right verdicts."""
    columns = ["verdicts that stay, %", "right, %", "fallen", "of these abstaining"]
    rows = [(s.what, [_percent(s.stays), _percent(s.accuracy), str(s.fallen), str(s.fallen_abstained)]) for s in stress]
    if all(s.accuracy is None for s in stress):
        del columns[1]
        for _, cells in rows:
            del cells[1]
    return columns, rows


def _percent(interval: Interval | None) -> str:
    return "–" if interval is None or np.isnan(interval.value) else str(interval)


def _picture(figure: Figure) -> str:
    return data_uri(figure_png(figure, dpi=150), "image/png")
