"""Preprocess clips: store the faces of every clip and return a row with its result."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, fingerprint
from fer_core.clips.neutral import shown_digest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.errors import ClipStatus, DataError
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.faces import Faces, Ledger
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ClipRow:
    """Result of preprocessing one clip; JSON-able, because it is passed between processes.

    Args:
        clip: id in the manifest.
        digest: digest of the clip's content; empty if the file could not be read.
        key: key of its faces in the store; empty if the file could not be read.
        status: `ok`, `low_quality`, or the kind of error.
        reason: explanation of the status; empty if it is `ok`.
        n_frames, n_selected, n_used: numbers of frames decoded, selected, and with a face.
        cached: True if the faces were in the store before.
        seconds: wall-clock time.
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


def prepare_clips(
    clips: Sequence[Clip],
    cfg: PreprocessConfig,
    limits: LimitsConfig,
    workspace: Workspace,
    progress: Progress | None = None,
) -> list[ClipRow]:
    """Preprocess the clips and store their faces. Returns one row per clip, in order, also for clips with errors."""
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
    """Return the rows of usable clips; for each other clip, log the reason.

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


def stored_ledgers(rows: Iterable[ClipRow], workspace: Workspace) -> Iterator[tuple[str, Ledger]]:
    """Yield (clip id, ledger) of every clip that was decoded, also of clips without a face."""
    for row in rows:
        if row.key and (faces := workspace.faces.get(row.key)) is not None:
            yield row.clip, faces.ledger


def stored_faces(rows: Iterable[ClipRow], workspace: Workspace) -> Iterable[Faces]:
    """Yield the faces of usable rows, in order.

    Raises:
        DataError: the faces are not in the store any more.
    """
    for row in rows:
        faces = workspace.faces.get(row.key)
        if faces is None:
            raise DataError(f"clip '{row.clip}': its faces are no longer in the store; run 'ferflow preprocess' again")
        yield faces


def data_fingerprint(manifest: Manifest, rows: Sequence[ClipRow]) -> str:
    """Return the fingerprint of the usable clips and their split; see `clips.manifest.fingerprint`."""
    return clips_fingerprint(manifest.clips, rows)


def clips_fingerprint(clips: Sequence[Clip], rows: Sequence[ClipRow]) -> str:
    """Return the fingerprint of the clips that have a row."""
    digests = {row.clip: row.digest for row in rows}
    return fingerprint(Manifest.of_classes((c for c in clips if c.id in digests), None), digests)
