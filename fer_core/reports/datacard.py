"""The data card as a page: tables like the thesis's and pictures of the data, in one file."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from fer_core import __version__
from fer_core.clips.cells import markdown_text
from fer_core.clips.clip import Split
from fer_core.clips.datasets import may_leave
from fer_core.emotions import SIX, Classes
from fer_core.evaluation.datacard import ClipFacts, DataCard, Sighting, lost
from fer_core.preprocess.faces import FrameStatus
from fer_core.published import TABLE_3_2, TABLE_4_2
from fer_core.reports.distributions import ledger_svg, meter_svg, spread_svg
from fer_core.reports.page import clean, data_uri, render_page, shares_svg

SIDES = {Split.TRAIN: "training", Split.TEST: "test", Split.VALIDATION: "validation"}  # Table 3.2's order
TILES = ("first", "middle", "apex", "as seen")
_SIZES = 8  # frame sizes listed; the others are counted together
_GROUP_VALUES = 12


class Database(NamedTuple):
    """Facts about a database (thesis, Table 3.1)."""

    title: str
    elicitation: str
    course: str


DATABASES = {
    "ckplus": Database("CK+", "posed", "neutral → apex"),
    "mug": Database("MUG", "posed, induced", "neutral → apex → neutral"),
    "mmi": Database("MMI", "posed", "onset → apex → offset"),
    "ised": Database("ISED", "spontaneous", "peak annotated"),
    "afew": Database("AFEW", "acted, films", "none"),
    "ravdess": Database("RAVDESS", "acted, spoken", "not regular"),
    "cremad": Database("CREMA-D", "acted, spoken", "not regular"),
    "ferflow-synthetic": Database("ferflow-synthetic", "drawn", "neutral → apex"),
}


def card_html(card: DataCard, *, faces: bool = True) -> str:
    """Return the card as a self-contained HTML page.

    Args:
        faces: show people's faces. Without them, the page may be shared even if the faces may not.
    """
    facts, emotions = card.facts, card.emotions
    counts = card.manifest.class_counts()
    many = len(card.manifest.datasets) > 1
    selected, used = sum(len(f.ledger) for f in facts), sum(f.n_used for f in facts)
    seconds = [f.seconds for f in facts if not math.isnan(f.seconds)]
    return render_page(
        "datacard.html.j2",
        extra_css="datacard.css",
        colored=emotions,
        name=card.name,
        generated=time.strftime("%d %B %Y, %H:%M").lstrip("0"),
        fingerprint=card.fingerprint,
        ferflow=__version__,
        synthetic=card.manifest.synthetic,
        all_synthetic=all(c.synthetic for c in card.manifest.clips),
        redistribute=card.redistribute,
        faces=faces,
        warnings=card.warnings,
        emotions=emotions,
        n_clips=len(facts),
        n_subjects=len(card.manifest.subjects),
        n_databases=len(card.manifest.datasets),
        shares=shares_svg([(str(e), n) for e, n in counts.items()]),
        counts=[(str(e), n) for e, n in counts.items()],
        unusable=[(s.value, n) for s, n in Counter(f.status for f in facts if not f.status.scored).most_common()],
        n_frames=_count(sum(f.n_frames for f in facts)),
        minutes=f"{sum(seconds) / 60:.1f}" if seconds else "",
        selected=_count(selected),
        found=_percent(used, selected),
        dropped=sorted(card.dropped.items()),
        databases=[_database(card, name) for name in card.manifest.datasets],
        sides=_sides(card),
        all_known=all(c.subject for c in card.manifest.clips),
        unsplit=all(c.split is None for c in card.manifest.clips),
        classes=[{"name": str(e), **_amounts(card.of(emotion=e))} for e in emotions],
        class_sums=_amounts(facts),
        thesis_frames=[_count(n) if isinstance(n, int) else n for n in _as_thesis(TABLE_4_2, emotions)],
        found_by=_found_by(card),
        lost_by=[_lost(name or "(none)", card.of(dataset=name)) for name in card.manifest.datasets]
        + ([_lost("all", facts)] if many else []),
        groups=_groups(card),
        sheet=[(str(e), [_sighting(s, many, faces) for s in row]) for e, row in card.sheet.items()],
        charts=_charts(card),
        sizes=_sizes(facts),
        tiles=TILES,
        legend=[(f"d{i % 6}", name or "(none)") for i, name in enumerate(card.manifest.datasets)] if many else [],
        giveaway=card.giveaway and f"{100 * card.giveaway.value:.0f}",
        giveaway_range=card.giveaway and f"{100 * card.giveaway.low:.0f} to {100 * card.giveaway.high:.0f}",
        told=bool(card.giveaway and card.giveaway.low > 1 / max(sum(n > 0 for n in counts.values()), 1)),
        chance=f"{100 / max(sum(n > 0 for n in counts.values()), 1):.0f}",
        worst=[_worst(f, face if faces else None) for f, face in card.worst],
        n_wanting=sum(f.found < 1 for f in facts),
        how=_how(card),
    )


def _count(n: int) -> str:
    """Return a number with spaces that do not break, 1 234 567 for 1234567."""
    return f"{n:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _percent(part: int, whole: int) -> str:
    """Return a percentage with one decimal: 100 only if nothing is missing, 0 only if nothing is there."""
    if not whole:
        return "–"
    if part in (0, whole):
        return "100 %" if part else "0 %"
    return f"{min(max(100 * part / whole, 0.1), 99.9):.1f} %"


def _database(card: DataCard, name: str) -> dict[str, Any]:
    """Return the facts about a database, a row of Table 3.1."""
    facts = card.of(dataset=name)
    clips = [f.clip for f in facts]
    known = DATABASES.get(name, Database(name or "(none)", "rendered" if clips[0].synthetic else "–", "–"))
    decoded = [f for f in facts if f.n_frames]
    counts = Counter(f.clip.emotion for f in facts)
    given = sum(c.apex is not None for c in clips)
    at_end = sum(f.clip.apex == f.n_frames - 1 for f in decoded)
    rates = [round(f.n_frames / f.seconds) for f in decoded if f.seconds > 0]
    return {
        "title": known.title,
        "elicitation": known.elicitation,
        "classes": sum(counts[e] > 0 for e in card.emotions),
        "people": len({c.subject for c in clips if c.subject}) or "unknown",
        "clips": _count(len(clips)),
        "form": ", ".join(form for form, _ in Counter(f.form for f in facts).most_common())
        + (f", {_range(rates)} fps" if rates else ""),
        "frames": _range([f.n_frames for f in decoded]),
        "course": known.course,
        "apex": "not known"
        if not given
        else f"known in {_of(given, len(clips))}, the last frame in {_of(at_end, given)}",
        "leaves": all(may_leave(c) for c in clips),
    }


def _of(part: int, whole: int) -> str:
    return "all" if part == whole else f"{part} of {whole}"


def _range(values: Collection[int]) -> str:
    """Return `7`, or `3–9`, or a dash without values."""
    if not values:
        return "–"
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"


def _sides(card: DataCard) -> list[dict[str, Any]]:
    """Return the rows of Table 3.2, each side followed by the thesis's numbers; one row if there is no split."""
    rows = []
    for side in (*SIDES, None):
        clips = [c for c in card.manifest.clips if c.split is side]
        if not clips:
            continue
        counts = Counter(c.emotion for c in clips)
        rows.append(
            {
                "name": SIDES[side] if side else "no side",
                "counts": [counts[e] for e in card.emotions],
                "total": len(clips),
                "people": len({c.subject for c in clips if c.subject}) or "unknown",
                "thesis": _as_thesis(TABLE_3_2[side], card.emotions) if side else [],
            }
        )
    return rows


