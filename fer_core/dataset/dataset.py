"""The dataset of a run: labelled and split clips, the rows of those that can be used, and their fingerprint."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, fingerprint
from fer_core.config import LimitsConfig, RunConfig
from fer_core.dataset.leak_gate import refuse_leaks, refuse_shared
from fer_core.dataset.load import trained_on
from fer_core.errors import DataError
from fer_core.preprocess.clip_rows import ClipRow, Progress
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Clips whose faces are in the store.

    Args:
        manifest: the clips, labelled and split.
        rows: one per clip, in order, also for clips that cannot be used.
        usable: rows of the clips that can be used.
        fingerprint: fingerprint of the usable clips and their split.
        course: rows of the usable clips' whole course, if a model reads it.
    """

    manifest: Manifest
    rows: Sequence[ClipRow]
    usable: Sequence[ClipRow]
    fingerprint: str
    course: Sequence[ClipRow] = ()

    @classmethod
    def of(cls, manifest: Manifest, rows: Sequence[ClipRow], course: Sequence[ClipRow] = ()) -> Dataset:
        """Return the dataset of clips that can all be used."""
        return cls(manifest, rows, rows, data_fingerprint(manifest, rows), course)

    @property
    def training(self) -> Manifest:
        """Return the train and validation clips."""
        return trained_on(self.manifest)


def usable_dataset(
    manifest: Manifest,
    rows: Sequence[ClipRow],
    cfg: RunConfig,
    workspace: Workspace,
    *,
    course_rows: Callable[[Sequence[Clip]], list[ClipRow]] | None = None,
    training_only: bool = False,
    apart_from: tuple[Dataset, str] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset without unusable clips, after the check for recordings that occur under two names.

    Args:
        rows: one per clip of the manifest.
        course_rows: stores the faces of clips' whole course, if a model reads it. A clip whose course has no face is
            then unusable too.
        training_only: True if no test clip is used.
        apart_from: the dataset that models are fitted to, and the name of this one; the two must share no recording.
        progress: called with (clips checked for shared recordings, all clips).
    Raises:
        DataError: a recording occurs under two names, or too many clips are unusable.
    """
    if apart_from is None:
        refuse_leaks(manifest, rows, cfg, workspace, progress)
    usable = keep_usable(rows, cfg.limits)
    kept = {row.clip for row in usable}
    clips = [c for c in (trained_on(manifest) if training_only else manifest).clips if c.id in kept]
    course = keep_usable(course_rows(clips), cfg.limits) if course_rows else []
    kept = {row.clip for row in course} if course_rows else {clip.id for clip in clips}
    usable = [row for row in usable if row.clip in kept]
    if apart_from is not None:
        other, name = apart_from
        fitted = other.training.clips, other.usable
        refuse_shared(fitted, (manifest.clips, usable), name, cfg, workspace, progress)
    return Dataset(manifest, rows, usable, data_fingerprint(manifest, usable), course)


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


def data_fingerprint(manifest: Manifest, rows: Sequence[ClipRow]) -> str:
    """Return the fingerprint of the clips that have a row, and of their split; see `clips.manifest.fingerprint`."""
    digests = {row.clip: row.digest for row in rows}
    return fingerprint(Manifest.of_classes((c for c in manifest.clips if c.id in digests), None), digests)
