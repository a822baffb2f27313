"""Videos -> folders of numbered pictures (the thesis's appendix: one ffmpeg call a video, frames to %07d.jpg).

In colour, upright, with square pixels; each video in a child process, a worker per core. A folder appears whole or not
at all, with a note of what it was made from, so a run that was stopped goes on where it was.
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

NOTE = ".frames.json"  # hidden, so that no reader takes it for a frame
QUALITY = 95  # of JPEG; at it the faces found are those of the video


@dataclass(frozen=True)
class Extracted:
    """Result of one video.

    Args:
        folder: where its frames are; not there when there is an error.
        n_frames: pictures in it. n_lost: places that did not decode; their numbers are missing.
        error: why there is no folder.
        before: whether an earlier run had made it.
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
    """A folder of frames for every video, in order, under `out` as the videos lie under `root`.

    Args:
        root: tree the videos must lie in; None: anywhere, each named by its file name alone.
        progress: called with (videos done, videos in all).

    Raises:
        DataError: two videos would share a folder. StoreError: `out` cannot be written, or another run writes to it.
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
        beat: called after each minute of frames decoded.
    Returns:
        How many were `written` and `lost`.
    Raises:
        ClipError: it is no video, or damaged (see `decode`). StoreError: the disk refuses.
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
    """(height, width, 3) uint8 RGB of a frame as it is stored, alpha laid over black."""
    if any(component.is_alpha for component in frame.format.components):
        rgba = frame.to_ndarray(format="rgba", threads=1)
        return cv2.multiply(rgba[..., :3], cv2.merge([rgba[..., 3]] * 3), scale=1 / 255)
    return frame.to_ndarray(format="rgb24", threads=1)


def _targets(videos: Sequence[Path], root: Path | None, out: Path) -> list[tuple[Path, Path]]:
    """Each video with its folder: its path without suffix, which stays where two would share one or lie in another.

    Raises:
        DataError: two would share one all the same.
    """
    names = [path.relative_to(root) if root else Path(path.name) for path in videos]
    bare = [name.with_suffix("") if name.stem.strip(".") else name for name in names]  # `...mp4` less `.mp4` is `..`
    counts = Counter(bare) + Counter({parent for name in bare for parent in name.parents})
    folders = [name if counts[short] > 1 else short for name, short in zip(names, bare, strict=True)]
    twice = [folder for folder, n in Counter(folders).items() if n > 1]
    if twice:
        raise DataError(f"two videos would share the folder {out / twice[0]}; rename one")
    return [(path, out / folder) for path, folder in zip(videos, folders, strict=True)]


def _note(folder: Path) -> dict[str, Any]:
    """The note in a folder that `extract` wrote, which names its source; empty for any other folder."""
    try:
        return dict(json.loads((folder / NOTE).read_bytes()))
    except (OSError, ValueError):
        return {}


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One run at a time writes to a folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".lock", timeout=0).acquire()
    except Timeout as exc:
        raise StoreError(f"another run is writing frames to {out}; wait for it or choose another folder") from exc
    except OSError as exc:
        raise StoreError(f"cannot write to {out}: {exc.strerror or exc}; choose another folder") from exc
    with lock:
        yield
