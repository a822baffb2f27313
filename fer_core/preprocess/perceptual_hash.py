"""Perceptual hashes of whole frames, which find near-duplicate clips (`clips.duplicates`) before face detection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.duplicates import POSITIONS, clip_hash, hash_positions
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, DataError
from fer_core.preprocess.admit import admit
from fer_core.preprocess.batch import content_of, side_by_side
from fer_core.preprocess.beat import no_beat
from fer_core.preprocess.children import Children
from fer_core.preprocess.decode import Media
from fer_core.preprocess.pipeline import check_content, open_media
from fer_core.preprocess.store import decoders
from fer_core.store import EntryStore, cache_key

LOOK_VERSION = 1  # raised whenever the same clip gives another hash


@dataclass(frozen=True)
class ClipHash:
    """Perceptual hash of one clip.

    Args:
        clip: the clip.
        digest: content digest; empty if the file could not be read.
        hash: (5, 32) uint8, see `duplicates.clip_hash`; None if there is an error.
        error: the error; None if there is a hash.
        cached: True if the hash was stored before.
    """

    clip: Clip
    digest: str
    hash: np.ndarray | None
    error: ClipError | None
    cached: bool


@dataclass(frozen=True)
class ClipHashes:
    """Perceptual hashes of many clips.

    Args:
        digests: clip id -> content digest, for all clips.
        hashes: clip id -> hash, for the clips that can be decoded.
        unseen: clip id -> reason why there is no hash.
    """

    digests: Mapping[str, str]
    hashes: Mapping[str, np.ndarray]
    unseen: Mapping[str, str]


def hash_clips(
    clips: Sequence[Clip],
    limits: LimitsConfig,
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> ClipHashes:
    """Return digests and hashes of clips; for the arguments see `hash_batch`.

    Raises:
        DataError: the file of a clip cannot be read, so that it has no digest.
    """
    digests, hashes, unseen = {}, {}, {}
    for seen in hash_batch(clips, limits, store_root, progress):
        name = seen.clip.id
        if not seen.digest:
            assert seen.error is not None
            raise DataError(f"clip '{name}': {seen.clip.path}: {seen.error.reason}; restore it or drop its row")
        digests[name] = seen.digest
        if seen.hash is None:
            unseen[name] = seen.error.reason if seen.error else ""
        else:
            hashes[name] = seen.hash
    return ClipHashes(digests, hashes, unseen)


def hash_batch(
    clips: Sequence[Clip],
    limits: LimitsConfig,
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[ClipHash]:
    """Yield the hash of every clip, in order. Files are decoded in child processes, and only if no hash is stored.

    Args:
        store_root: the workspace's `store` folder, where hashes are stored by content digest.
        progress: called with (clips done, all clips).

    Raises:
        StoreError: the store cannot be written.
        FerError: no child process can be started.
    """
    store = EntryStore(store_root, "hashes")
    children = Children(limits)

    def make(clip: Clip) -> ClipHash:
        digest = ""
        try:
            admit(clip.path, limits, clip.root)
            digest = content_of(clip.path)
            key = cache_key(clip=digest, version=LOOK_VERSION, decoders=decoders())
            stored = store.get(key)
            if stored is not None:
                return ClipHash(clip, digest, stored[0]["hash"], None, True)
            packed = bytes.fromhex(children.ask("look", clip.path, digest=digest)["hash"])
            seen = np.frombuffer(packed, np.uint8).reshape(POSITIONS, -1)
            store.put(key, {"hash": seen}, {"clip_digest": digest})
            return ClipHash(clip, digest, seen, None, False)
        except ClipError as exc:
            return ClipHash(clip, digest, None, exc, False)

    with closing(side_by_side(make, clips, limits.workers, children.stop)) as looks:
        for done, made in enumerate(looks, start=1):
            yield made
            if progress is not None:
                progress(done, len(clips))


def look(path: Path, digest: str, limits: LimitsConfig, beat: Callable[[], None] = no_beat) -> np.ndarray:
    """Compute the (5, 32) uint8 hash of a clip in this process; a lost frame is replaced by the frame before it.

    Raises:
        ClipError: the clip cannot be used (see `pipeline.open_media`), or its content digest has changed.
    """
    with open_media(path, limits, beat) as media:
        check_content(media.digest, digest)
        pictures = _five(media, media.n_expected)
        n_frames = media.report().n_frames
        if n_frames != media.n_expected:
            pictures = _five(media, n_frames)
    return clip_hash(pictures)


def _five(media: Media, n_frames: int) -> list[np.ndarray]:
    places = hash_positions(max(n_frames, 1))
    seen: dict[int, np.ndarray] = {}
    last: np.ndarray | None = None
    for frame in media.frames(frozenset(places).__contains__):
        last = last if frame.picture is None else frame.picture
        if frame.index in places and last is not None:
            seen[frame.index] = last
    if not seen:
        raise ClipError(ClipStatus.DAMAGED, "none of the five frames that are compared decoded")
    first = seen[min(seen)]
    return [seen.get(place, first) for place in places]
