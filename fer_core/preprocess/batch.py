"""Preprocess many clips. Each is decoded in a child process, so a bad file cannot crash, block or exhaust this one."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.admit import admit, missing
from fer_core.preprocess.changes import Change, changed_apex, changed_digest
from fer_core.preprocess.children import Children, WarmChildren
from fer_core.preprocess.face import smallest_face
from fer_core.preprocess.faces import Faces, FrameStatus
from fer_core.preprocess.store import FacesStore, cut_at
from fer_core.preprocess.weights_file import check_weights
from fer_core.runtime import n_cores

if TYPE_CHECKING:
    from fer_core.preprocess.decode import Media

log = logging.getLogger(__name__)

Given = TypeVar("Given")
Made = TypeVar("Made")
_BROKEN = frozenset({"decode_errors", "corrupt_frames", "truncated"})  # flags
AHEAD = 4  # clips submitted per worker, so that one slow clip does not delay the others


@dataclass(frozen=True)
class ClipFaces:
    """Result of one clip of a batch.

    Args:
        clip: the clip.
        digest: content digest; empty if the file could not be read.
        key: key of the faces; empty if the file could not be read.
        faces: the faces; None if there is an error. A clip without a face has both: an error (no_face) and faces with a
            ledger.
        error: the error; None if the clip can be used.
        cached: True if the faces were stored before.
        seconds: wall-clock time in this call.
        person: number of the person in the clip, from 1.
    """

    clip: Clip
    digest: str
    key: str
    faces: Faces | None
    error: ClipError | None
    cached: bool
    seconds: float
    person: int = 1


@dataclass(frozen=True)
class _Made:
    digest: str = ""
    keys: tuple[str, ...] = ()  # one per settings; none if the file could not be read
    error: ClipError | None = None
    cached: bool = False
    seconds: float = 0.0


def preprocess_batch(
    clips: Sequence[Clip],
    cfg: PreprocessConfig,
    limits: LimitsConfig,
    store: FacesStore,
    root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    warm: WarmChildren | None = None,
    digests: Mapping[Path, str] | None = None,
    change: Change | None = None,
) -> Iterator[ClipFaces]:
    """Yield one result per clip, in the given order, also for clips with errors.

    Stored faces are returned without a child process; content that occurs in several clips is decoded once. Closing the
    iterator, or an interrupt, ends the child processes immediately.

    Args:
        root: folder that must contain all clips; None: each clip's own `root`.
        progress: called with (clips done, all clips).
        warm: pool from which child processes are taken and to which they return; None: they end with this batch.
        digests: path -> content digest, if the caller has computed it already; child processes check it.
        change: change applied to every clip before face detection; these faces have their own keys.

    Raises:
        StoreError: the store cannot be written.
        FerError: no child process can be started.
        WeightsError: the weights of a network that the settings ask for were not fetched, or are damaged.
    """
    each = preprocess_each(clips, (cfg,), limits, store, root, progress, warm, digests, change)
    with closing(each):
        for (made,) in each:
            yield made


def preprocess_each(
    clips: Sequence[Clip],
    cfgs: Sequence[PreprocessConfig],
    limits: LimitsConfig,
    store: FacesStore,
    root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    warm: WarmChildren | None = None,
    digests: Mapping[Path, str] | None = None,
    change: Change | None = None,
) -> Generator[tuple[ClipFaces, ...]]:
    """Yield the results of each clip, one per settings; a file is opened once for all of them.

    Arguments and errors as in `preprocess_batch`; all settings must cut a clip at the same apex.
    """
    for cfg in cfgs:
        check_weights(cfg)
    batch = _Batch(tuple(cfgs), limits, store, root, warm, digests or {}, change)
    with closing(side_by_side(batch.make, clips, limits.workers, batch.children.stop)) as made:
        for done, (clip, result) in enumerate(zip(clips, made, strict=True), start=1):
            yield batch.results(clip, result)
            if progress is not None:
                progress(done, len(clips))


def faces_in_memory(clip: Clip, media: Media, cfg: PreprocessConfig) -> ClipFaces:
    """Make the faces of a clip in this process, from frames that are decoded already. The clip's apex is not used."""
    from fer_core.preprocess.pipeline import faces_of  # imports PyAV, which this process needs for nothing else

    started = time.monotonic()
    faces, error = None, None
    try:
        faces = faces_of(media, -1, cfg)[0]
        error = None if faces.n_used else faceless(faces, cfg)
    except ClipError as exc:
        error = exc
    key = faces.key if faces is not None else ""
    return ClipFaces(clip, media.digest, key, faces, error, False, time.monotonic() - started)


