"""Neutral clips where neutral is a class: the first frames of a database whose clips begin neutral (§3.3)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest
from fer_core.emotions import Emotion
from fer_core.store import cache_key

LAST_FRAME = 2  # CK+ reaches its apex in some ten to twenty frames; of frames 0 ... 2 the second half is used
SUFFIX = "@neutral"


def with_first_frames(manifest: Manifest, databases: Collection[str]) -> Manifest:
    """The manifest and, for each subject of `databases`, a neutral clip: the first frames of one clip of theirs.

    One a subject, for as many as there are clips would make neutral by far the largest class (CK+: 309 against 25 of
    fear) of faces that hardly differ. It is the same file cut after frame 2, on the same side of the split; a subject
    who has a neutral clip of their own gets none.
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
    """Identity of what a clip shows, of 32 hex digits: its content's, but another one for first frames of a file.

    A file and the neutral clip made of it are judged apart, and verdicts are kept by this identity.
    """
    first_frames = clip.emotion == Emotion.NEUTRAL and clip.id.endswith(SUFFIX)
    return cache_key(first_frames=digest, last=LAST_FRAME) if first_frames and digest else digest
