"""No recording under two names: neither on two sides of a split, nor among clips fitted to and shown afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fer_core.clips.clip import Clip
from fer_core.clips.leaks import check_leaks
from fer_core.clips.manifest import Manifest
from fer_core.clips.neutral import SUFFIX as FIRST_FRAMES
from fer_core.config import RunConfig
from fer_core.dataset.prepare import ClipRow
from fer_core.preprocess.perceptual_hash import hash_batch
from fer_core.workspace import Workspace


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
    """Refuse a recording that is among the clips fitted to and, as somebody else's, among those shown afterwards. A
    person who is among both is refused by whoever fits.

    Args:
        fitted, shown: clips and their rows. name: of the latter, put in front of their ids in messages.
        progress: called with (clips looked at, clips in all).
    Raises:
        DataError: as `refuse_leaks`.
    """
    people = {clip.subject for clip in fitted[0]}
    others = [clip for clip in shown[0] if clip.subject not in people]
    clips = [*fitted[0], *(replace(clip, id=f"{name}: {clip.id}") for clip in others)]
    rows = [*fitted[1], *(replace(row, clip=f"{name}: {row.clip}") for row in shown[1])]
    refuse_leaks(Manifest.of_classes(clips, None), rows, cfg, workspace, progress)