def _as_thesis(counts: Sequence[int], classes: Classes) -> list[int | str]:
    """Return the thesis's numbers for these classes, and their sum; empty if the thesis has none of the classes."""
    own: dict[str, int] = dict(zip(SIX, counts, strict=True))
    shared = [own[label] for label in classes if label in own]
    return [*(own.get(label, "") for label in classes), sum(shared)] if shared else []


def _amounts(facts: Sequence[ClipFacts]) -> dict[str, str]:
    """Return the numbers of clips, people and frames of a class, as in Table 4.2 (`train`), and more."""
    split = any(f.clip.split for f in facts)
    train = [f for f in facts if f.clip.split is Split.TRAIN or not split]
    seconds = [f.seconds for f in facts if not math.isnan(f.seconds)]
    people = Counter(f.clip.subject for f in facts if f.clip.subject)
    return {
        "clips": _count(len(facts)),
        "people": _count(len(people)) if people else "unknown",
        "each": _range(people.values()),
        "frames": _count(sum(f.n_frames for f in facts)),
        "seconds": f"{sum(seconds):.0f}" if seconds else "–",
        "selected": _count(sum(len(f.ledger) for f in facts)),
        "faces": _count(sum(f.n_used for f in facts)),
        "train": _count(sum(f.n_used for f in train if f.status.scored)),
    }


