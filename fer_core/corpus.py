"""The corpus of a run: its manifest and split, every clip's faces and features, the table that training reads."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_core.clips.clip import Clip, Split
from fer_core.clips.leaks import check_leaks
from fer_core.clips.manifest import Manifest, fingerprint, read_manifest
from fer_core.clips.neutral import SUFFIX as FIRST_FRAMES
from fer_core.clips.neutral import shown_digest, with_first_frames
from fer_core.clips.splits import check_split, grouped_folds, split
from fer_core.config import LimitsConfig, PreprocessConfig, RunConfig, SearchConfig
from fer_core.emotions import SIX, Emotion
from fer_core.errors import ClipStatus, ConfigError, DataError
from fer_core.features.augment import PLAIN, View
from fer_core.features.backbone import Backbone
from fer_core.features.descriptors.catalogue import DESCRIPTORS, of_course
from fer_core.features.store import FeatureTable, Layer, Part, build_table, feature_key
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.faces import Faces, Ledger
from fer_core.preprocess.perceptual_hash import look_batch
from fer_core.store import cache_key
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
_PLAIN: tuple[Layer, View] = ("features", PLAIN)


@dataclass(frozen=True)
class ClipRow:
    """What preprocessing made of one clip; JSON-able, for results that cross processes.

    Args:
        clip: id in the manifest.
        digest, key: identity of what it shows and of its faces; empty where the file could not be read.
        status: `ok`, `low_quality`, or why it cannot be used; `reason` says it in words.
        n_frames, n_selected, n_used: frames decoded, selected, and with a face.
        cached: whether the faces were in the store already.
        seconds: wall clock.
    """

    clip: str
    digest: str
    key: str
    status: ClipStatus
    reason: str = ""
    n_frames: int = 0
    n_selected: int = 0
    n_used: int = 0
    cached: bool = False
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> ClipRow:
        return cls(**{**row, "status": ClipStatus(row["status"])})


def load_corpus(cfg: RunConfig, workspace: Workspace) -> Manifest:
    """The labelled clips of a run, split by subject: as the manifest says, else by `cfg.split`.

    With `classes: seven`, neutral clips are kept, and the first frames of `neutral_from` are more of them.

    Raises:
        DataError: there is no manifest, or it or its split is not fit for training.
        ConfigError: first frames are needed, but clips are not cut.
    """
    path = Path(cfg.manifest).expanduser() if cfg.manifest else workspace.manifest
    if not path.is_file():
        raise DataError(
            f"no manifest at {path}; make one with 'ferflow data scan folder ROOT --out {path}', draw one with "
            f"'ferflow data synth', or name yours with --set manifest=FILE"
        )
    manifest = _sided(labelled_clips(path, cfg), cfg, path)
    return manifest if cfg.classes == "six" else _with_neutral(manifest, cfg)


def check_folds(manifest: Manifest, cfg: SearchConfig) -> None:
    """Refuse now folds that its people are too few for; clips that cannot be used may still leave fewer people.

    Raises:
        DataError: as `grouped_folds`.
    """
    clips = trained_on(manifest).clips
    labels = np.array([c.emotion.column for c in clips if c.emotion])
    grouped_folds([c.subject for c in clips], labels, cfg.folds, cfg.seed)


def labelled_clips(path: Path, cfg: RunConfig) -> Manifest:
    """The clips of a manifest that have one of the run's emotions as label.

    Raises:
        DataError: there are none, or the manifest cannot be read.
    """
    manifest = read_manifest(path, neutral=cfg.classes == "seven").labelled()
    if not manifest.clips:
        raise DataError(f"{path}: no labelled clips; it needs rows with one of the six emotions as label")
    return manifest


def _sided(manifest: Manifest, cfg: RunConfig, path: Path) -> Manifest:
    if all(clip.split is None for clip in manifest.clips):
        return split(manifest, cfg.split)
    unsplit = [clip.id for clip in manifest.clips if clip.split is None]
    if unsplit:
        raise DataError(
            f"{path}: {len(unsplit)} of {len(manifest)} clips have no split, the first is '{unsplit[0]}'; "
            "fill the column, or drop it to have the clips split by subject"
        )
    for warning in check_split(manifest):
        log.warning("%s", warning)
    return manifest


def _with_neutral(manifest: Manifest, cfg: RunConfig) -> Manifest:
    """Neutral clips of first frames added; the sides are given by then, so no subject changes its side."""
    whole = with_first_frames(manifest, cfg.neutral_from)
    if len(whole) > len(manifest) and cfg.preprocess.apex == "last":
        raise ConfigError(
            "preprocess.apex is 'last', which cuts no clip at its first frames; use 'given' or 'estimate' for neutral "
            "clips of first frames, or set neutral_from=[]"
        )
    if not any(c.emotion is Emotion.NEUTRAL for c in trained_on(whole).clips):
        raise DataError(
            "classes is 'seven', but no clip to train on is neutral; label some, name in neutral_from the databases "
            f"whose clips begin neutral (here are {', '.join(filter(None, manifest.datasets)) or 'none named'}), or "
            "use six"
        )
    return whole


def prepare_clips(
    clips: Sequence[Clip],
    cfg: PreprocessConfig,
    limits: LimitsConfig,
    workspace: Workspace,
    progress: Progress | None = None,
) -> list[ClipRow]:
    """Faces of every clip into the store; one row a clip, in order, whatever became of it."""
    rows = []
    for made in preprocess_batch(clips, cfg, limits, workspace.faces, progress=progress):
        faces, error = made.faces, made.error
        ok = ClipStatus.LOW_QUALITY if faces is not None and faces.low_quality else ClipStatus.OK
        rows.append(
            ClipRow(
                clip=made.clip.id,
                digest=shown_digest(made.clip, made.digest),
                key=made.key,
                status=error.status if error else ok,
                reason=error.reason if error else "",
                n_frames=faces.n_frames if faces else 0,
                n_selected=faces.n_selected if faces else 0,
                n_used=faces.n_used if faces else 0,
                cached=made.cached,
                seconds=made.seconds,
            )
        )
    return rows


def keep_usable(rows: Sequence[ClipRow], limits: LimitsConfig) -> list[ClipRow]:
    """The rows that can be trained on; the others are quarantined, each with its reason in the log.

    Raises:
        DataError: more than `limits.max_quarantine` of the clips are unusable.
    """
    bad = [row for row in rows if not row.status.scored]
    for row in bad:
        log.warning("clip '%s' is left out: %s (%s)", row.clip, row.reason, row.status.value)
    if len(bad) > limits.max_quarantine * len(rows):
        reasons = ", ".join(f"{n} {status}" for status, n in Counter(r.status.value for r in bad).most_common())
        raise DataError(
            f"{len(bad)} of {len(rows)} clips cannot be used ({reasons}), the first is '{bad[0].clip}': {bad[0].reason}"
            f"; mend or drop them, or raise limits.max_quarantine (now {limits.max_quarantine:g})"
        )
    return [row for row in rows if row.status.scored]


def refuse_leaks(
    manifest: Manifest,
    rows: Sequence[ClipRow],
    cfg: RunConfig,
    workspace: Workspace,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Refuse one recording under two names, which would be on two sides of some split, whoever made the split.

    That a clip's first frames are a neutral clip of the same file is meant. A clip is looked at once, and known then.

    Args:
        progress: called with (clips looked at, clips in all).
    Raises:
        DataError: the same content has two subjects or two labels, or clips of two people look like one recording.
    """
    own = Manifest(tuple(c for c in manifest.clips if not c.id.endswith(FIRST_FRAMES)))
    check_leaks(own, {row.clip: row.digest for row in rows if row.digest}).refuse()
    usable = {row.clip for row in rows if row.status.scored}
    looks = look_batch([c for c in own.clips if c.id in usable], cfg.limits, workspace.store, progress)
    hashes = {seen.clip.id: seen.hash for seen in looks if seen.hash is not None}
    check_leaks(own, hashes=hashes, allow_pairs=cfg.split.allow_pairs).refuse()


