"""Perceptual hashes of whole frames, made before faces are searched; they find near-duplicates (`clips.duplicates`)."""

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
class Look:
    """Perceptual hash of one clip.

    Args:
        digest: content identity; empty where the file could not be read.
        hash: (5, 32) uint8, see `duplicates.clip_hash`; None where `error` says why.
        cached: whether it was stored already.
    """

    clip: Clip
    digest: str
    hash: np.ndarray | None
    error: ClipError | None
    cached: bool


@dataclass(frozen=True)
class Looks:
    """Perceptual hashes of many clips.

    Args:
        digests: clip id -> content digest, of every clip.
        hashes: clip id -> hash, of those that decode.
        unseen: clip id -> why there is no hash.
    """

    digests: Mapping[str, str]
    hashes: Mapping[str, np.ndarray]
    unseen: Mapping[str, str]


def look_at(
    clips: Sequence[Clip],
    limits: LimitsConfig,
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Looks:
    """Digests and hashes of clips; arguments as `hash_batch`.

    Raises:
        DataError: a clip cannot be read at all, so that its content has no identity.
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
    return Looks(digests, hashes, unseen)


def hash_batch(
    clips: Sequence[Clip],
    limits: LimitsConfig,
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Look]:
    """The hash of every clip, in order, each file decoded in a child process and only once in its life.

    Args:
        store_root: the workspace's `store` folder; hashes are kept in it under the content's digest.
        progress: called with (clips done, clips in all) as results come out.

    Raises:
        StoreError: the store refuses to be written. FerError: no child process can be started.
    """
    store = EntryStore(store_root, "hashes")
    children = Children(limits)

    def make(clip: Clip) -> Look:
        digest = ""
        try:
            admit(clip.path, limits, clip.root)
            digest = content_of(clip.path)
            key = cache_key(clip=digest, version=LOOK_VERSION, decoders=decoders())
            stored = store.get(key)
            if stored is not None:
                return Look(clip, digest, stored[0]["hash"], None, True)
            packed = bytes.fromhex(children.ask("look", clip.path, digest=digest)["hash"])
            seen = np.frombuffer(packed, np.uint8).reshape(POSITIONS, -1)
            store.put(key, {"hash": seen}, {"clip_digest": digest})
            return Look(clip, digest, seen, None, False)
        except ClipError as exc:
            return Look(clip, digest, None, exc, False)

    with closing(side_by_side(make, clips, limits.workers, children.stop)) as looks:
        for done, made in enumerate(looks, start=1):
            yield made
            if progress is not None:
                progress(done, len(clips))


def look(path: Path, digest: str, limits: LimitsConfig, beat: Callable[[], None] = no_beat) -> np.ndarray:
    """(5, 32) uint8 hash of a clip, made in this process; a frame that is lost is stood for by the one before.

    Raises:
        ClipError: the clip cannot be used (see `pipeline.open_media`), or its content is not of that digest any more.
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