def _found_by(card: DataCard) -> list[dict[str, Any]]:
    """Return the share of selected frames with a face: rows are databases, columns classes, totals come last."""
    names: list[str | None] = [*card.manifest.datasets]
    rows = []
    for name in [*names, None] if len(names) > 1 else names:
        here = list(card.facts) if name is None else card.of(dataset=name)
        cells = [[f for f in here if f.clip.emotion == e] for e in card.emotions]
        rows.append({"name": "all" if name is None else name or "(none)", "cells": [_cell(c) for c in [*cells, here]]})
    return rows


def _cell(facts: Sequence[ClipFacts]) -> dict[str, Any]:
    whole, part = sum(len(f.ledger) for f in facts), sum(f.n_used for f in facts)
    share = part / whole if whole else math.nan
    return {
        "text": _percent(part, whole),
        "clips": len(facts),
        "level": "" if not whole or share >= 0.97 else "poor" if share < 0.9 else "fair",
        "meter": meter_svg(share),
    }


def _lost(name: str, facts: Sequence[ClipFacts]) -> dict[str, Any]:
    reasons = lost(facts)
    selected = sum(len(f.ledger) for f in facts)
    return {
        "name": name,
        "selected": _count(selected),
        "reasons": [(_count(n), _percent(n, selected) if n else "") for n in reasons.values()],
        "clips": sum(not f.status.scored for f in facts),
        "weak": sum(f.status.scored and f.status.value != "ok" for f in facts),
    }


