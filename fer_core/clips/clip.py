"""Clip: one recorded expression of one subject, and the digest that identifies its content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fer_core.clips.frame_order import frame_order
from fer_core.errors import DataError

VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".flv", ".ts", ".wmv", ".mts", ".m2ts", ".vob"),
    *(".3gp", ".3g2", ".asf", ".divx", ".dv", ".f4v", ".m2v", ".mjpg", ".mjpeg", ".ogv"),
)  # videos with another suffix are recognised by their content, see `media`
FRAME_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff")


class Split(StrEnum):
    """The side of the subject-disjoint split a clip is on."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Clip:
    """One clip: a video file or a folder of frames, neutral at first, expressive at its apex.

    Args:
        id: unique in its manifest; the relative path without suffix, or the name that the database gives the clip.
        path: absolute path of the video file or frame folder.
        subject: `<dataset>:<id>`; empty when unknown, and then no subject-disjoint split is possible.
        emotion: the label, an emotion or any other class; None for a clip without a label, which can only be scored.
        dataset: source database; a name containing `synthetic` marks drawn or rendered faces.
        apex: 0-based frame of the most intense expression; None when unknown.
        split: side of the split, once there is one.
        groups: values of the `group_*` columns (sex, age, spectacles ...), by column name without the prefix.
        root: folder that must contain `path`, with no symbolic link between the two; None allows any place. Two clips
            that differ only in `root` are equal.
        labelled_by, labelled_at: who confirmed or corrected the label, and when (ISO 8601); empty if nobody did. Two
            clips that differ only in these are equal.
        keep_id: True if other spellings of the subject (`1` for `001`) are different people. Two clips that differ only
            in `keep_id` are equal.

    Raises:
        DataError: `apex` is negative, or `id` is empty.
    """

    id: str
    path: Path
    subject: str = ""
    emotion: str | None = None
    dataset: str = ""
    apex: int | None = None
    split: Split | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = field(default=None, compare=False)
    keep_id: bool = field(default=False, compare=False)
    labelled_by: str = field(default="", compare=False)
    labelled_at: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.id:
            raise DataError(f"{self.path}: a clip needs an id")
        if self.apex is not None and self.apex < 0:
            raise DataError(f"clip '{self.id}': apex {self.apex} is negative; frames count from 0")

    @property
    def synthetic(self) -> bool:
        """Return True if the faces are drawn or rendered; every result computed from them must then say so."""
        return "synthetic" in self.dataset.lower()


def frame_files(folder: Path) -> list[Path]:
    """Return the frames of a frame folder in order, see `frame_order`; hidden files (`.DS_Store`) are ignored.

    Raises:
        ClipError: the order cannot be read from the names (status rejected).
        OSError: the folder cannot be read.
    """
    pictures = (p.name for p in folder.iterdir() if not p.name.startswith(".") and p.suffix.lower() in FRAME_SUFFIXES)
    return [folder / name for name in frame_order(pictures).names]


def clip_digest(path: Path) -> str:
    """Return the digest of a clip's content, 32 hex digits.

    It is BLAKE2b-128 of the file's bytes, or of the ordered digests of a folder's frames.

    The digest does not depend on path or time: a renamed clip keeps its digest.

    Raises:
        OSError: the file or folder cannot be read.
        ClipError: the order of the frames is unknown, see `frame_files`.
    """
    if path.is_dir():
        whole = hashlib.blake2b(b"frames", digest_size=16)
        for frame in frame_files(path):
            whole.update(bytes.fromhex(_file_digest(frame)))
        return whole.hexdigest()
    return _file_digest(path)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
