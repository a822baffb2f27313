"""Collects the result of a reader: every entry is either kept, or dropped and counted with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

from fer_core.clips.clip import FRAME_SUFFIXES, VIDEO_SUFFIXES, Clip, Split, frame_files
from fer_core.clips.manifest import Manifest
from fer_core.clips.rows import tell_apart
from fer_core.clips.spelling import People
from fer_core.emotions import SIX, UNCLASSED, Classes, label_fault
from fer_core.errors import ClipError, DataError

NO_LABEL = "no label"
DUPLICATE = "duplicate"
POINTER = "pointer file"
OPEN = frozenset({"ravdess", "cremad"})  # licences CC BY-NC-SA 4.0 and ODbL 1.0; the others need a signed agreement
APEX_UNKNOWN = (
    "{n} of {of} clips name no apex, so the second half of each is taken. That is right for clips that end at the "
    "strongest expression; for clips that go back to neutral set preprocess.apex=estimate, or you get the way back"
)
_LARGEST_XML = 4 * 1024**2  # bytes
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Scan:
    """The result of reading a database from disk.

    Args:
        manifest: the clips kept.
        dropped: number of entries left out, by reason.
        warnings: sentences, mostly on counts that differ from the published ones.
        as_published: counts that agree with the published ones, such as `327 labelled sequences`.
        joined: the spelling of a subject that is kept -> the other spellings of the same person.
        readings: (path below the root, subject, label, side, result) of the first clips in a user's own folders.
        left_out: (path below the root, reason) of single files that were left out.
    """

    manifest: Manifest
    dropped: Mapping[str, int]
    warnings: tuple[str, ...]
    as_published: tuple[str, ...] = ()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    readings: tuple[tuple[str, str, str, str, str], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def kept(self) -> int:
        return len(self.manifest)

    @property
    def found(self) -> int:
        """Return the number of entries where a clip may stand: kept + dropped."""
        return self.kept + sum(self.dropped.values())

    @property
    def redistribute(self) -> bool:
        """Return True if the pictures of all clips may leave this machine."""
        return all(may_leave(c) for c in self.manifest.clips)

    def class_counts(self) -> dict[str, int]:
        """Return the number of clips kept per class, in the order of the classes."""
        return self.manifest.class_counts()

    def subject_counts(self) -> dict[str, int]:
        """Return the number of clips kept per subject, subjects sorted; '' for unknown subjects."""
        return dict(sorted(Counter(c.subject for c in self.manifest.clips).items()))


def may_leave(clip: Clip) -> bool:
    """Return True if pictures of a clip may leave this machine: drawn faces, and those of open databases.

    Signed databases forbid it, and data of unknown origin has no known licence. `tracking.upload_faces` overrides this.
    """
    return clip.synthetic or clip.dataset in OPEN


class Survey:
    """Collects clips and drops while a reader walks a database.

    Args:
        dataset: name of the database, the first half of every subject's key.
        root: folder that the user named.
        classes: the allowed labels; clips of others are dropped. None makes every label a class.
        follow_links: follow symbolic links inside `root`.
    Raises:
        DataError: `root` is not a readable folder.
    """

    def __init__(self, dataset: str, root: Path, *, classes: Classes | None = SIX, follow_links: bool = False) -> None:
        self.dataset = dataset
        self.root = root.absolute()
        self.classes = classes
        self.follow_links = follow_links
        self.clips: list[Clip] = []
        self.dropped: Counter[str] = Counter()
        self.left_out: list[tuple[str, str]] = []
        self.warnings: list[str] = []
        self.as_published: list[str] = []
        self.readings: list[tuple[str, str, str, str, str]] = []
        self._takes: set[str] = set()
        try:
            next(self.root.iterdir(), None)
        except OSError as exc:
            raise DataError(f"{root}: no folder to scan ({exc.strerror or exc}); name the folder of {dataset}") from exc

    def entries(self, folder: Path) -> list[Path]:
        """Return the entries of a folder, sorted by name, except hidden files and links that are not followed."""
        kept = []
        try:
            found = sorted(folder.iterdir())
        except OSError as exc:
            self.drop("unreadable folder")
            self.warn(f"{folder} cannot be read ({exc.strerror or exc})")
            return []
        for path in found:
            if path.name.startswith("."):
                self.drop("junk", path=path)
            elif path.is_symlink() and not self.follow_links:
                self.drop("symbolic link", path=path)
            else:
                kept.append(path)
        return kept

    def folders(self, folder: Path) -> list[Path]:
        return [p for p in self.entries(folder) if p.is_dir()]

    def find(self, *names: str, depth: int = 2) -> Iterator[Path]:
        """Yield the folders called one of `names` (any case), from the root itself down to `depth`, outermost first.

        Raises:
            DataError: such a folder is a symbolic link and `follow_links` is False.
        """
        wanted = {name.lower() for name in names}
        level = [self.root]
        for _ in range(depth + 1):
            for folder in level:
                if folder.name.lower() in wanted:
                    self.refuse_link(folder)
                    yield folder
            level = [p for folder in level if self._may_enter(folder) for p in _folders(folder)]

    def refuse_link(self, path: Path) -> None:
        """Stop with an error if a part of the database is a symbolic link that may not be followed.

        Raises:
            DataError: `path` is a symbolic link and `follow_links` is False.
        """
        if not self._may_enter(path):
            raise DataError(f"{path} is a symbolic link, which is not followed; scan with --follow-links to follow it")

    def _may_enter(self, path: Path) -> bool:
        return self.follow_links or path == self.root or not path.is_symlink()

    def walk(self, folder: Path, depth: int = 8) -> Iterator[Path]:
        """Yield all files below a folder; the limit of depth, larger than any database needs, ends a loop of links."""
        for path in self.entries(folder):
            if not path.is_dir():
                yield path
            elif depth:
                yield from self.walk(path, depth - 1)
            else:
                self.drop("nested too deep")

    def drop(self, reason: str, n: int = 1, path: Path | None = None) -> None:
        if n:
            self.dropped[reason] += n
        if path is not None:
            self.left_out.append((path.relative_to(self.root).as_posix(), reason))

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)

    def add(
        self,
        path: Path,
        *,
        subject: str,
        label: str | None,
        clip: str = "",
        apex: int | None = None,
        split: Split | None = None,
        groups: Mapping[str, str] | None = None,
        least_frames: int = 2,
        take: str = "",
    ) -> str:
        """Keep a clip, or drop it and count the first reason that applies.

        Args:
            path: video file, still image, or folder of frames.
            subject: id within the database; empty when unknown.
            label: a class, a reason why there is no label, or None.
            clip: id of the clip; when empty, the path below the root without suffix.
            apex: frame of the most intense expression, counted from 0; None when unknown.
            split: side of the split; None when unknown.
            groups: values by name of the group.
            least_frames: a frame folder with fewer frames is dropped.
            take: name of the recording; a second file of a recording that is already kept is dropped as a duplicate.
        Returns:
            The reason of the drop; '' when the clip is kept.
        """
        reason = DUPLICATE if take in self._takes else ""
        if reason := reason or self._label_reason(label) or media_reason(path, least_frames):
            self.drop(reason, path=path)
            return reason
        if take:
            self._takes.add(take)
        self.clips.append(
            Clip(
                id=clip or path.relative_to(self.root).with_suffix("").as_posix(),
                path=path,
                subject=f"{self.dataset}:{subject}" if subject else "",
                emotion=label,
                dataset=self.dataset,
                apex=apex,
                split=split,
                groups=dict(groups or {}),
            )
        )
        return ""

    def expect(self, what: str, had: int, *published: int) -> None:
        """Note a count that is one of the published ones; warn about any other."""
        if had in published:
            self.as_published.append(f"{had} {what}")
        else:
            self.warn(f"{self.dataset}: {had} {what}, but {' or '.join(map(str, published))} are published")

    def say_apex_unknown(self) -> None:
        """Warn about clips without an apex: if they return to neutral, their second half shows the expression fade."""
        if n := sum(c.apex is None for c in self.clips):
            self.warn(f"{self.dataset}: the apex of {n} clips is not annotated; set preprocess.apex=estimate for them")

    def close(self, layout: str, *, keep_ids: bool = False) -> Scan:
        """Return the result, with one spelling for each person.

        Args:
            layout: the layout that the reader expects, for the message when no clip is found.
            keep_ids: treat subjects that differ only in spelling as different people.
        Raises:
            DataError: no clip was kept.
        """
        if not self.clips:
            if n := self.dropped[POINTER]:
                raise DataError(f"{self.root}: {n} files are Git LFS pointers, not videos; run 'git lfs pull' there")
            had = ", ".join(f"{n} x {reason}" for reason, n in sorted(self.dropped.items())) or "nothing"
            raise DataError(f"{self.root}: no clip of {self.dataset} found ({had}); looked for {layout}")
        if self.dropped[POINTER]:
            self.warn(
                f"{self.dataset}: {self.dropped[POINTER]} files are Git LFS pointers; run 'git lfs pull' for the rest"
            )
        people = People()
        clips = [replace(c, keep_id=True) for c in self.clips] if keep_ids else people.join(self.clips)
        return Scan(
            Manifest.of_classes(tell_apart(clips), self.classes),
            dict(sorted(self.dropped.items())),
            tuple(self.warnings),
            tuple(self.as_published),
            people.joined,
            tuple(self.readings),
            tuple(self.left_out),
        )

    def knows(self, label: str) -> bool:
        """Return True if the label is one of the classes."""
        if self.classes is not None:
            return label in self.classes
        return label not in UNCLASSED and not label_fault(label)

    def _label_reason(self, label: str | None) -> str:
        if not label:
            return NO_LABEL
        return "" if self.knows(label) else str(label)


def videos(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]


def stills(paths: Iterable[Path]) -> list[Path]:
    return [p for p in paths if p.suffix.lower() in FRAME_SUFFIXES and p.is_file()]


def read_xml(path: Path | None) -> ElementTree.Element | None:
    """Return the root of an XML file; None when it is missing, too large or not XML."""
    try:
        if path is None or path.stat().st_size > _LARGEST_XML:
            return None
        return ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError, ValueError, LookupError):
        return None


def media_reason(path: Path, least_frames: int) -> str:
    """Return the reason why a path is no usable clip; '' when it may be one."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "name is not UTF-8"
    try:
        if not path.is_dir():
            return _file_reason(path)
        frames = frame_files(path)
        if not frames:
            return "empty folder"
        if len(frames) < least_frames:
            return "one frame"
        return POINTER if _file_reason(frames[0]) == POINTER else ""
    except ClipError:
        return "frames in no certain order"
    except OSError:
        return "unreadable"


def _file_reason(path: Path) -> str:
    size = path.stat().st_size
    if size == 0:
        return "empty file"
    if size < 1024:
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                return POINTER
    return ""


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return []
