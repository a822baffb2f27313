"""Find the clips to score in the files, folders and manifests that a user names. Opens no video."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import read_manifest
from fer_core.clips.media import OURS, clips_in, is_class_folder, is_ours
from fer_core.errors import ClipError, ClipStatus, DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One clip to score; it gets one row of the results.

    Args:
        clip: the clip, with an id that the user recognises.
        root: folder in which the file must be, without following links; None: the user named the file itself.
        refused: error because of which the file is not opened; None if it is opened.
        digest: content digest; empty if not computed yet.
    """

    clip: Clip
    root: Path | None = None
    refused: ClipError | None = None
    digest: str = ""


@dataclass(frozen=True)
class PassedOver:
    """A file or folder inside a named folder that is not a clip.

    Args:
        path: path that the user recognises.
        reason: `not a video`, `hidden` ...
    """

    path: str
    reason: str


def collect(paths: Sequence[str | Path], *, follow_links: bool = False, may_be_empty: bool = False) -> list[Item]:
    """Find the clips in some paths, in the given order; clips of a folder are sorted by name.

    A file that the user names is always an item, even if it does not exist; its row then has the reason. In a folder,
    `clips.media` decides which files are clips; `passed_over` lists the others. A .csv file is a manifest. With
    `follow_links`, links to folders are followed, each folder once.

    Raises:
        DataError: a manifest cannot be read, or there is nothing to score and not `may_be_empty`.
    """
    items = [item for item in _all(paths, follow_links) if isinstance(item, Item)]
    if not items and not may_be_empty:
        named = ", ".join(repr(str(path)) for path in paths) or "no paths"
        raise DataError(
            f"nothing to score in {named}; name video files, pictures, folders of them, folders of frames, or a "
            "manifest CSV"
        )
    return items


def unlabelled(path: Path, *, follow_links: bool = False) -> list[Item]:
    """Return the clips of a manifest or folder if none of them has a label; else, or if it does not exist, nothing.

    Raises:
        DataError: the manifest cannot be read, or there are no clips.
    """
    items = collect([path], follow_links=follow_links) if path.exists() else []
    return [] if any(item.clip.emotion for item in items) else items


def passed_over(paths: Sequence[str | Path], *, follow_links: bool = False) -> list[PassedOver]:
    """List the files in the folders among `paths` that are not clips, each with its reason."""
    return [found for found in _all(paths, follow_links) if isinstance(found, PassedOver)]


def named(name: str) -> Item:
    """Return the item of one path, which may be a video, a folder of frames, or missing."""
    if "://" in name or "\0" in name:
        error = ClipError(ClipStatus.REJECTED, "it is an address, not a file")
        return Item(Clip(id=name, path=Path(name.replace("\0", " "))), refused=error)
    path = Path(name).expanduser()
    try:
        path = path.resolve()  # a link is followed if the user names it
    except (OSError, RuntimeError):
        path = path.absolute()
    return Item(Clip(id=name or ".", path=path))


def printable(text: str) -> str:
    """Return `text` as valid UTF-8; invalid bytes of a file name become `\\xNN`."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _all(paths: Sequence[str | Path], follow_links: bool) -> Iterator[Item | PassedOver]:
    for path in paths:
        yield from _expand(os.fspath(path), follow_links)


def _expand(name: str, follow_links: bool) -> Iterator[Item | PassedOver]:
    item = named(name)
    path = item.clip.path
    if item.refused is None and path.suffix.lower() == ".csv" and path.is_file():
        yield from _of_manifest(path)
    elif item.refused is None and path.is_dir():
        yield from _of_folder(path, Path(name), follow_links)
    else:
        yield item


def _of_manifest(path: Path) -> list[Item]:
    """Return one item per row of a manifest, in order; a row with an invalid path is an item with an error."""
    refused: list[tuple[int, Item]] = []

    def refuse(place: int, clip: Clip, why: DataError) -> None:
        refused.append((place, Item(clip, refused=ClipError(ClipStatus.REJECTED, str(why)))))

    clips = read_manifest(path, labelled=False, subject="none", classes=None, on_bad_path=refuse).clips
    items = [Item(clip, root=path.parent if clip.path.is_relative_to(path.parent) else None) for clip in clips]
    for place, item in reversed(refused):
        items.insert(place, item)
    return items


def _of_folder(root: Path, shown: Path, follow_links: bool) -> Iterator[Item | PassedOver]:
    seen: set[str] = set()

    def name(path: Path) -> str:
        return str(shown / path.relative_to(root))

    for here, folders, files in os.walk(root, followlinks=follow_links):
        folder = Path(here)
        folders.sort()
        yield from (PassedOver(name(folder / entry), "hidden") for entry in (*folders, *files) if entry.startswith("."))
        visible = [entry for entry in folders if not entry.startswith(".")]
        if follow_links:
            seen.add(os.path.realpath(folder))
            visible = [entry for entry in visible if os.path.realpath(folder / entry) not in seen]
        links = [] if follow_links else [entry for entry in visible if (folder / entry).is_symlink()]
        ours = [entry for entry in visible if entry not in links and is_ours(folder / entry)]
        yield from (PassedOver(name(folder / entry), OURS) for entry in ours)
        folders[:] = [entry for entry in visible if entry not in links and entry not in ours]
        shown_files = [folder / entry for entry in sorted(files) if not entry.startswith(".")]
        found = clips_in(folder, shown_files, class_folder=is_class_folder(folder.relative_to(root)))
        for path in sorted([*found.clips, *(folder / entry for entry in links)]):
            yield Item(Clip(id=name(path), path=path), root=root)
        yield from (PassedOver(name(path), reason) for path, reason in found.passed_over)
        if found.note:
            log.warning(found.note)
