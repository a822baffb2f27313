"""The rows of a scored batch as an HTML page: faces, verdicts, scores over time, and reasons for clips without one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fer_core import __version__
from fer_core.evaluation.metrics import evaluate
from fer_core.reports.page import bars_svg, clean, data_uri, page_pieces, shares_svg, timeline_svg
from fer_core.reports.windows_plot import windows_svg
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.explain import margins, motion_of, shrunk
from fer_core.scoring.inputs import printable
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.tally import Tally
from fer_core.store import cache_key, publish

MOST = 10_000  # most clips of a page; more would open too slowly
DRAWN = 100  # clips that are elements of the page from the start
_STRIP = 96  # height in pixels; shown at 72


def write_report(rows: Sequence[ClipScore], scorer: ClipScorer, path: Path, tally: Tally | None = None) -> None:
    """Write the page to `path`, and beside it `<name>-2.html` ... if there are more than `MOST` rows.

    The rows are in their order, `MOST` on each page; they are read once and do not stay in memory. Each file appears
    complete or not at all. Pages of an older, larger batch are removed.

    Args:
        tally: counts of the rows; None: the rows are counted first.
    Raises:
        StoreError: a file cannot be written.
    """
    tally = tally or Tally.of(rows)
    shared = _shared(tally, scorer)
    numbered = _numbered(rows)
    names = [path.name, *(f"{path.stem}-{i}{path.suffix}" for i in range(2, ceil(tally.n_rows / MOST) + 1))]
    for number, name in enumerate(names, start=1):
        page = _page(islice(numbered, MOST), scorer, shared, path.parent, number, names)
        with publish(path.with_name(name)) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(page)
    for older in path.parent.glob(f"{path.stem}-*{path.suffix}"):
        if older.stem.removeprefix(f"{path.stem}-").isdecimal() and older.name not in names:
            older.unlink()


def report_html(rows: Sequence[ClipScore], scorer: ClipScorer) -> str:
    """Return all rows as one page, without links to films."""
    return "".join(_page(_numbered(rows), scorer, _shared(Tally.of(rows), scorer), None, 1, [""]))


def _page(
    numbered: Iterator[tuple[ClipScore, bool]],
    scorer: ClipScorer,
    shared: Mapping[str, Any],
    folder: Path | None,
    number: int,
    names: Sequence[str],
) -> Iterator[str]:
    """Yield a page, self-contained: about 6 kB per clip, and 4 kB more for each decisive face.

    The first `DRAWN` clips are elements of the page. The others are text, which the page's script makes into elements
    as one scrolls, so that a page of 10 000 clips opens at once.

    Args:
        numbered: the page's rows; True for a row of one of several people.
        shared: what all pages of the batch show, see `_shared`.
        folder: folder of the page, from which it links the films; None: no links.
        number: number of the page, from 1.
        names: file names of all pages.
    """
    facts: list[list[Any]] = []

    def shown() -> Iterator[dict[str, Any]]:
        for row, several in numbered:
            facts.append(_fact(row))
            yield _shown(row, folder, several)

    rows = shown()
    return page_pieces(
        "scores.html.j2",
        colored=scorer.classes,
        extra_css="scores.css",
        script="scores.js",
        films=folder is not None,
        first=islice(rows, DRAWN),
        rest=rows,
        drawn=DRAWN,
        facts=lambda: {  # complete once all rows are written
            "classes": [str(c) for c in scorer.classes],
            "batch": cache_key(rows=[[fact[-1], fact[0]] for fact in facts], model=scorer.bundle.digest)[:16],
            "model": shared["model"],
            "version": scorer.version,
            "rows": facts,
        },
        number=number,
        names=names,
        most=MOST,
        **shared,
    )


def _shared(tally: Tally, scorer: ClipScorer) -> dict[str, Any]:
    """Return what every page of a batch shows."""
    emotions = [(str(c), tally.emotions[str(c)]) for c in scorer.classes if tally.emotions[str(c)]]
    emotions += [("none", without)] if (without := tally.n_rows - tally.emotions.total()) else []
    return {
        "n_rows": tally.n_rows,
        "verdicts": tally.emotions.total(),
        "classes": [str(c) for c in scorer.classes],
        "evaluation": _evaluation(tally, scorer),
        "model": scorer.name or "unregistered model",
        "version": scorer.version,
        "kind": scorer.bundle.facts.model,
        "rule": scorer.joined_by.replace("_", " "),
        "by_frames": scorer.bundle.classifier.scores_frames,
        "windows": scorer.windows if scorer.in_windows else None,
        "timelines": tally.timelines,
        "generated": time.strftime("%d %B %Y, %H:%M").lstrip("0"),
        "synthetic": scorer.bundle.facts.synthetic,
        "shares": shares_svg(emotions),
        "emotions": emotions,
        "statuses": list(tally.counts.items()),
        "abstained": tally.abstained,
        "agreement": tally.agreement,
        "seconds": f"{tally.seconds:.0f}",
        "calibrated": scorer.calibrated,
        "abstain_below": scorer.abstain_below,
        "explained": tally.explained,
        "moves": motion_of(scorer.bundle) is not None,
        "heat": tally.heat,
        "digest": scorer.bundle.digest[:12],
        "ferflow": __version__,
    }


def _numbered(rows: Iterable[ClipScore]) -> Iterator[tuple[ClipScore, bool]]:
    """Yield each row, with True if it is of one of several people of its clip."""
    for _, same in groupby(rows, key=lambda row: (row.digest, row.path)):
        people = list(same)
        several = any(row.person > 1 for row in people)
        yield from ((row, several) for row in people)


def _evaluation(tally: Tally, scorer: ClipScorer) -> dict[str, Any] | None:
    """Return accuracy, mean recall and confusion matrix of the clips that `Agreement` counts; None without any.

    Intervals are resampled by person, or by clip where nobody names the person.
    """
    if not tally.labels:
        return None
    found = evaluate(np.array(tally.verdicts), np.array(tally.labels), tally.people, scorer.classes)
    lines = found.confusion.tolist()
    return {
        "accuracy": str(found.accuracy),
        "mean_recall": str(found.mean_recall),
        "by": "person" if tally.all_named else "clip",
        "matrix": [(str(c), line, sum(line)) for c, line in zip(scorer.classes, lines, strict=True) if sum(line)],
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
