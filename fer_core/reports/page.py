"""Self-contained HTML pages: one file, no network, readable on a phone and in dark mode.

Names of files and people are escaped. The page's security policy allows only its own script and style, by their hashes,
so that nothing in a name can run. Pictures are data URIs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from fer_core.emotions import Classes
from fer_core.palette import colors_of

USE_STATEMENT = (
    "A face shows an expression, not a feeling: a verdict here says what a face looks like, and it can be wrong.",
    "Inferring emotions at work or in education is prohibited in the EU (AI Act, Art. 5(1)(f)) except for medical and "
    "safety reasons, and is high-risk everywhere else.",
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_POINTS = 40  # most points of a line in a timeline; more cannot be seen


def render_page(template: str, **given: Any) -> str:
    """Return a complete HTML page; arguments as in `page_pieces`."""
    return "".join(page_pieces(template, **given))


def page_pieces(
    template: str, *, extra_css: str = "", script: str = "", films: bool = False, colored: Classes = (), **context: Any
) -> Iterator[str]:
    """Yield a complete HTML page in pieces, so that a large one need not fit into memory.

    Args:
        template: name of a `.html.j2` in `templates/` that extends `page.html.j2`.
        extra_css: name of a style sheet in `templates/` to add after `page.css`.
        script: name of the page's script; empty: the page has none.
        films: True if the page may play films from files of the machine that shows it.
        colored: classes whose elements, `c-<label>`, get the colour of the class.
        context: values for the template; every text is escaped unless it is Markup.
    """
    style = _asset("page.css") + (_asset(extra_css) if extra_css else "") + _colors(colored)
    code = _asset(script) if script else ""
    allowed = f"'{_hash(code)}'" if code else "'none'"
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src {allowed}; img-src data:; "
    policy += ("media-src file:; " if films else "") + "base-uri 'none'; form-action 'none'"
    page = _environment().get_template(template)
    return page.generate(
        style=Markup(style), script=Markup(code), policy=policy, use_statement=USE_STATEMENT, **context
    )  # fmt: skip


def clean(text: str) -> str:
    """Return `text` without control characters, which a terminal or browser might obey."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.encode("utf-8", "replace").decode())