def side_by_side(
    make: Callable[[Given], Made], items: Sequence[Given], workers: int, stop: Callable[[], None]
) -> Generator[Made, None, None]:
    """Yield `make(item)` for each item, in order, computed in several threads; only few items are started in advance.

    Args:
        workers: number of items at a time; 0: number of cores.
        stop: called when the iterator ends or is closed; must make running calls return.
    """
    n = max(1, min(workers or n_cores(), len(items)))
    pool = ThreadPoolExecutor(n, thread_name_prefix="clips")
    pending: deque[Future[Made]] = deque()
    rest = iter(items)
    try:
        while True:
            while len(pending) < n * AHEAD and (item := next(rest, None)) is not None:
                pending.append(pool.submit(make, item))
            if not pending:
                return
            yield pending.popleft().result()
    finally:
        stop()
        pool.shutdown(wait=True, cancel_futures=True)


class _Batch:
    """State that the workers of one batch share."""

    def __init__(
        self,
        cfgs: tuple[PreprocessConfig, ...],
        limits: LimitsConfig,
        store: FacesStore,
        root: Path | None,
        warm: WarmChildren | None,
        digests: Mapping[Path, str],
        change: Change | None,
    ) -> None:
        self._cfgs, self._limits, self._store, self._root, self._digests = cfgs, limits, store, root, digests
        self._change = change
        self.children = Children(limits, warm)
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, ...], threading.Lock] = {}
        self._failed: dict[tuple[str, ...], ClipError] = {}

    def make(self, clip: Clip) -> _Made:
        """Make the faces of a clip unless they are in the store."""
        started = time.monotonic()
        digest, keys = "", tuple[str, ...]()
        cached = False
        error = None
        try:
            admit(clip.path, self._limits, self._root or clip.root)
            digest = self._digests.get(clip.path) or content_of(clip.path)
            keys = tuple(self._key(clip, digest, cfg) for cfg in self._cfgs)
            with self._lock_of(keys):
                absent = [cfg for key, cfg in zip(keys, self._cfgs, strict=True) if key not in self._store]
                cached = not absent
                if absent:
                    self._make_new(clip, digest, keys, absent)
        except ClipError as exc:
            error = exc
            if not self.children.stopped:
                log.info("clip %r: %s (%s)", clip.id, exc.reason, exc.status.value)
        return _Made(digest, keys, error, cached, time.monotonic() - started)

    def results(self, clip: Clip, made: _Made) -> tuple[ClipFaces, ...]:
        """Return the results of a clip with faces from the store; a damaged entry is made again."""
        faces = self._stored(made)
        if made.error is None and None in faces:
            made = self.make(clip)
            faces = self._stored(made)
        keys, seconds = made.keys or ("",) * len(self._cfgs), [made.seconds] + [0.0] * (len(self._cfgs) - 1)
        return tuple(
            ClipFaces(
                clip, made.digest, key, found, faceless(found, cfg) if found and not found.n_used else made.error,
                made.cached, spent,
            )
            for key, cfg, found, spent in zip(keys, self._cfgs, faces, seconds, strict=True)
        )  # fmt: skip

    def _stored(self, made: _Made) -> list[Faces | None]:
        return [None] * len(self._cfgs) if made.error is not None else [self._store.get(key) for key in made.keys]

    def _key(self, clip: Clip, digest: str, cfg: PreprocessConfig) -> str:
        apex = cut_at(clip, cfg)
        if self._change is None:
            return self._store.key(digest, apex, cfg)
        return self._store.key(changed_digest(digest, self._change), changed_apex(apex, self._change), cfg)

    def _lock_of(self, keys: tuple[str, ...]) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault(keys, threading.Lock())

    def _make_new(self, clip: Clip, digest: str, keys: tuple[str, ...], cfgs: Sequence[PreprocessConfig]) -> None:
        if keys in self._failed:
            raise self._failed[keys]
        try:
            self.children.ask(
                "faces",
                clip.path,
                id=clip.id,
                apex=clip.apex,
                digest=digest,
                configs=[cfg.model_dump(mode="json") for cfg in cfgs],
                store=str(self._store.root),
                change=self._change,
            )
        except ClipError as exc:
            if not exc.status.transient:
                self._failed[keys] = exc
            raise


def faceless(faces: Faces, cfg: PreprocessConfig) -> ClipError:
    """Return the error of a clip without a face: no face was found, or too few frames decoded to find one."""
    if not _BROKEN.intersection(faces.flags):
        smallest = round(smallest_face((faces.height, faces.width), cfg.face))
        return ClipError(
            ClipStatus.NO_FACE,
            f"a face in 0 of its {faces.n_selected} selected frames; faces were looked for from {smallest} pixels up "
            f"({cfg.face.min_size:g} of the shorter side of {faces.width}x{faces.height}, preprocess.face.min_size)",
        )
    decoded = 1 - faces.ledger.counts()[FrameStatus.DECODE_ERROR] / faces.n_selected
    return ClipError(
        ClipStatus.DAMAGED,
        f"{decoded:.0%} of its {faces.n_selected} selected frames decoded, some of them in part, and no face is to be "
        "seen in any. Copy or export it again",
    )


def content_of(path: Path) -> str:
    """Return the content digest of an admitted clip. Raises ClipError (missing) if it cannot be read."""
    try:
        return clip_digest(path)
    except OSError as exc:
        raise missing(exc) from exc