def refuse_shared(
    fitted: tuple[Sequence[Clip], Sequence[ClipRow]],
    shown: tuple[Sequence[Clip], Sequence[ClipRow]],
    name: str,
    cfg: RunConfig,
    workspace: Workspace,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Refuse a recording that is among the clips fitted to and, as somebody else's, among those shown afterwards. A
    person who is among both is refused by whoever fits.

    Args:
        fitted, shown: clips and their rows. name: of the latter, told in front of their ids.
        progress: called with (clips looked at, clips in all).
    Raises:
        DataError: as `refuse_leaks`.
    """
    people = {clip.subject for clip in fitted[0]}
    others = [clip for clip in shown[0] if clip.subject not in people]
    clips = [*fitted[0], *(replace(clip, id=f"{name}: {clip.id}") for clip in others)]
    rows = [*fitted[1], *(replace(row, clip=f"{name}: {row.clip}") for row in shown[1])]
    refuse_leaks(Manifest(tuple(clips)), rows, cfg, workspace, progress)


def stored_ledgers(rows: Iterable[ClipRow], workspace: Workspace) -> Iterator[tuple[str, Ledger]]:
    """(clip id, ledger) of every clip that was looked through, also those without any face."""
    for row in rows:
        if row.key and (faces := workspace.faces.get(row.key)) is not None:
            yield row.clip, faces.ledger


def stored_faces(rows: Iterable[ClipRow], workspace: Workspace) -> Iterable[Faces]:
    """The faces of usable rows, in order.

    Raises:
        DataError: the store has lost them since.
    """
    for row in rows:
        faces = workspace.faces.get(row.key)
        if faces is None:
            raise DataError(f"clip '{row.clip}': its faces are no longer in the store; run 'ferflow preprocess' again")
        yield faces


@dataclass(frozen=True)
class Wanted:
    """What fits read of the clips.

    Args:
        plain: whether they read features of the plain faces at all.
        features: augmented views of the features; maps: those at the backbone's cut, by their views.
        descriptors: names of descriptors, of a clip's faces or of its whole course's.
    """

    plain: bool = True
    features: tuple[View, ...] = ()
    maps: tuple[View, ...] = ()
    descriptors: tuple[str, ...] = ()

    def parts(self) -> Iterator[tuple[Layer, View]]:
        """Maps first: features are made of them where they are there."""
        yield from (("maps", view) for view in self.maps)
        yield from (("features", view) for view in self.features)

    @property
    def backbone(self) -> bool:
        """Whether the convolutions are needed."""
        return self.plain or bool(self.maps)

    @property
    def course(self) -> bool:
        """Whether the faces of the clips' whole course are needed."""
        return of_course(self.descriptors)


def trained_on(manifest: Manifest) -> Manifest:
    """The clips that heads are trained on: train and validation; never those of the test set."""
    return manifest.of(Split.TRAIN, Split.VALIDATION)


def store_features(
    rows: Sequence[ClipRow],
    backbone: Backbone,
    workspace: Workspace,
    progress: Progress | None = None,
    *,
    extra: Wanted = Wanted(),
    trained: Collection[str] = (),
) -> int:
    """See that every row's features are stored; returns how many frames had to be computed, each view counted.

    Args:
        extra: what else is stored, of the clips in `trained` only: augmentation touches the training side alone.
    """
    computed = 0
    for done, (row, faces) in enumerate(zip(rows, stored_faces(rows, workspace), strict=True), start=1):
        parts = [*(extra.parts() if row.clip in trained else ()), *([_PLAIN] if extra.plain else ())]
        for layer, view in parts:
            if feature_key(row.key, backbone, view, layer) not in workspace.features.entries:
                computed += faces.n_used
                workspace.features.take(layer, faces, backbone, view)
        if progress:
            progress(done, len(rows))
    return computed


def training_table(
    manifest: Manifest,
    rows: Sequence[ClipRow],
    backbone: Backbone | None,
    cfg: PreprocessConfig,
    workspace: Workspace,
    *,
    course: Sequence[ClipRow] = (),
    extra: Wanted = Wanted(),
    classes: tuple[Emotion, ...] = SIX,
) -> FeatureTable:
    """The table of the train and validation clips among `rows`; test clips are not in it. See `clips_table`."""
    clips, known_as = trained_on(manifest).clips, data_fingerprint(manifest, rows)
    return clips_table(clips, rows, backbone, cfg, workspace, known_as, course=course, extra=extra, classes=classes)


def clips_table(
    clips: Sequence[Clip],
    rows: Sequence[ClipRow],
    backbone: Backbone | None,
    cfg: PreprocessConfig,
    workspace: Workspace,
    fingerprint: str,
    *,
    course: Sequence[ClipRow] = (),
    extra: Wanted = Wanted(),
    classes: tuple[Emotion, ...] = SIX,
) -> FeatureTable:
    """The table of those of some labelled clips that are among `rows`; `training_table` is that of the training side.

    Args:
        backbone: may be None where no features are wanted; the table's are then (N, 0).
        fingerprint: of the data they are part of.
        course: rows of the same clips' whole course, where a descriptor is taken of it.
        extra: what it holds.
    """
    by_id, whole = {row.clip: row for row in rows}, {row.clip: row for row in course}
    clips = [c for c in clips if c.id in by_id]
    chosen = [by_id[c.id] for c in clips]

    def part(layer: Layer, view: View) -> Part:
        assert backbone is not None
        return Part(
            layer,
            [feature_key(row.key, backbone, view, layer) for row in chosen],
            lambda: (workspace.features.take(layer, f, backbone, view) for f in stored_faces(chosen, workspace)),
        )

    def described(name: str) -> Part:
        descriptor = DESCRIPTORS[name]
        of = chosen if descriptor.source == "expression" else [whole[c.id] for c in clips]
        keys = [cache_key(faces=row.key, descriptor=descriptor.identity) for row in of]
        return Part(
            "described", keys, lambda: (descriptor.describe(f.pixels)[None] for f in stored_faces(of, workspace)), name
        )

    note = {**(backbone.identity if backbone else {}), "preprocess": cfg.model_dump_json(), "fingerprint": fingerprint}
    if extra.plain:
        plain = part(*_PLAIN)
        keys, features = plain.keys, list(plain.rows())
    else:
        keys, features = [row.key for row in chosen], [np.empty((row.n_used, 0), np.float16) for row in chosen]
    parts = [*(part(layer, view) for layer, view in extra.parts()), *map(described, extra.descriptors)]
    return build_table(clips, features, keys, workspace.features, note, classes, parts)


def data_fingerprint(manifest: Manifest, rows: Sequence[ClipRow]) -> str:
    """Fingerprint of the clips that are used, and of the split they are in; see `clips.manifest.fingerprint`."""
    return clips_fingerprint(manifest.clips, rows)


def clips_fingerprint(clips: Sequence[Clip], rows: Sequence[ClipRow]) -> str:
    """Fingerprint of those of some clips that have rows."""
    digests = {row.clip: row.digest for row in rows}
    return fingerprint(Manifest(tuple(c for c in clips if c.id in digests)), digests)
