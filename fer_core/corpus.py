"""The corpus of a run: its manifest and split, every clip's faces and features, the table that training reads."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest, fingerprint, read_manifest
from fer_core.clips.splits import check_split, split
from fer_core.config import LimitsConfig, PreprocessConfig, RunConfig
from fer_core.errors import ClipStatus, DataError
from fer_core.model.backbone import Backbone
from fer_core.model.features import FeatureTable, build_table, feature_key
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.faces import Faces
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ClipRow:
    """What preprocessing made of one clip; JSON-able, for results that cross processes.

    Args:
        clip: id in the manifest.
        digest, key: identity of content and faces; empty where the file could not be read.
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

    Raises:
        DataError: there is no manifest, or it or its split is not fit for training.
    """
    path = Path(cfg.manifest).expanduser() if cfg.manifest else workspace.manifest
    if not path.is_file():
        raise DataError(
            f"no manifest at {path}; make one with 'ferflow data scan folder ROOT --out {path}', draw one with "
            f"'ferflow data synth', or name yours with --set manifest=FILE"
        )
    manifest = read_manifest(path).labelled()
    if not manifest.clips:
        raise DataError(f"{path}: no labelled clips; it needs rows with one of the six emotions as label")
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
                digest=made.digest,
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


def store_features(
    rows: Sequence[ClipRow], backbone: Backbone, workspace: Workspace, progress: Progress | None = None
) -> int:
    """See that every row's features are stored; returns how many frames had to be computed."""
    computed = 0
    for done, (row, faces) in enumerate(zip(rows, stored_faces(rows, workspace), strict=True), start=1):
        if feature_key(row.key, backbone) not in workspace.features.entries:
            computed += faces.n_used
            workspace.features.extract(faces, backbone)
        if progress:
            progress(done, len(rows))
    return computed


def training_table(
    manifest: Manifest, rows: Sequence[ClipRow], backbone: Backbone, cfg: PreprocessConfig, workspace: Workspace
) -> FeatureTable:
    """The table of the train and validation clips among `rows`; test clips are not in it."""
    by_id = {row.clip: row for row in rows}
    clips = [c for c in manifest.of(Split.TRAIN, Split.VALIDATION).clips if c.id in by_id]
    chosen = [by_id[c.id] for c in clips]
    features = [workspace.features.extract(f, backbone) for f in stored_faces(chosen, workspace)]
    keys = [feature_key(row.key, backbone) for row in chosen]
    note = {
        **backbone.identity,
        "preprocess": cfg.model_dump_json(),
        "fingerprint": data_fingerprint(manifest, rows),
    }
    return build_table(clips, features, keys, workspace.features, note)


def data_fingerprint(manifest: Manifest, rows: Sequence[ClipRow]) -> str:
    """Fingerprint of the clips that are used, and of the split they are in; see `clips.manifest.fingerprint`."""
    digests = {row.clip: row.digest for row in rows}
    used = replace(manifest, clips=tuple(c for c in manifest.clips if c.id in digests))
    return fingerprint(used, digests)
