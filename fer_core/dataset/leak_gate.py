"""Check for leaks: the same recording under two names, within a dataset or between training and evaluation clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fer_core.clips.clip import Clip
from fer_core.clips.leaks import check_leaks
from fer_core.clips.manifest import Manifest
from fer_core.clips.neutral import SUFFIX as FIRST_FRAMES
from fer_core.config import RunConfig
from fer_core.preprocess.clip_rows import ClipRow
from fer_core.preprocess.perceptual_hash import hash_batch
from fer_core.workspace import Workspace


def refuse_leaks(
    manifest: Manifest,
    rows: Sequence[ClipRow],
    cfg: RunConfig,
    workspace: Workspace,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Raise an error if a recording occurs under two names, because a split would put it on both sides.

    Neutral clips made from the first frames of a clip are allowed. Perceptual hashes are stored, so each clip is
    decoded only once.

    Args:
        progress: called with (clips checked, all clips).
    Raises:
        DataError: the same content has two subjects or two labels, or clips of two people look like one recording.
    """
    own = manifest.with_clips(c for c in manifest.clips if not c.id.endswith(FIRST_FRAMES))
    check_leaks(own, {row.clip: row.digest for row in rows if row.digest}).refuse()
    usable = {row.clip for row in rows if row.status.scored}
    looks = hash_batch([c for c in own.clips if c.id in usable], cfg.limits, workspace.store, progress)
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
    """Raise an error if a recording is in the training clips and, under another subject, in the evaluation clips.

    This does not check for subjects that are in both; the function that fits the models does.

    Args:
        fitted: training clips and their rows.
        shown: evaluation clips and their rows.
        name: name of the evaluation clips; messages put it before their ids.
        progress: called with (clips checked, all clips).
    Raises:
        DataError: see `refuse_leaks`.
    """
    people = {clip.subject for clip in fitted[0]}
    others = [clip for clip in shown[0] if clip.subject not in people]
    clips = [*fitted[0], *(replace(clip, id=f"{name}: {clip.id}") for clip in others)]
    rows = [*fitted[1], *(replace(row, clip=f"{name}: {row.clip}") for row in shown[1])]
    refuse_leaks(Manifest.of_classes(clips, None), rows, cfg, workspace, progress)
