"""The rows of a scored batch as an HTML page: faces, verdicts, scores over time, and reasons for clips without one."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fer_core import __version__
from fer_core.evaluation.metrics import evaluate
from fer_core.reports.page import bars_svg, clean, data_uri, render_page, shares_svg, timeline_svg
from fer_core.reports.windows_plot import windows_svg
from fer_core.scoring.agreement import Agreement
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.explain import margins, motion_of, shrunk
from fer_core.scoring.inputs import printable
from fer_core.scoring.scorer import ClipScorer
from fer_core.store import cache_key, write_atomic

DRAWN = 100  # clips that are elements of the page from the start
_STRIP = 96  # height in pixels; shown at 72


def write_report(rows: Sequence[ClipScore], scorer: ClipScorer, path: Path) -> None:
    """Write the page to `path`; the file appears complete or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    write_atomic(path, report_html(rows, scorer, path.parent).encode())


def report_html(rows: Sequence[ClipScore], scorer: ClipScorer, folder: Path | None = None) -> str:
    """Return the page, self-contained: about 6 kB per clip, and 4 kB more for each decisive face.

    The first `DRAWN` clips are elements of the page. The others are text, which the page's script makes into elements
    as one scrolls, so that a page of 10 000 clips opens at once.

    Args:
        folder: folder of the page, from which it links the films; None: no links.
    """
    several = Counter((row.digest, row.path) for row in rows)
    seen = Counter(str(row.emotion) for row in rows if row.emotion)
    emotions = [(str(c), seen[str(c)]) for c in scorer.classes if seen[str(c)]]
    without = sum(row.emotion is None for row in rows)
    emotions += [("none", without)] if without else []
    return render_page(
        "scores.html.j2",
        colored=scorer.classes,
        extra_css="scores.css",
        script="scores.js",
        films=folder is not None,
        rows=[_shown(row, folder, several[row.digest, row.path] > 1) for row in rows],
        drawn=DRAWN,
        facts=[_fact(row) for row in rows],
        classes=[str(c) for c in scorer.classes],
        batch=cache_key(rows=[[row.digest, row.clip] for row in rows], model=scorer.bundle.digest)[:16],
        evaluation=_evaluation(rows, scorer),
        verdicts=len(rows) - without,
        model=scorer.name or "unregistered model",
        version=scorer.version,
        kind=scorer.bundle.facts.model,
        rule=scorer.joined_by.replace("_", " "),
        by_frames=scorer.bundle.classifier.scores_frames,
        windows=scorer.windows if scorer.in_windows else None,
        timelines=any(row.frame_scores is not None for row in rows),
        generated=time.strftime("%d %B %Y, %H:%M").lstrip("0"),
        synthetic=scorer.bundle.facts.synthetic,
        shares=shares_svg(emotions),
        emotions=emotions,
        statuses=[(s.value, n) for s, n in Counter(row.status for row in rows).most_common()],
        abstained=sum(row.abstained and row.emotion is not None for row in rows),
        agreement=Agreement.of(rows),
        seconds=f"{sum(row.processing_s for row in rows):.0f}",
        calibrated=scorer.calibrated,
        abstain_below=scorer.abstain_below,
        explained=any(row.explanation for row in rows),
        moves=motion_of(scorer.bundle) is not None,
        heat=any(row.decisive for row in rows),
        digest=scorer.bundle.digest[:12],
        ferflow=__version__,
    )


def _evaluation(rows: Sequence[ClipScore], scorer: ClipScorer) -> dict[str, Any] | None:
    """Return accuracy, mean recall and confusion matrix of the clips that `Agreement` counts; None without any.

    Intervals are resampled by person, or by clip where nobody names the person.
    """
    classes = [str(c) for c in scorer.classes]
    judged = [row for row in rows if row.label in classes and row.emotion and not row.seen_in_training]
    if not judged:
        return None
    verdicts, labels = (
        np.array([classes.index(str(name)) for name in names])
        for names in ([row.emotion for row in judged], [row.label for row in judged])
    )
    found = evaluate(verdicts, labels, [row.subject or row.digest or row.clip for row in judged], scorer.classes)
    lines = found.confusion.tolist()
    return {
        "accuracy": str(found.accuracy),
        "mean_recall": str(found.mean_recall),
        "by": "person" if all(row.subject for row in judged) else "clip",
        "matrix": [(name, line, sum(line)) for name, line in zip(classes, lines, strict=True) if sum(line)],
    }


def _fact(row: ClipScore) -> list[Any]:
    """Return what the page's script filters and sorts by, and writes into `corrections.csv`."""
    told = bool(row.label and row.emotion and not row.seen_in_training)
    return [
        clean(printable(row.clip)),
        row.status.value,
        str(row.emotion) if row.emotion else "",
        round(row.confidence, 4) if row.emotion else -1,
        int(row.abstained),
        str(row.label) if row.label else "",
        ("right" if row.label == row.emotion else "wrong") if told else "",
        row.digest,
    ]


def _source(row: ClipScore, folder: Path | None) -> str:
    """Return the relative link to a clip's file, or to its folder of frames, which then ends in a slash.

    Empty if there is no file, or its name cannot stand in a link.
    """
    if folder is None or not row.digest:
        return ""
    try:
        place = os.path.relpath(row.path, folder.absolute())
        place = place if place.startswith(".") else f"./{place}"
        return quote(f"{place}/" if Path(row.path).is_dir() else place, safe="/")
    except (ValueError, UnicodeEncodeError):  # another drive; a name that is not UTF-8
        return ""


def _shown(row: ClipScore, folder: Path | None, several: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "clip": printable(row.clip),
        "source": _source(row, folder),
        "status": row.status.value,
        "reason": printable(row.reason),
        "emotion": row.emotion and str(row.emotion),
        "label": row.label and str(row.label),
        "seen_in_training": row.seen_in_training,
        "confidence": row.confidence,
        "abstained": row.abstained,
        "flags": [flag for flag in row.flags if flag != row.status.value],
        "n_used": row.n_used,
        "n_selected": row.n_selected,
        "film": row.film,
        "person": row.person if several else 0,
        "face": data_uri(row.thumbnail) if row.thumbnail else "",
        "explained": data_uri(shrunk(row.explanation, _STRIP)) if row.explanation else "",
    }
    if row.windows is not None:
        shown["windows"] = windows_svg(row.windows, row.classes)
    if row.probabilities is not None and row.ledger is not None:
        used = row.ledger.used
        frames = row.ledger.frame
        shown["bars"] = bars_svg(row.probabilities.tolist(), row.classes)
        if row.frame_scores is not None and row.emotion:
            adds = margins(row.frame_scores, row.classes.index(row.emotion))
            if row.frame_shares is not None:
                adds = adds * row.frame_shares / row.frame_shares.max()
            shown["timeline"] = timeline_svg(
                frames[used], row.frame_scores, row.classes, frames[~used], adds, row.decisive
            )  # fmt: skip
        shown["decisive"] = ", ".join(str(frames[used][place]) for place in row.decisive)
        shown["span"] = _span(frames, row.ledger.time_s)
    return shown


def _span(frames: np.ndarray, time_s: np.ndarray) -> str:
    known = time_s[np.isfinite(time_s)]
    if len(known) and known.max() > 0:
        return f"{known.min():.1f}–{known.max():.1f} s"
    return f"nos. {frames.min()}–{frames.max()}"
