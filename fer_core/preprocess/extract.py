"""Extract videos to folders of numbered pictures, as the thesis's appendix does with ffmpeg (frames to %07d.jpg).

The pictures are in colour, upright, with square pixels. Each video is read in a child process, one per core. A folder
appears complete or not at all, with a note of its source, so repeating a stopped run continues it.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from filelock import FileLock, Timeout

from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus, DataError, StoreError
from fer_core.preprocess.admit import admit
from fer_core.preprocess.batch import content_of, side_by_side
from fer_core.preprocess.beat import no_beat
from fer_core.preprocess.children import Children
from fer_core.preprocess.decode import VideoFile
from fer_core.preprocess.pipeline import check_content, open_media
from fer_core.store import cache_key, write_atomic

NOTE = ".frames.json"  # hidden, so that it is not taken for a frame
QUALITY = 95  # JPEG quality at which the same faces are found as in the video


@dataclass(frozen=True)
class Extracted:
    """The result of extracting one video.

    Args:
        path: the video.
        folder: folder of its frames; does not exist if there is an error.
        n_frames: number of pictures in the folder.
        n_lost: number of frames that could not be decoded; their numbers are missing.
        error: reason why there is no folder; None if there is one.
        before: True if an earlier run made the folder.
    """

    path: Path
    folder: Path
    n_frames: int
    n_lost: int
    error: ClipError | None
    before: bool


def extract_batch(
    videos: Sequence[Path],
    out: Path,
    limits: LimitsConfig,
    root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Extracted]:
    """Yield the result of each video in order, with its frames in a folder under `out`.

    The folders have the same relative paths under `out` as the videos under `root`.

    Args:
        root: folder that must contain the videos; None allows any place, and names each folder by the file name.
        progress: called with (videos done, videos in all).

    Raises:
        DataError: two videos would share a folder.
        StoreError: `out` cannot be written, or another run writes to it.
        FerError: no child process can be started.
    """
    children = Children(limits)

    def make(target: tuple[Path, Path]) -> Extracted:
        path, folder = target
        part = out / f".part-{cache_key(folder=str(folder))}"
        try:
            admit(path, limits, root)
            digest = content_of(path)
            note = _note(folder)
            before = note.get("digest") == digest
            if not before:
                if folder.exists() and not note:
                    raise ClipError(ClipStatus.REJECTED, f"{folder} exists and holds something else; remove it")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
                note = {"digest": digest, **children.ask("extract", path, digest=digest, folder=str(part))["frames"]}
                write_atomic(part / NOTE, json.dumps(note).encode())
                shutil.rmtree(folder, ignore_errors=True)
                folder.parent.mkdir(parents=True, exist_ok=True)
                part.rename(folder)
            return Extracted(path, folder, note["written"], note["lost"], None, before)
        except ClipError as exc:
            shutil.rmtree(part, ignore_errors=True)
            return Extracted(path, folder, 0, 0, exc, False)
        except OSError as exc:
            raise StoreError(f"cannot write {folder}: {exc.strerror or exc}; free some space") from exc

    with _alone(out), closing(side_by_side(make, _targets(videos, root, out), limits.workers, children.stop)) as made:
        for done, row in enumerate(made, start=1):
            yield row
            if progress is not None:
                progress(done, len(videos))


def write_frames(
    path: Path, digest: str, folder: Path, limits: LimitsConfig, beat: Callable[[], None] = no_beat
) -> dict[str, int]:
    """Write the frames of a video into an empty folder, in this process, numbered from 1 as ffmpeg does.

    Args:
        beat: called after every `MINUTE` decoded frames.
    Returns:
        The number of frames `written` and `lost`.
    Raises:
        ClipError: the clip is not a video, is damaged, or has changed since its digest was taken (see `decode`).
        StoreError: a file cannot be written.
    """
    with open_media(path, limits, beat) as media:
        if not isinstance(media, VideoFile):
            raise ClipError(ClipStatus.UNSUPPORTED, "it is a folder of frames already")
        check_content(media.digest, digest)
        written = 0
        for frame in media.frames(lambda index: True, colours):
            if frame.picture is None:
                continue
            data = cv2.imencode(".jpg", frame.picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            try:
                (folder / f"{frame.index + 1:07d}.jpg").write_bytes(data.tobytes())
            except OSError as exc:
                raise StoreError(f"cannot write frames to {folder.parent}: {exc.strerror or exc}") from exc
            written += 1
        return {"written": written, "lost": media.report().n_frames - written}


def colours(frame: av.VideoFrame) -> np.ndarray:
    """Return a frame in colour as it is stored, (height, width, 3) uint8 RGB, alpha blended over black."""
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba", threads=1)
        return cv2.multiply(rgba[..., :3], cv2.merge([rgba[..., 3]] * 3), scale=1 / 255)
    return frame.to_ndarray(format="rgb24", threads=1)


def _targets(videos: Sequence[Path], root: Path | None, out: Path) -> list[tuple[Path, Path]]:
    """Return each video with its folder.

    The folder is the video's path without suffix. The suffix is kept where two videos would share the folder, or where
    one folder would lie in another.

    Raises:
        DataError: two videos share a folder even with the suffix.
    """
    names = [path.relative_to(root) if root else Path(path.name) for path in videos]
    bare = [name.with_suffix("") if name.stem.strip(".") else name for name in names]  # `...mp4` without suffix is `..`
    counts = Counter(bare) + Counter({parent for name in bare for parent in name.parents})
    folders = [name if counts[short] > 1 else short for name, short in zip(names, bare, strict=True)]
    twice = [folder for folder, n in Counter(folders).items() if n > 1]
    if twice:
        raise DataError(f"two videos would share the folder {out / twice[0]}; rename one")
    return [(path, out / folder) for path, folder in zip(videos, folders, strict=True)]


def _note(folder: Path) -> dict[str, Any]:
    """Return the note of a folder that `extract_batch` wrote, with its source; empty for any other folder."""
    try:
        return dict(json.loads((folder / NOTE).read_bytes()))
    except (OSError, ValueError):
        return {}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock on `out`, so that only one run writes to it. Raises StoreError if another run holds it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0).acquire()
    except Timeout as exc:
        raise StoreError(f"another run is writing frames to {out}; wait for it or choose another folder") from exc
    except OSError as exc:
        raise StoreError(f"cannot write to {out}: {exc.strerror or exc}; choose another folder") from exc
    with lock:
        yield
