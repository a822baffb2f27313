"""The page of a batch's drift: each measure in training and now, with a plain warning where they differ."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from fer_core import __version__
from fer_core.evaluation.drift import MEASURES, MIX, Difference, Level, Sample
from fer_core.reports.page import render_page

_BINS = 24
_CAUSES = {
    "face_size": "People stand nearer or farther, or the films have another resolution.",
    "brightness": "The light or the camera is another.",
    "no_face": "Faces are lost more or less often: turned heads, covered faces, or films without people.",
    "confidence": "The model is more or less certain than on its own clips.",
    MIX: "The model gives other verdicts than on its own clips: people show other emotions, or it errs to one side.",
}


def drift_sentence(found: Sequence[Difference]) -> str:
    """Return the warning in one sentence; empty if nothing differs."""
    named = [f"{_name(d.measure)} (PSI {d.psi:.2f})" for d in found if d.level in (Level.SOME, Level.STRONG)]
    if not named:
        return ""
    return f"this batch differs from the training clips in {', '.join(named)}; accuracy there may not hold here"


def drift_page(found: Sequence[Difference], reference: Sample, sample: Sample, model: str, reviewed: str = "") -> str:
    """Return the self-contained HTML page.

    Args:
        model: name and version of the model.
        reviewed: sentence on the clips whose label a person confirmed; empty without any.
    """
    rows = [
        {
            "name": _name(d.measure),
            "level": d.level.value,
            "before": _number(d.before),
            "now": _number(d.now),
            "psi": _number(d.psi, 3),
            "statistic": _number(d.statistic, 3),
            "p": "" if np.isnan(d.p_value) else f"{d.p_value:.2g}",
            "n": f"{d.n_reference}, {d.n}",
            "chart": _mix(reference, sample)
            if d.measure == MIX
            else _histogram(reference.values[d.measure], sample.values[d.measure], _name(d.measure)),
            "cause": _CAUSES[d.measure] if d.level in (Level.SOME, Level.STRONG) else "",
        }
        for d in found
    ]
    return render_page(
        "drift.html.j2", extra_css="drift.css", rows=rows, model=model, warning=drift_sentence(found),
        reviewed=reviewed, generated=time.strftime("%d %B %Y, %H:%M").lstrip("0"), ferflow=__version__,
    )  # fmt: skip


def _name(measure: str) -> str:
    return MEASURES.get(measure, "mix of verdicts")


def _number(value: float, digits: int = 1) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}" if abs(value) >= 1 or digits > 1 else f"{value:.2f}"


def _histogram(before: np.ndarray, now: np.ndarray, name: str) -> Markup:
    """Return both distributions as step lines over the same bins, each as shares of its clips."""
    every = np.concatenate([before, now])
    if not len(every):
        return Markup("")
    edges = np.histogram_bin_edges(every, _BINS)
    spoken = f"{name}: {len(before)} training clips and {len(now)} of this batch over {edges[0]:.3g} to {edges[-1]:.3g}"
    lines = [(kind, np.histogram(values, edges)[0] / max(len(values), 1)) for kind, values in
             (("before", before), ("now", now))]  # fmt: skip
    top = max(float(shares.max()) for _, shares in lines) or 1.0
    parts = [f'<svg class="dist" viewBox="0 0 240 70" role="img" aria-label="{escape(spoken)}">']
    for kind, shares in lines:
        ys = [f"{60 - 56 * s / top:.1f}" for s in shares]
        step = "".join(f"L{240 * i / _BINS:.1f} {y}H{240 * (i + 1) / _BINS:.1f}" for i, y in enumerate(ys))
        parts.append(f'<path class="{kind}" d="M0 60{step}V60"/>')
    parts.append(f'<text x="0" y="69">{edges[0]:.3g}</text><text class="name" x="240" y="69">{edges[-1]:.3g}</text>')
    return Markup("".join(parts) + "</svg>")


def _mix(reference: Sample, sample: Sample) -> Markup:
    """Return the shares of the classes as two bars each."""
    names = sorted({*reference.verdicts, *sample.verdicts})
    totals = [max(sum(side.verdicts.values()), 1) for side in (reference, sample)]
    shares = [[side.verdicts.get(name, 0) / total for side, total in zip((reference, sample), totals, strict=True)]
              for name in names]  # fmt: skip
    spoken = ", ".join(f"{n} {100 * b:.0f} % then {100 * now:.0f} %" for n, (b, now) in zip(names, shares, strict=True))
    parts = [f'<svg class="dist" viewBox="0 0 240 {16 * len(names)}" role="img" aria-label="{escape(spoken)}">']
    for i, (name, (b, now)) in enumerate(zip(names, shares, strict=True)):
        parts.append(f'<text class="name" x="66" y="{16 * i + 10}">{escape(name)}</text>')
        parts.append(f'<rect class="before" x="72" y="{16 * i + 2}" width="{160 * b:.1f}" height="5"/>')
        parts.append(f'<rect class="now" x="72" y="{16 * i + 8}" width="{160 * now:.1f}" height="5"/>')
    return Markup("".join(parts) + "</svg>")
