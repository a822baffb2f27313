"""Store the faces of every clip, and return a row with the result of each clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fer_core.clips.clip import Clip
from fer_core.clips.neutral import shown_digest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.errors import ClipStatus, DataError
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.changes import Change
from fer_core.preprocess.faces import Faces, Ledger
from fer_core.preprocess.store import FacesStore

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


def store_faces(
    clips: Sequence[Clip],
    cfg: PreprocessConfig,
    limits: LimitsConfig,
    root: Path,
    progress: Progress | None = None,
    change: Change | None = None,
) -> list[ClipRow]:
    """Preprocess the clips and store their faces. Returns one row per clip, in order, also for clips with errors.

    Args:
        root: folder of the store.
        progress: called with (clips done, all clips).
        change: change applied to every clip before its faces are looked for.
    """
    rows = []
    for made in preprocess_batch(clips, cfg, limits, FacesStore(root), progress=progress, change=change):
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


def stored_ledgers(rows: Iterable[ClipRow], root: Path) -> Iterator[tuple[str, Ledger]]:
    """Yield (clip id, ledger) of every clip that was decoded, also of clips without a face."""
    store = FacesStore(root)
    for row in rows:
        if row.key and (faces := store.get(row.key)) is not None:
            yield row.clip, faces.ledger


def stored_faces(rows: Iterable[ClipRow], root: Path) -> Iterable[Faces]:
    """Yield the faces of usable rows, in order.

    Raises:
        DataError: the faces are not in the store any more.
    """
    store = FacesStore(root)
    for row in rows:
        faces = store.get(row.key)
        if faces is None:
            raise DataError(f"clip '{row.clip}': its faces are no longer in the store; run 'ferflow preprocess' again")
        yield faces