def _groups(card: DataCard) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return clips and people by `group_*` column; columns with many values (names, numbers) are left out."""
    names = sorted({name for f in card.facts for name in f.clip.groups})
    tables = []
    for name in names:
        values = sorted({f.clip.groups.get(name, "") for f in card.facts}, key=lambda v: (not v, v))
        if len(values) > _GROUP_VALUES:
            continue
        rows = []
        for value in values:
            facts = [f for f in card.facts if f.clip.groups.get(name, "") == value]
            counts = Counter(f.clip.emotion for f in facts)
            rows.append(
                {
                    "name": value or "not told",
                    "counts": [counts[e] for e in card.emotions],
                    "total": len(facts),
                    "people": len({f.clip.subject for f in facts if f.clip.subject}) or "unknown",
                    "found": _cell(facts)["text"],
                }
            )
        tables.append((name, rows))
    return tables


def _sighting(sighting: Sighting, many: bool, faces: bool) -> dict[str, Any]:
    whose = sighting.clip.subject or sighting.clip.id
    pictures = [*sighting.faces, sighting.seen] if faces else []
    return {
        "name": clean(whose if many else whose.rpartition(":")[2]),
        "tiles": [
            (data_uri(_jpeg(picture)) if picture is not None else "", place)
            for picture, place in zip(pictures, TILES, strict=False)
        ],
        "frames": sighting.frames,
    }


def _jpeg(face: np.ndarray, side: int = 112) -> bytes:
    small = face if face.shape[0] == side else cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def _worst(f: ClipFacts, face: np.ndarray | None) -> dict[str, Any]:
    missing = Counter(status.value.replace("_", " ") for status in f.ledger if status is not FrameStatus.USED)
    return {
        "clip": clean(f.clip.id),
        "emotion": str(f.clip.emotion),
        "status": f.status.value,
        "flags": [flag for flag in f.flags if flag != f.status.value],
        "reason": clean(f.reason),
        "lost": ", ".join(f"{n} {reason}" for reason, n in missing.items()),
        "used": f.n_used,
        "selected": len(f.ledger),
        "strip": ledger_svg(f.ledger),
        "face": data_uri(_jpeg(face, 64)) if face is not None else "",
    }


def _sizes(facts: Sequence[ClipFacts]) -> list[dict[str, Any]]:
    """Return the frame sizes by the number of clips that have them."""
    counts = Counter((f.width, f.height) for f in facts if f.width)
    rows = [(f"{w} × {h}", n) for (w, h), n in counts.most_common(_SIZES)]
    if rest := list(counts.values())[_SIZES:]:
        others = sum(counts.values()) - sum(n for _, n in rows)
        rows.append((f"{len(rest)} other sizes", others))
    most = max((n for _, n in rows), default=1)
    return [{"name": name, "clips": n, "meter": meter_svg(n / most)} for name, n in rows]


def _charts(card: DataCard) -> list[dict[str, Any]]:
    """Return charts of length, face size and brightness: histogram by database, and range of each class."""
    facts = [f for f in card.facts if f.n_frames]
    kinds = (
        ("Length", "frames up to the apex, or to the end", [float(f.end + 1) for f in facts]),
        ("Face size", "side of the face box, pixels", [f.face for f in facts]),
        ("Brightness", "mean grey level of the face before equalisation, 0 to 255", [f.brightness for f in facts]),
    )
    databases = [card.manifest.datasets.index(f.clip.dataset) % 6 for f in facts]
    emotions = [f.clip.emotion for f in facts]
    return [
        {"title": title, "unit": unit, "svg": spread_svg(np.array(values), databases, emotions, card.emotions)}
        for title, unit, values in kinds
        if np.isfinite(values).any()
    ]


def _how(card: DataCard) -> str:
    cfg = card.preprocess
    parts = [
        "second half of a clip" if cfg.selection == "second_half" else "all frames",
        {"last": "not cut", "given": "cut at its apex where the manifest names one"}.get(
            cfg.apex, "cut at its apex, estimated where the manifest names none"
        ),
        f"at most {cfg.max_frames} frames" if cfg.max_frames else "",
        f"Viola–Jones {cfg.face.mode.replace('_', ' ')}, weight ≥ {cfg.face.min_weight:g}",
        {"thesis": "equalised by eq. 3.1–3.4", "opencv": "equalised by OpenCV"}.get(cfg.equalize, "not equalised"),
        f"{cfg.size} × {cfg.size}",
    ]
    return ", ".join(part for part in parts if part)


def markdown_card(card: DataCard) -> str:
    """Return the card as a few lines of Markdown, without pictures."""
    columns = ("clips", "people", "frames", "seconds", "selected", "faces")
    lines = [
        f"## {markdown_text(clean(card.name))}: {len(card.facts)} clips of {len(card.manifest.subjects)} people",
        "",
    ]
    if card.manifest.synthetic:
        lines += ["**Synthetic faces: numbers made from them say nothing about people.**", ""]
    lines += [f"| class | {' | '.join(columns)} |", f"|{' --- |' * (len(columns) + 1)}"]
    for name, facts in [*((str(e), card.of(emotion=e)) for e in card.emotions), ("all", card.facts)]:
        amounts = _amounts(facts)
        lines.append(f"| {name} | {' | '.join(amounts[c] for c in columns)} |")
    return "\n".join([*lines, "", *(f"- {markdown_text(clean(w))}" for w in card.warnings), ""])
