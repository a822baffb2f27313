"""Find the clips to score in the files, folders and manifests that a user names. Opens no video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_core.clips.clip import FRAME_SUFFIXES, VIDEO_SUFFIXES, Clip
from fer_core.clips.manifest import read_manifest
from fer_core.errors import ClipError, ClipStatus, DataError


@dataclass(frozen=True)
class Item:
    """One thing to score; it gets one row.

    Args:
        clip: named as the user would name it.
        root: tree it must lie in, links not followed; None: the user named it.
        refused: why it is not even looked at.
        digest: of its content, where that has just been taken; empty: it is still to be.
    """

    clip: Clip
    root: Path | None = None
    refused: ClipError | None = None
    digest: str = ""


def collect(paths: Sequence[str | Path], *, follow_links: bool = False) -> list[Item]:
    """The clips of some paths, in the order given, a folder's in the order of their names.

    A named file is taken whatever it is called, or not there: it gets a row that says so. In a folder, files with the
    suffix of a video are clips, and folders that hold pictures but no video. A .csv is a manifest. Names that begin
    with a dot are passed over. With `follow_links`, folders that are links are walked through, once each.

    Raises:
        DataError: a manifest cannot be read, or there is nothing to score.
    """
    items = [item for path in paths for item in _expand(os.fspath(path), follow_links)]
    if not items:
        named = ", ".join(repr(str(path)) for path in paths) or "no paths"
        raise DataError(
            f"nothing to score in {named}; name video files, folders of them ({' '.join(VIDEO_SUFFIXES)}), folders of "
            "frames, or a manifest CSV"
        )
    return items


def named(name: str) -> Item:
    """The one clip that a path names, whatever is there: a video, a folder of frames, nothing."""
    if "://" in name or "\0" in name:
        error = ClipError(ClipStatus.REJECTED, "it is an address, not a file")
        return Item(Clip(id=name, path=Path(name.replace("\0", " "))), refused=error)
    path = Path(name).expanduser()
    try:
        path = path.resolve()  # a link that the user names is meant
    except (OSError, RuntimeError):
        path = path.absolute()
    return Item(Clip(id=name or ".", path=path))


def printable(text: str) -> str:
    """`text` as UTF-8 can hold it; bytes of a file name that are none are shown as `\\xNN`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _expand(name: str, follow_links: bool) -> Iterator[Item]:
    item = named(name)
    path = item.clip.path
    if item.refused is None and path.suffix.lower() == ".csv" and path.is_file():
        yield from _of_manifest(path)
    elif item.refused is None and path.is_dir():
        yield from _of_folder(path, Path(name), follow_links)
    else:
        yield item


def _of_manifest(path: Path) -> list[Item]:
    """An item a row, in the order of the file; a row whose path is refused keeps its place, id and label."""
    refused: list[tuple[int, Item]] = []

    def refuse(place: int, clip: Clip, why: DataError) -> None:
        refused.append((place, Item(clip, refused=ClipError(ClipStatus.REJECTED, str(why)))))

    clips = read_manifest(path, labelled=False, subject="none", classes=None, on_bad_path=refuse).clips
    items = [Item(clip, root=path.parent if clip.path.is_relative_to(path.parent) else None) for clip in clips]
    for place, item in reversed(refused):
        items.insert(place, item)
    return items


def _of_folder(folder: Path, shown: Path, follow_links: bool) -> Iterator[Item]:
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=follow_links):
        folders.sort()
        visible = [name for name in folders if not name.startswith(".")]
        if follow_links:
            seen.add(os.path.realpath(here))
            visible = [name for name in visible if os.path.realpath(os.path.join(here, name)) not in seen]
        links = [] if follow_links else [n for n in visible if os.path.islink(os.path.join(here, n))]
        folders[:] = [name for name in visible if name not in links]
        videos = [n for n in files if not n.startswith(".") and n.lower().endswith(VIDEO_SUFFIXES)]
        pictures = any(not n.startswith(".") and n.lower().endswith(FRAME_SUFFIXES) for n in files)
        for name in sorted(videos + links):
            path = Path(here, name)
            yield Item(Clip(id=str(shown / path.relative_to(folder)), path=path), root=folder)
        if pictures and not videos:
            path = Path(here)
            yield Item(Clip(id=str(shown / path.relative_to(folder)), path=path), root=folder)