def data_uri(picture: bytes, kind: str = "image/jpeg") -> str:
    """Return the bytes of a picture as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def bars_svg(probabilities: Sequence[float], classes: Sequence[str]) -> Markup:
    """Return a horizontal bar per class with its name, and its percentage if it is at least 1 %."""
    height, left = 12 * len(classes), max(66, 10 + 6 * max(map(len, classes)))
    box, spoken = f"0 0 {left + 124} {height}", _spoken(probabilities, classes)
    parts = [f'<svg class="bars" viewBox="{box}" role="img" aria-label="{spoken}">']
    for place, (emotion, share) in enumerate(zip(classes, probabilities, strict=True)):
        y = 12 * place
        width = round(88 * share, 1)
        parts.append(f'<text class="name" x="{left - 6}" y="{y + 9}">{emotion}</text>')
        parts.append(f'<rect class="track" x="{left}" y="{y + 2}" width="88" height="8" rx="2"/>')
        if width >= 0.5:
            parts.append(f'<rect class="c-{emotion}" x="{left}" y="{y + 2}" width="{width}" height="8" rx="2"/>')
        if share >= 0.01:
            parts.append(f'<text x="{left + 94}" y="{y + 9}">{100 * share:.0f} %</text>')
    return Markup("".join(parts) + "</svg>")


def timeline_svg(
    frames: np.ndarray,
    scores: np.ndarray,
    classes: Sequence[str],
    unused: np.ndarray,
    adds: np.ndarray,
    marked: Sequence[int] = (),
    spoken: str = "",
) -> Markup:
    """Return the scores of a clip's frames over time, one line per class, and bars for each frame's contribution.

    Args:
        frames: (n,) numbers of the used frames.
        scores: (n, k), rows sum to 1.
        classes: k classes.
        unused: numbers of the other frames, drawn as ticks.
        adds: (n,) in [-1, 1]; positive for the clip's class, negative against it.
        marked: indices into the used frames, drawn as dots.
        spoken: what a screen reader says; empty: the predicted class and its scores at the first and the last frame.
    """
    every = np.concatenate([frames, unused])
    first, span = int(every.min()), max(int(every.max() - every.min()), 1)

    def across(frame: float) -> float:
        return 4 + 212 * (frame - first) / span

    groups = np.array_split(np.arange(len(frames)), min(_POINTS, len(frames)))
    xs = [f"{across(float(frames[g].mean())):.0f}" for g in groups]
    line = xs * (2 if len(groups) == 1 else 1)  # a polyline needs two points to be drawn
    winner = int(scores.mean(axis=0).argmax())
    start, end = (100 * scores[place, winner] for place in (0, -1))
    spoken = spoken or f"{classes[winner]} over time, from {start:.0f} % in the first frame to {end:.0f} % in the last"
    parts = [
        f'<svg class="timeline" viewBox="0 0 220 92" role="img" aria-label="{escape(spoken)}">'
        '<path class="grid" d="M4 4H216M4 33H216M4 62H216M4 82H216"/>'
    ]
    for place in [*(c for c in range(len(classes)) if c != winner), winner]:
        ys = [f"{62 - 58 * float(scores[g, place].mean()):.0f}" for g in groups]
        points = " ".join(f"{x},{y}" for x, y in zip(line, ys * (len(line) // len(ys)), strict=True))
        strong = " strong" if place == winner else ""
        parts.append(f'<polyline class="c-{classes[place]}{strong}" points="{points}"/>')
    bars = {True: "", False: ""}
    for x, group in zip(xs, groups, strict=True):
        share = float(adds[group].mean())
        bars[share > 0] += f"M{x} 82v{-8 * share + 0:.1f}"
    for kind, path in ((f"c-{classes[winner]}", bars[True]), ("against", bars[False])):
        if path:
            parts.append(f'<path class="adds {kind}" d="{path}"/>')
    parts += [f'<circle class="marked" cx="{across(float(frames[place])):.0f}" cy="62" r="2.6"/>' for place in marked]
    if len(unused):
        ticks = sorted({f"{across(float(f)):.0f}" for f in unused}, key=float)
        parts.append(f'<path class="unused" d="{"".join(f"M{x} 66v5" for x in ticks)}"/>')
    return Markup("".join(parts) + "</svg>")


def shares_svg(counts: Sequence[tuple[str, int]]) -> Markup:
    """Return one bar divided in proportion to named counts; names are classes, or `none`."""
    total, x = sum(n for _, n in counts), 0.0
    parts = ['<svg class="shares" viewBox="0 0 1000 18" preserveAspectRatio="none" aria-hidden="true">']
    for name, n in counts:
        width = 1000 * n / max(total, 1)
        parts.append(f'<rect class="c-{name}" x="{x:.1f}" y="0" width="{max(width - 2, 0):.1f}" height="18"/>')
        x += width
    return Markup("".join(parts) + "</svg>")


def _spoken(probabilities: Sequence[float], classes: Sequence[str]) -> str:
    return ", ".join(f"{c} {100 * p:.0f} %" for c, p in zip(classes, probabilities, strict=True))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fer_core.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["clean"] = clean
    environment.filters["json"] = _json
    return environment


def _json(value: object) -> Markup:
    """Return a value as JSON that can stand inside an HTML script element."""
    text = json.dumps(str(value) if isinstance(value, Markup) else value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


@cache
def _asset(name: str) -> str:
    return resources.files("fer_core.reports").joinpath("templates", name).read_text(encoding="utf-8")


def _colors(classes: Classes) -> str:
    return "".join(f".c-{label}{{--c:{color}}}" for label, color in colors_of(classes).items())


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
