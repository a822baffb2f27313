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
)  # others are known by their content, see `media`
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
        id: unique in its manifest; relative path without suffix, or the database's own name.
        path: absolute path of the video file or frame folder.
        subject: `<dataset>:<id>`; empty when unknown, which forbids subject-disjoint splits.
        emotion: the label, of an emotion or any other class; None for clips that are only to be scored.
        dataset: source database; a name containing `synthetic` marks drawn or rendered faces.
        apex: 0-based frame of the most intense expression; None when unknown.
        split: side of the split, once there is one.
        groups: `group_*` columns (sex, age, spectacles ...) without the prefix.
        root: tree it must lie in, links on the way not followed; None: anywhere. No part of what a clip is.
        keep_id: other spellings of its subject (`1` for `001`) are other people. No part of what a clip is either.

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

    def __post_init__(self) -> None:
        if not self.id:
            raise DataError(f"{self.path}: a clip needs an id")
        if self.apex is not None and self.apex < 0:
            raise DataError(f"clip '{self.id}': apex {self.apex} is negative; frames count from 0")

    @property
    def synthetic(self) -> bool:
        """True if its faces are drawn or rendered, which every number made from it must say."""
        return "synthetic" in self.dataset.lower()


def frame_files(folder: Path) -> list[Path]:
    """The frames of a frame folder in order, see `frame_order`; hidden names (`.DS_Store`, `._x.jpg`) are no frames.

    Raises:
        ClipError: their names do not tell their order (rejected). OSError: the folder cannot be read.
    """
    pictures = (p.name for p in folder.iterdir() if not p.name.startswith(".") and p.suffix.lower() in FRAME_SUFFIXES)
    return [folder / name for name in frame_order(pictures).names]


def clip_digest(path: Path) -> str:
    """Content identity of a clip: BLAKE2b-128 of the file's bytes, or of the ordered frame digests of a folder.

    Never of path or time: a renamed clip is the same clip. Raises OSError when the file cannot be read,
    ClipError where `frame_files` does.
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
