"""Compute the data card: the contents of a manifest, the results of preprocessing, and the clips to inspect.

`reports.datacard` makes the page.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from fer_core.clips.clip import VIDEO_SUFFIXES, Clip, Split
from fer_core.clips.datasets import Scan, may_leave
from fer_core.clips.leaks import check_leaks
from fer_core.clips.manifest import Manifest
from fer_core.clips.splits import check_split, grouped_folds
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.dataset.dataset import data_fingerprint
from fer_core.emotions import Classes
from fer_core.errors import ClipStatus, DataError
from fer_core.evaluation.metrics import Interval, evaluate
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.clip_rows import ClipRow
from fer_core.preprocess.faces import Faces, FrameStatus
from fer_core.preprocess.store import FacesStore

SHEET_CLIPS = 4  # clips of each emotion in the contact sheet
WORST = 12
FOLDS = 5
_LOOK = {
    "selection": "all",
    "apex": "given",
    "equalize": "none",
    "size": 112,
}  # small, not equalised
_LOOKS = 3  # frames per clip for measuring brightness

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ClipFacts:
    """Preprocessing results of one clip.

    Args:
        status, reason: see `preprocess.clip_rows.ClipRow`.
        n_frames: number of decoded frames.
        end: index of the frame at which the clip is cut (the apex); the last frame if it is not cut.
        seconds: duration of the whole clip; NaN if unknown (frame folders).
        width, height: in pixels, after rotation; 0 if no frame was decoded.
        ledger: status of every selected frame, in order.
        face: median side of the face box, pixels; NaN without a face.
        brightness: mean grey level of the faces before equalisation, 0 ... 255; NaN without a face.
        flags: see `Faces.flags`.
    """

    clip: Clip
    status: ClipStatus
    reason: str
    n_frames: int = 0
    end: int = 0
    seconds: float = math.nan
    width: int = 0
    height: int = 0
    ledger: tuple[FrameStatus, ...] = ()
    face: float = math.nan
    brightness: float = math.nan
    flags: tuple[str, ...] = ()

    @property
    def n_used(self) -> int:
        return sum(s is FrameStatus.USED for s in self.ledger)

    @property
    def found(self) -> float:
        """Share of the selected frames in which a face was found; 0 if no frame was selected."""
        return self.n_used / max(len(self.ledger), 1)

    @property
    def form(self) -> str:
        """`mp4`, `avi` ..., or `frames` for a folder of frames."""
        suffix = self.clip.path.suffix.lower()
        return suffix[1:] if suffix in VIDEO_SUFFIXES else "frames"


@dataclass(frozen=True)
class Sighting:
    """A clip in the contact sheet.

    Args:
        frames: indices of the first, middle and last frame, from 0; the last is the apex if it is known.
        faces: (112, 112) uint8 faces of these frames, not equalised; None if no face was found.
        seen: the last used face as the network reads it, equalised.
    """

    clip: Clip
    frames: tuple[int, int, int]
    faces: tuple[np.ndarray | None, ...]
    seen: np.ndarray


@dataclass(frozen=True)
class DataCard:
    """Contents of a data card.

    Args:
        name: name of the manifest.
        manifest: the labelled clips.
        facts: one per clip, in the order of the manifest.
        dropped: reason -> number of rows left out.
        warnings: sentences that a reader must know before using results from this data.
        fingerprint: fingerprint of the usable clips and their split.
        preprocess: settings of preprocessing.
        sheet: emotion -> some randomly drawn clips.
        worst: the clips with the fewest faces, worst first, each with its last face as the network reads it, or None.
        giveaway: mean recall of a classifier that sees no face (see `blind_baseline`); None if it cannot be measured.
    """

    name: str
    manifest: Manifest
    facts: tuple[ClipFacts, ...]
    dropped: Mapping[str, int]
    warnings: tuple[str, ...]
    fingerprint: str
    preprocess: PreprocessConfig
    sheet: Mapping[str, tuple[Sighting, ...]]
    worst: tuple[tuple[ClipFacts, np.ndarray | None], ...]
    giveaway: Interval | None

    @property
    def redistribute(self) -> bool:
        """True if the licences of all clips allow showing their pictures to others."""
        return all(may_leave(c) for c in self.manifest.clips)

    @property
    def emotions(self) -> Classes:
        """The classes, in the order of the tables."""
        return self.manifest.classes

    def of(self, **wanted: Any) -> list[ClipFacts]:
        """Return the facts of the clips with these values, for example `of(emotion=…, dataset=…)`."""
        return [f for f in self.facts if all(getattr(f.clip, name) == value for name, value in wanted.items())]

    def numbers(self) -> dict[str, Any]:
        """Return the main numbers, JSON-able."""
        return {
            "clips": len(self.facts),
            "usable": sum(f.status.scored for f in self.facts),
            "subjects": len(self.manifest.subjects),
            "databases": [name or "(none)" for name in self.manifest.datasets],
            "frames": sum(f.n_frames for f in self.facts),
            "selected": sum(len(f.ledger) for f in self.facts),
            "faces": sum(f.n_used for f in self.facts),
            "lost": lost(self.facts),
            "status": dict(Counter(f.status.value for f in self.facts)),
            "classes": {str(e): n for e, n in self.manifest.class_counts().items()},
            "giveaway": None if self.giveaway is None else self.giveaway.value,
            "fingerprint": self.fingerprint,
            "synthetic": self.manifest.synthetic,
            "redistribute": self.redistribute,
            "warnings": list(self.warnings),
        }


def data_card(
    name: str,
    found: Scan,
    rows: Sequence[ClipRow],
    cfg: PreprocessConfig,
    limits: LimitsConfig,
    store: FacesStore,
    progress: Progress | None = None,
) -> DataCard:
    """Make the data card of a manifest after preprocessing.

    Args:
        found: the manifest and the rows left out of it, from `scan("manifest", …)`.
        rows: from `preprocess.clip_rows.store_faces` with `cfg`, one per clip, in order.
        progress: called with (done, total) while the brightness of every clip is measured.
    """
    pairs = zip(found.manifest.clips, rows, strict=True)
    looked = [_facts(clip, row, store.get(row.key) if row.key else None) for clip, row in pairs]
    brightness = _brightness([f for f in looked if f.n_used], cfg, limits, store, progress)
    facts = tuple(replace(f, brightness=brightness.get(f.clip.id, math.nan)) for f in looked)
    keys = {row.clip: row.key for row in rows}
    usable = [row for row in rows if row.status.scored]
    return DataCard(
        name=name,
        manifest=found.manifest,
        facts=facts,
        dropped=found.dropped,
        warnings=(*found.warnings, *_warnings(found.manifest, rows)),
        fingerprint=data_fingerprint(found.manifest, usable),
        preprocess=cfg,
        sheet=_sheet(facts, found.manifest.classes, keys, cfg, limits, store),
        worst=tuple((f, _last_face(keys[f.clip.id], store)) for f in worst(facts)),
        giveaway=blind_baseline([f for f in facts if f.status.scored]),
    )


def lost(facts: Iterable[ClipFacts]) -> dict[str, int]:
    """Count the selected frames without a face, by reason; every reason is a key."""
    counts = Counter(status for f in facts for status in f.ledger)
    return {s.value: counts[s] for s in FrameStatus if s is not FrameStatus.USED}


def worst(facts: Iterable[ClipFacts], n: int = WORST) -> list[ClipFacts]:
    """Return unusable clips, then clips by increasing share of frames with a face; clips with all faces are left
    out."""
    wanting = [f for f in facts if f.status is not ClipStatus.OK or f.found < 1]
    return sorted(wanting, key=lambda f: (f.status.scored, f.found, f.clip.id))[:n]


def blind_baseline(facts: Sequence[ClipFacts]) -> Interval | None:
    """Return the mean recall of a shallow decision tree that reads length, size, brightness and database, but no face.

    The predictions are out of fold, by subject. If the result is well above chance, the way a clip was recorded reveals
    its emotion, and a network may learn this instead of the face. None if subjects are unknown or too few, or if there
    is only one class.
    """
    subjects = [f.clip.subject for f in facts]
    shown = [f.clip.emotion for f in facts if f.clip.emotion]
    if not all(subjects) or len(set(subjects)) < FOLDS or len(set(shown)) < 2 or len(shown) < len(facts):
        return None
    present, labels = np.unique(shown, return_inverse=True)
    databases = sorted({f.clip.dataset for f in facts})
    table = np.array(
        [
            (f.end, f.seconds, f.width, f.height, f.face, f.brightness, *(f.clip.dataset == d for d in databases))
            for f in facts
        ],
        dtype=np.float32,
    )
    table[:, np.isnan(table).all(axis=0)] = 0
    verdicts = np.zeros(len(labels), dtype=np.int64)
    for train, test in grouped_folds(subjects, labels, FOLDS, seed=0):
        tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=5, class_weight="balanced", random_state=0)
        verdicts[test] = tree.fit(table[train], labels[train]).predict(table[test])
    return evaluate(verdicts, labels, subjects, tuple(present.tolist())).mean_recall


def _facts(clip: Clip, row: ClipRow, faces: Faces | None) -> ClipFacts:
    if faces is None:
        return ClipFacts(clip, row.status, row.reason)
    sides = faces.ledger.box[faces.ledger.used][:, 2]
    return ClipFacts(
        clip=clip,
        status=row.status,
        reason=row.reason,
        n_frames=faces.n_frames,
        end=faces.apex if faces.apex >= 0 else faces.n_frames - 1,
        seconds=faces.duration_s or math.nan,
        width=faces.width,
        height=faces.height,
        ledger=faces.ledger.status,
        face=float(np.median(sides)) if len(sides) else math.nan,
        flags=faces.flags,
    )


def _brightness(
    facts: Sequence[ClipFacts],
    cfg: PreprocessConfig,
    limits: LimitsConfig,
    store: FacesStore,
    progress: Progress | None,
) -> dict[str, float]:
    look = cfg.model_copy(update={**_LOOK, "max_frames": _LOOKS})
    batch = preprocess_batch([replace(f.clip, apex=f.end) for f in facts], look, limits, store, progress=progress)
    return {made.clip.id: float(made.faces.pixels.mean()) for made in batch if made.faces and made.faces.n_used}


def _sheet(
    facts: Sequence[ClipFacts],
    classes: Classes,
    keys: Mapping[str, str],
    cfg: PreprocessConfig,
    limits: LimitsConfig,
    store: FacesStore,
) -> dict[str, tuple[Sighting, ...]]:
    chosen = [f for e in classes for f in _drawn([f for f in facts if f.clip.emotion == e and f.status.scored])]
    places = [(0, f.end // 2, f.end) for f in chosen]
    # A clip cut at frame k, of which one frame is kept, is that frame.
    alone = cfg.model_copy(update={**_LOOK, "max_frames": 1})
    single = [replace(f.clip, apex=k) for f, frames in zip(chosen, places, strict=True) for k in frames]
    made = (result.faces for result in preprocess_batch(single, alone, limits, store))
    pictures = iter([faces.pixels[0] if faces and faces.n_used else None for faces in made])
    sheet: dict[str, list[Sighting]] = {}
    for f, frames in zip(chosen, places, strict=True):
        faces = tuple(next(pictures) for _ in frames)
        seen = _last_face(keys[f.clip.id], store)
        if seen is not None and f.clip.emotion:
            sheet.setdefault(f.clip.emotion, []).append(Sighting(f.clip, frames, faces, seen))
    return {emotion: tuple(sightings) for emotion, sightings in sheet.items()}


def _drawn(facts: Sequence[ClipFacts]) -> list[ClipFacts]:
    """Draw some clips at random, from as many subjects as possible and from the databases in turn."""
    turns: Counter[str] = Counter()
    ranked: list[tuple[int, int, int, ClipFacts]] = []
    for f in sorted(facts, key=lambda f: hashlib.blake2b(f.clip.id.encode(), digest_size=8).digest()):
        person = f.clip.subject or f.clip.id
        ranked.append((turns[person], turns[f"database {f.clip.dataset}"], len(ranked), f))
        turns[person] += 1
        turns[f"database {f.clip.dataset}"] += 1
    return [f for *_, f in sorted(ranked, key=lambda r: r[:3])[:SHEET_CLIPS]]


def _last_face(key: str, store: FacesStore) -> np.ndarray | None:
    faces = store.get(key) if key else None
    return faces.pixels[-1] if faces is not None and faces.n_used else None


def _warnings(manifest: Manifest, rows: Sequence[ClipRow]) -> Iterator[str]:
    report = check_leaks(manifest, {row.clip: row.digest for row in rows if row.digest})
    for leak in report.leaks:
        yield f"{leak.reason[0].upper()}{leak.reason[1:]}."
    if report.repeated:
        first, second = report.repeated[0]
        yield f"{len(report.repeated)} clips have the content of another and count twice: '{second}' is '{first}'."
    if any(c.split is Split.TRAIN for c in manifest.clips):
        try:
            yield from (f"{warning[0].upper()}{warning[1:]}." for warning in check_split(manifest))
        except DataError as exc:
            yield f"{str(exc)[0].upper()}{str(exc)[1:]}."
