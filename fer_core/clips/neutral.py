"""Neutral clips for tasks with a neutral class: the first frames of clips that begin neutral (§3.3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest
from fer_core.emotions import Emotion
from fer_core.store import cache_key

LAST_FRAME = 2  # CK+ reaches the apex after ten to twenty frames; preprocessing uses the second half of frames 0 to 2
SUFFIX = "@neutral"


def with_first_frames(manifest: Manifest, databases: Collection[str]) -> Manifest:
    """Return the manifest with one added neutral clip per subject of `databases`: the first frames of a clip of theirs.

    Only one per subject: the first frames of every clip would make neutral by far the largest class (CK+: 309 against
    25 of fear), of faces that hardly differ. The new clip is the same file cut after frame 2, on the same side of the
    split. A subject who already has a neutral clip gets none, and clips with the apex in frames 0 to 2 are not used.
    """
    have = {c.subject for c in manifest.clips if c.emotion == Emotion.NEUTRAL}
    made: dict[str, Clip] = {}
    for clip in sorted(manifest.clips, key=lambda c: c.id):
        long_enough = clip.apex is None or clip.apex > LAST_FRAME
        if clip.dataset in databases and clip.subject and clip.subject not in have and long_enough:
            first = replace(clip, id=clip.id + SUFFIX, emotion=Emotion.NEUTRAL, apex=LAST_FRAME)
            made.setdefault(clip.subject, first)
    return manifest.with_clips((*manifest.clips, *made.values()))


def shown_digest(clip: Clip, digest: str) -> str:
    """Return a digest of the frames that a clip shows, 32 hex digits.

    It is the digest of the content, except for the first frames that `with_first_frames` adds: they need another digest
    than the clip they are cut from, because verdicts are stored by it. An empty digest stays empty.

    Args:
        digest: content digest of the clip's file.
    """
    first_frames = clip.emotion == Emotion.NEUTRAL and clip.id.endswith(SUFFIX)
    return cache_key(first_frames=digest, last=LAST_FRAME) if first_frames and digest else digest
