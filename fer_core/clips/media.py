"""Decide which files of a folder are clips; scanning, batch scoring and preprocessing all use this module.

A video is a clip, recognised by its suffix or by its first bytes. Pictures numbered without large gaps are the frames
of one clip, and the folder is that clip; other pictures are stills, clips of one frame each. Every other file is
skipped, with a reason. No file is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_core.clips.clip import FRAME_SUFFIXES, VIDEO_SUFFIXES, Split
from fer_core.clips.frame_order import frame_order
from fer_core.emotions import ALIASES, OTHER_LABELS, label_of
from fer_core.errors import ClipError

NOT_VIDEO = "not a video"
OURS = "results of ferflow"
SPLITS = {**{s.value: s for s in Split}, "val": Split.VALIDATION, "valid": Split.VALIDATION, "dev": Split.VALIDATION}
_HEAD = 4096  # bytes read of a file whose suffix is unknown
_AMBIGUOUS = (".ts",)  # also TypeScript
_TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # MPEG transport stream: (size of a packet, offset of its sync byte)
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*")
_VIDEOS = re.compile(
    rb"""
    .{4}(ftyp|moov|mdat|wide|skip|pnot)     # MPEG-4, QuickTime, 3GPP; also HEIF pictures
    | \x1aE\xdf\xa3 | RIFF.{4}AVI[ ] | FLV\x01 | 0&\xb2u\x8ef\xcf\x11  # Matroska and WebM, AVI, Flash, ASF (WMV)
    | \0\0\x01[\xba\xb3] | \0?\0\0\x01[\x67\x27\x40] | DKIF | \x12\0\x0a  # MPEG, H.264 and HEVC streams, IVF, OBU
    | \x1f\x07\0[\x3f\xbf] | OggS.*(theora|OVP8)  # DV, Ogg with a picture
    | GIF8 | RIFF.{4}WEBP | \x06\x0e\x2b\x34 | [.]RMF | YUV4MPEG2  # moving pictures that are refused with a remedy
    """,
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True)
class Found:
    """The clips and the other files of one folder, sorted by name.

    Args:
        clips: videos and stills; the folder itself where its pictures are the frames of one clip.
        passed_over: the other files, each with the reason.
        note: sentence on how the pictures were interpreted; empty where there was nothing to decide.
    """

    clips: tuple[Path, ...]
    passed_over: tuple[tuple[Path, str], ...] = ()
    note: str = ""


def clips_in(folder: Path, files: Sequence[Path], *, class_folder: bool = False) -> Found:
    """Return the clips among `files`, the visible entries of a folder that are not folders themselves.

    Args:
        folder: the folder of the files.
        files: its visible files.
        class_folder: True if the folder collects clips of one label; its pictures are then stills, numbered or not.
    """
    videos = [path for path in files if is_video(path)]
    known = set(videos)
    pictures = [path for path in files if path not in known and is_picture(path)]
    known.update(pictures)
    passed_over = [(path, NOT_VIDEO) for path in files if path not in known]
    note = ""
    named = any(path.suffix.lower() in VIDEO_SUFFIXES for path in videos)  # a GIF does not count
    if named and not class_folder:
        passed_over += [(path, "a picture beside a video") for path in pictures]
        pictures = []
    elif class_folder:
        stems = {path.stem for path in videos}
        passed_over += [(path, "a picture beside its video") for path in pictures if path.stem in stems]
        pictures = [path for path in pictures if path.stem not in stems]
    elif len(pictures) > 1:
        try:
            order = frame_order(path.name for path in pictures)
        except ClipError as exc:
            note = f"{folder}: {len(pictures)} pictures are taken as stills: {exc.reason}"
        else:
            if order.continuous:
                passed_over += [(folder / name, "not one of the numbered frames") for name in order.others]
                note = f"{folder}: its frames are ordered by {order.reading} of their names" if order.reading else ""
                return Found((folder, *sorted(videos)), tuple(sorted(passed_over)), note)
            note = (
                f"{folder}: {len(pictures)} pictures are taken as stills, since more than half of the numbers between "
                "them are missing; name the folder in a manifest to take it for one clip"
            )
    return Found(tuple(sorted([*videos, *pictures])), tuple(sorted(passed_over)), note)


def is_video(path: Path) -> bool:
    """Return True if a file has the suffix of a video or the content of one; a damaged file is judged by its suffix."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES and suffix not in _AMBIGUOUS:
        return path.is_file() or path.is_symlink()
    if suffix in FRAME_SUFFIXES:
        return False
    head = _head(path)
    return _VIDEOS.match(head) is not None or any(
        len(head) > 2 * size and all(head[place + i * size] == 0x47 for i in range(3)) for size, place in _TS_PACKETS
    )


def is_picture(path: Path) -> bool:
    """Return True if a file has the suffix of a picture, or the content of a picture and no suffix of a video."""
    suffix = path.suffix.lower()
    if suffix in FRAME_SUFFIXES:
        return path.is_file() or path.is_symlink()
    return suffix not in VIDEO_SUFFIXES and is_picture_content(_head(path))


def is_picture_content(head: bytes) -> bool:
    """Return True if the first bytes are those of a JPEG, PNG, TIFF or BMP picture."""
    return head.startswith(_PICTURES) or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" and len(head) > 25)


def is_class_folder(inside: Path) -> bool:
    """Return True if the folder `inside`, a path relative to the user's root, collects the clips of one label."""
    parts = inside.parts[1:] if inside.parts and inside.parts[0].lower() in SPLITS else inside.parts
    return len(parts) == 1 and (label_of(parts[0]) in {*ALIASES.values(), *OTHER_LABELS})


def is_ours(folder: Path) -> bool:
    """Return True if ferflow made the folder: the results of a scored batch, or a workspace."""
    results = (folder / "verdicts.parquet").is_file() and (folder / "frames.parquet").is_file()
    return results or ((folder / "store").is_dir() and (folder / "mlflow.db").is_file())


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError:
        return b""
