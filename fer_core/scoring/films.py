"""Films of a scored batch: each clip with its faces framed, verdicts and a timeline, as `videos/*.mp4`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from fer_core.errors import ClipError
from fer_core.palette import colors_of
from fer_core.preprocess.annotate import Film, Person
from fer_core.preprocess.batch import side_by_side
from fer_core.preprocess.children import Children
from fer_core.preprocess.faces import Ledger
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.scorer import ClipScorer
from fer_core.store import cache_key, publish

FOLDER = "videos"  # in the folder of the results
_MORE_TIME = 4  # drawing and encoding a frame costs a few times as much as decoding it


def write_films(
    rows: Sequence[ClipScore],
    scorer: ClipScorer,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Callable[[ClipScore], ClipScore]:
    """Write the film of every clip with a verdict, and return a function that adds the name of its film to a row.

    A clip that cannot be drawn has no film, and its row says why. A film that is there already is not written again;
    other films in the folder are removed.

    Args:
        out: the folder of the results.
        progress: called with (films done, films in all).
    Raises:
        StoreError: the folder cannot be written.
    """
    places: dict[tuple[str, str], tuple[int, ...]] = {}  # of a clip's rows; the films themselves would fill the memory
    names: dict[tuple[str, str], str] = {}
    for (digest, path), numbered in groupby(enumerate(rows), lambda pair: (pair[1].digest, pair[1].path)):
        people = {place: row for place, row in numbered if _can_be_drawn(row)}
        if people and (digest, path) not in places:
            places[digest, path] = tuple(people)
            film = film_of(tuple(people.values()), scorer)
            names[digest, path] = f"{FOLDER}/{cache_key(clip=digest, film=film.to_json())}.mp4"
    _remove_others(out / FOLDER, {Path(name).name for name in names.values()})
    limits = scorer.limits.model_copy(
        update={name: _MORE_TIME * getattr(scorer.limits, name) for name in ("timeout_s", "timeout_per_minute_s")}
    )
    children = Children(limits)

    def make(key: tuple[str, str]) -> str:
        """Write a film and return why it cannot be written, or nothing."""
        target = out / names[key]
        if target.is_file():
            return ""
        try:
            with publish(target) as temporary, tempfile.NamedTemporaryFile("w", suffix=".json") as plan:
                plan.write(film_of([rows[place] for place in places[key]], scorer).to_json())
                plan.flush()
                children.ask("film", Path(key[1]), digest=key[0], film=plan.name, target=str(temporary))
        except ClipError as exc:
            return exc.reason
        return ""

    faults = {}
    with closing(side_by_side(make, list(places), scorer.limits.workers, children.stop)) as made:
        for done, (key, fault) in enumerate(zip(places, made, strict=True), start=1):
            faults[key] = fault
            if progress is not None:
                progress(done, len(places))
    return lambda row: _with_film(row, names.get((row.digest, row.path), ""), faults)


def _can_be_drawn(row: ClipScore) -> bool:
    return row.ledger is not None and bool(row.digest) and (row.emotion is not None or row.windows is not None)


def _with_film(row: ClipScore, name: str, faults: Mapping[tuple[str, str], str]) -> ClipScore:
    if not name:
        return row
    if fault := faults[row.digest, row.path]:
        return replace(row, reason="; ".join(filter(None, [row.reason, f"it has no film: {fault}"])))
    return replace(row, film=name)


def _remove_others(folder: Path, names: set[str]) -> None:
    for path in folder.glob("*.mp4") if folder.is_dir() else ():
        if path.name not in names:
            path.unlink()


def film_of(people: Sequence[ClipScore], scorer: ClipScorer) -> Film:
    """Return what is drawn over a clip, from its rows: one per person."""
    colors = colors_of(scorer.classes)
    note = f"{scorer.name or 'unregistered model'} {scorer.version}".strip()
    if scorer.bundle.facts.synthetic:
        note += ", trained on synthetic faces"
    return Film(
        classes=[str(label) for label in scorer.classes],
        colors=[[int(colors[label][i : i + 2], 16) for i in (1, 3, 5)] for label in scorer.classes],
        people=[_person(row) for row in people],
        duration_s=people[0].duration_s,
        note=note,
        located=not any("turned" in row.flags for row in people),
    )


def _person(row: ClipScore) -> Person:
    ledger = row.looked_at or row.ledger
    assert ledger is not None
    start, end, label, confidence, weak = _verdicts(row, row.ledger or ledger)
    return Person(
        number=row.person,
        frames=ledger.frame.tolist(),
        boxes=[box if box[2] else [] for box in ledger.box.tolist()],
        start_s=start.tolist(),
        end_s=end.tolist(),
        label=[int(v) for v in label],
        confidence=[float(v) for v in np.nan_to_num(confidence)],
        weak=[bool(v) for v in weak],
    )


def _verdicts(row: ClipScore, ledger: Ledger) -> tuple[np.ndarray, ...]:
    """Return start, end, class, confidence and abstention over time: of windows, else of frames, else of the clip."""
    if row.windows is not None:
        w = row.windows
        return w.start_s, w.end_s, w.index, w.confidence, w.abstained
    fps = row.fps if row.fps > 0 else 25.0
    times = np.where(np.isnan(ledger.time_s), ledger.frame / fps, ledger.time_s).astype(float)
    ends = np.append(times[1:], times[-1] + 1 / fps)
    if row.frame_scores is not None:
        best = np.full(len(ledger), -1)
        sure = np.zeros(len(ledger))
        best[ledger.used], sure[ledger.used] = row.frame_scores.argmax(axis=1), row.frame_scores.max(axis=1)
        return times, ends, best, sure, np.full(len(ledger), row.abstained)
    assert row.emotion is not None
    whole = np.array([row.classes.index(row.emotion)])
    return times[:1], ends[-1:], whole, np.array([row.confidence]), np.array([row.abstained])
