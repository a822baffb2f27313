"""Make the faces of a clip by the steps of the thesis (§3.5): select frames, convert to grey, crop, equalise,
resize."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BufferedReader
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import EveryFaceConfig, LimitsConfig, PreprocessConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.admit import admit, missing, open_regular
from fer_core.preprocess.apex import estimate_apex
from fer_core.preprocess.beat import no_beat
from fer_core.preprocess.changes import Change, Changed, changed_apex
from fer_core.preprocess.decode import Frame, Media, VideoFile
from fer_core.preprocess.decoded_once import DecodedOnce
from fer_core.preprocess.everyone import find_everyone, find_main
from fer_core.preprocess.face import Detection, FaceFinder, confirmed
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from fer_core.preprocess.folder import FrameFolder, is_still
from fer_core.preprocess.frame_count import Report
from fer_core.preprocess.frame_rows import Row, Seen, keep, ledger_of, seen_face
from fer_core.preprocess.landmarks import MEASURES, resolved
from fer_core.preprocess.selection import select
from fer_core.preprocess.spool import FacesSpool
from fer_core.preprocess.store import FacesStore, cut_at, faces_key

SMALL_FACE = 40  # pixels; smaller faces show too little of an expression
SQUARE = 1.5  # largest ratio of sides at which a whole frame can be used as a face without much distortion
PROBED = 8  # number of frames that decide whether a clip is sideways
# mean weight over a clip's frames: upright faces in good light have 6 to 10, and log odds of 1.5 to 3
SURE = {"viola_jones": 3.0, "blazeface": 1.2}
KEPT = 16  # most pictures of one clip that are kept in memory for the next settings
CONFIRMED = 0.5  # share of a clip's frames: more faces must be confirmed before the clip is taken as sideways


def preprocess(clip: Clip, cfg: PreprocessConfig, limits: LimitsConfig) -> Faces:
    """Make the faces of a clip in this process. For untrusted files, use `batch.preprocess_batch`.

    For a clip without a face, the result has pixels of shape (0, size, size) and a ledger.

    Raises:
        ClipError: the clip cannot be used (damaged, unsupported, too_large, missing, rejected).
    """
    with open_media(clip.path, limits) as media:
        return faces_of(media, cut_at(clip, cfg), cfg)[0]


def preprocess_into(
    store: FacesStore,
    clip: Clip,
    cfgs: Sequence[PreprocessConfig],
    limits: LimitsConfig,
    digest: str,
    change: Change | None = None,
    beat: Callable[[], None] = no_beat,
) -> list[str]:
    """Put the faces of a clip into a store, for each of several settings, and return their keys.

    Memory does not grow with the length of the clip. A video is decoded once if only the first settings take many
    frames.

    Args:
        digest: content the clip must have. change: made of it before faces are looked for.
        beat: called after each minute of frames decoded.

    Raises:
        ClipError: as `preprocess`; rejected when the content is another. StoreError: the disk refuses.
    """
    folder = store.spool_folder()
    with open_media(clip.path, limits, beat) as media:
        check_content(media.digest, digest)
        apex = cut_at(clip, cfgs[0])
        is_video = isinstance(media, VideoFile)
        if change is not None:
            media, apex = Changed(media, change), changed_apex(apex, change)
        if len(cfgs) > 1 and is_video:  # of a folder, only the selected frames are read anyway
            media = DecodedOnce(media)
            media.keep(_few_frames(media, apex, cfgs[1:]))
        keys = []
        for cfg in cfgs:
            faces, spool = faces_of(media, apex, cfg, folder)
            store.put(faces, spool)
            keys.append(faces.key)
    return keys


def _few_frames(media: DecodedOnce, given_apex: int, cfgs: Sequence[PreprocessConfig]) -> set[int]:
    """Return the numbers of the frames that some settings select, if these are few enough to be kept in memory."""
    numbers: set[int] = set()
    for cfg in map(resolved, cfgs):
        apex = media.apex(cfg.face) if given_apex < 0 and cfg.apex == "estimate" else given_apex
        n = max(media.n_expected, 1, given_apex + 1)
        chosen = select(n, None if apex is None or apex < 0 else apex, cfg, media.fps)
        numbers |= set(chosen.tolist()) if len(chosen) <= KEPT else set()
    return numbers


@contextmanager
def open_media(path: Path, limits: LimitsConfig, beat: Callable[[], None] = no_beat) -> Iterator[Media]:
    """A video file or frame folder, open; leaving it makes sure that its content was the same throughout.

    Args:
        beat: called after each minute of frames decoded.

    Raises:
        ClipError: it may not be opened (see `admit`), or was written to while it was read (missing: try again).
    """
    files = admit(path, limits)
    with ExitStack() as stack:
        media: Media
        if files == (path,):
            file = stack.enter_context(open_regular(path, limits))
            before = _stamps([file.fileno()])
            digest = _digest_of(file)
            media = (
                FrameFolder(files, digest, limits, beat) if is_still(file) else VideoFile(file, digest, limits, beat)
            )
            yield media
            after = _stamps([file.fileno()])
        else:
            before = _stamps(files)
            try:
                digest = clip_digest(path)
            except OSError as exc:
                raise missing(exc) from exc
            media = FrameFolder(files, digest, limits, beat)
            yield media
            after = _stamps(files)
    if before != after:
        raise ClipError(ClipStatus.MISSING, "it was written to while it was read; try again once it is whole")


def check_content(now: str, before: str) -> None:
    """Raise ClipError (rejected) if the digest of a clip has changed since the start of the batch."""
    if now != before:
        raise ClipError(ClipStatus.REJECTED, "its content was replaced while the batch ran; run again")


def faces_of(
    media: Media, given_apex: int, cfg: PreprocessConfig, folder: Path | None = None
) -> tuple[Faces, FacesSpool]:
    """Make the faces of an open clip; return them and the spool that holds them.

    A clip with few certain faces is also read rotated by 90° in both directions, because some databases (MMI) store
    clips sideways and some cameras do not record their orientation. A rotation is used only if it gives more
    `_evidence`.

    Args:
        folder: folder for the pixels while they are made; None: in memory.
    """
    faces, spool = _faces_of(media, given_apex, cfg, folder)
    if cfg.face.detector == "none" or isinstance(cfg, EveryFaceConfig):
        return faces, spool
    if float(faces.ledger.weight[faces.ledger.used].sum()) >= SURE[cfg.face.detector] * faces.n_selected:
        return faces, spool
    few = cfg.model_copy(update={"apex": "last", "max_frames": min(cfg.max_frames or PROBED, PROBED)})
    upright = _evidence(faces)
    for quarters in (-1, 1):  # clockwise first, because MMI's clips need it
        turned = Turned(media, quarters)
        if _evidence(_faces_of(turned, -1, few, None)[0]) > max(CONFIRMED, upright):
            faces, spool = _faces_of(turned, given_apex, cfg, folder)
            return replace(faces, flags=tuple(sorted({*faces.flags, "turned"}))), spool
    return faces, spool


def _evidence(faces: Faces) -> float:
    """Return how certainly the selected frames show a face, 0 ... 1: the mean presence score of the landmark network
    or, without landmarks, the share of frames with a face that the second cascade confirms.

    The weights of the first cascade are not used: in a rotated picture it finds false faces with weights up to 9.
    """
    if faces.ledger.measures is not None:
        return float(faces.ledger.measures[faces.ledger.used, MEASURES.index("presence")].sum()) / faces.n_selected
    return sum(confirmed(face) for face in faces.pixels) / faces.n_selected


class Turned:
    """A clip whose pictures are rotated by multiples of 90°, counter-clockwise if positive; see `decode.Media`."""

    def __init__(self, media: Media, quarters: int) -> None:
        self.n_expected, self.digest, self.fps = media.n_expected, media.digest, media.fps
        self._media = media
        self._quarters = quarters

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        for frame in self._media.frames(wanted):
            turned = None if frame.picture is None else np.ascontiguousarray(np.rot90(frame.picture, self._quarters))
            yield replace(frame, picture=turned)

    def report(self) -> Report:
        report = self._media.report()
        return replace(report, width=report.height, height=report.width)


def _faces_of(media: Media, given_apex: int, cfg: PreprocessConfig, folder: Path | None) -> tuple[Faces, FacesSpool]:
    """Make faces in one run over the frames; if the container's frame count was wrong, run again with the decoded
    count."""
    cfg = resolved(cfg)
    apex = None if given_apex < 0 else given_apex
    n, n_lost = max(media.n_expected, 1, given_apex + 1), 0
    if apex is None and cfg.apex == "estimate":
        apex = media.apex(cfg.face) if isinstance(media, DecodedOnce) else estimate_apex(media, cfg.face)
        n, n_lost = media.report().n_frames, media.report().n_lost
    spool, searched = FacesSpool(cfg.size, folder), dict[int, list[Detection]]()
    chosen = select(n, apex, cfg, media.fps)
    ledger, flags, cuts = _run(media, chosen, cfg, spool, searched)
    report = media.report()
    if (report.n_frames, report.n_lost) != (n, n_lost):
        spool, searched = FacesSpool(cfg.size, folder), {}  # lost frames have changed the numbers
        chosen = select(report.n_frames, apex, cfg, media.fps)
        ledger, flags, cuts = _run(media, chosen, cfg, spool, searched)
        report = media.report()
    if not isinstance(cfg, EveryFaceConfig):
        if "several_faces" in flags:
            ledger, spool = find_main(media, chosen, cfg, folder, searched) or (ledger, spool)
        flags |= flags_of(ledger, cfg)
    faces = Faces(
        key=faces_key(media.digest, given_apex, cfg),
        clip_digest=media.digest,
        pixels=spool.pixels.rows(),
        points=spool.points.rows(),
        ledger=ledger,
        n_frames=report.n_frames,
        apex=-1 if apex is None else apex,
        width=report.width,
        height=report.height,
        duration_s=report.duration_s,
        flags=tuple(sorted(flags | report.flags | ({"one_frame"} if report.n_frames == 1 else set()))),
        cuts=tuple(cuts),
    )
    return faces, spool


def _run(
    media: Media,
    chosen: np.ndarray,
    cfg: PreprocessConfig,
    spool: FacesSpool,
    searched: dict[int, list[Detection]],
) -> tuple[Ledger, set[str], list[int]]:
    """Put the faces of the chosen frames into `spool`; return their ledger, flags, and the cuts where all are kept."""
    if isinstance(cfg, EveryFaceConfig):
        return find_everyone(media, chosen, cfg, spool, searched)
    finder = FaceFinder(cfg.face, searched)
    wanted = frozenset(chosen.tolist())
    rows: list[Row] = []
    for frame in media.frames(wanted.__contains__):
        if frame.index not in wanted:
            continue
        seen = face_in(frame, finder, cfg)
        keep(spool, seen)
        rows.append(seen.row)
    return ledger_of(rows, measured=cfg.face.landmarks == "yes"), set(finder.flags), []


def flags_of(ledger: Ledger, cfg: PreprocessConfig) -> set[str]:
    """Return the flags that the faces of one person give."""
    flags = set()
    sides = ledger.box[ledger.used][:, 2]
    if len(sides) and np.median(sides) < SMALL_FACE:
        flags |= {"small_face", "low_quality"}
    if cfg.face.detector == "none" and (ledger.box[:, 2:].max(1) > SQUARE * ledger.box[:, 2:].min(1)).any():
        flags |= {"not_square", "low_quality"}
    return flags


def face_in(frame: Frame, finder: FaceFinder, cfg: PreprocessConfig) -> Seen:
    """Return what the next frame of a clip shows.

    Args:
        finder: finder of this clip, which has seen the frames before.
    """
    if frame.picture is None:
        return Seen(Row.of(frame, FrameStatus.DECODE_ERROR, None))
    found = finder.find(frame.picture, frame.index)
    status = _status(found, cfg)
    if status is not FrameStatus.USED or found is None:
        return Seen(Row.of(frame, status, found))
    return seen_face(frame, found, cfg)


def _status(found: Detection | None, cfg: PreprocessConfig) -> FrameStatus:
    if found is None:
        return FrameStatus.NO_FACE
    if found.weight < cfg.face.min_weight:
        return FrameStatus.LOW_WEIGHT
    return FrameStatus.NOT_A_FACE if found.is_rejected(cfg.face) else FrameStatus.USED


def _digest_of(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # as `clip_digest` does


def _stamps(files: tuple[Path, ...] | list[int]) -> list[tuple[int, int, int]]:
    try:
        return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in (os.stat(f) for f in files)]
    except OSError as exc:
        raise missing(exc) from exc
