"""Read the rows of a manifest CSV into clips; every error names the file, the line, the value and the remedy."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fer_core.clips.cells import csv_text, plain_cell
from fer_core.clips.clip import Clip, Split
from fer_core.clips.label_words import label_hint, mapped_label
from fer_core.clips.media import SPLITS
from fer_core.clips.spelling import People, existing_path, is_missing, person_key
from fer_core.emotions import ALIASES, OTHER_LABELS, UNCLASSED, Classes, label_fault
from fer_core.errors import DataError
from fer_core.store import write_atomic

KNOWN = ("clip", "path", "subject", "label", "dataset", "apex", "split", "root", "start", "end", "intensity", "keep_id",
         "labelled_by", "labelled_at")  # fmt: skip
# Other names that users give to the required columns.
SYNONYMS = {
    "path": "file filename file_name filepath file_path video videopath video_path image image_path media",
    "label": "emotion class expression category target emotion_label",
    "subject": "subject_id subjectid person person_id participant participant_id speaker actor patient identity sub",
}
ABOUT_PEOPLE = frozenset(
    ("sex", "gender", "age", "age_group", "ethnicity", "race", "skin", "skin_tone", "nationality", "glasses", "beard")
)
Rows = dict[Path, tuple[int, Clip]]  # path -> line and clip
_UNKNOWN = "unknown label"
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


@dataclass(frozen=True)
class ManifestRows:
    """The content of a manifest CSV.

    Args:
        clips: one per file, in the order of the rows.
        dropped: number of rows left out, by reason.
        joined: the spelling of a subject that is kept -> the other spellings of the same person.
        unread: columns that are not used.
    """

    clips: tuple[Clip, ...]
    dropped: Mapping[str, int]
    joined: Mapping[str, tuple[str, ...]]
    unread: tuple[str, ...]

    def notes(self) -> Iterator[str]:
        """Yield a sentence for each unused column about people (sex, age ...) that needs the prefix `group_`."""
        for name in self.unread:
            if name in ABOUT_PEOPLE:
                yield f"column '{name}' is not read; call it 'group_{name}' to have results for each of its values"


def read_rows(
    path: Path,
    *,
    labelled: bool,
    subject: Literal["required", "known", "none"],
    classes: Classes | None,
    ignore_split: bool = False,
    keep_ids: bool = False,
    words: Mapping[str, str] | None = None,
    on_bad_path: Callable[[int, Clip, DataError], None] | None = None,
) -> ManifestRows:
    """Return the clips of a manifest CSV with the counts of rows left out. Other arguments and errors: `read_manifest`.

    Args:
        subject: for a row without one, `required` raises, `known` leaves the row out and counts it, `none` keeps it.
        keep_ids: treat subjects that differ only in spelling as different people.
        words: labels of the words that this file uses, from `read_label_map`.
    """
    needed = ["path", *(["label"] if labelled else []), *(["subject"] if subject != "none" else [])]
    folder = path.absolute().parent
    dropped: Counter[str] = Counter()
    kept: Rows = {}
    people = People()
    unknown: dict[str, list[int]] = {}  # word that is no class -> the lines that have it
    columns, rows = read_table(path, needed)
    for line, row in rows:
        where = f"{path.name} line {line}"
        if ignore_split:
            row.pop("split", None)
        emotion, reason = _label(row.get("label", ""), where, classes, words)
        if reason == _UNKNOWN:
            unknown.setdefault(row["label"], []).append(line)
        try:
            root, media = _locate(row, folder)
        except DataError as exc:
            refused = DataError(f"{where}: {exc}")
            if on_bad_path is None:
                raise refused from exc
            name = row.get("clip") or row["path"] or "(no path)"
            on_bad_path(len(kept), Clip(id=name, path=Path(row["path"].replace("\0", " ")), emotion=emotion), refused)
            dropped["path refused"] += 1
            continue
        word = row.get("subject", "")
        if is_missing(word):
            row["subject"] = ""
        if keep_ids:
            row["keep_id"] = "yes"
        unnamed = subject == "known" and not row["subject"]
        clip = _clip(row, emotion, root, media, where, people, subject == "required")
        if labelled and emotion is None:
            dropped[reason] += 1
            continue
        if unnamed:
            dropped[f"no subject ({word})" if word else "no subject"] += 1
            continue
        first, other = kept.setdefault(clip.path, (line, clip))
        if other is clip:
            continue
        for what, had, has in (("label", other.emotion, emotion), ("subject", other.subject, clip.subject)):
            if had != has:
                raise DataError(
                    f"{where}: '{row['path']}' has {what} '{has}' here and '{had}' in line {first}; "
                    "a clip has one. Remove the wrong row."
                )
        dropped["duplicate"] += 1
    if unknown and classes is not None:
        raise DataError(_unknown_labels(path, unknown, classes))
    if not kept and not dropped["path refused"]:
        had = ", ".join(f"{n} x {why}" for why, n in sorted(dropped.items()))
        raise DataError(f"{path.name} has no usable row ({had or 'only a header'}); it needs at least one clip")
    _one_side_each(path, kept)
    unread = tuple(c for c in columns if c and c not in KNOWN and not c.startswith("group_"))
    return ManifestRows(_unique_ids(path, kept), dict(dropped), people.joined, unread)


def drop_subject(path: Path, subject: str, dry: bool = False) -> int:
    """Rewrite a manifest without the rows of a subject, and return their number; other rows stay as they are.

    Args:
        path: the CSV file.
        subject: key of the subject, `<dataset>:<id>` or `<id>`.
        dry: only count the rows.
    Raises:
        DataError: the file is no manifest.
        StoreError: the file cannot be written.
    """
    rows = [row for _, row in read_table(path, ["subject"])[1]]
    kept = [row for row in rows if not _shows(row, subject)]
    if rows and len(kept) < len(rows) and not dry:
        write_atomic(path, csv_text([rows[0].keys(), *(row.values() for row in kept)]).encode())
    return len(rows) - len(kept)


def tell_apart(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """Return the clips; ids that are equal because the suffix was cut off (`a.mp4`, `a.mov`) get it back."""
    counts = Counter(clip.id for clip in clips)
    return tuple(
        replace(c, id=c.id + c.path.suffix)
        if counts[c.id] > 1 and c.path.suffix and c.path.with_suffix("").as_posix().endswith(c.id)
        else c
        for c in clips
    )


def clip_path(text: str, root: Path) -> Path:
    """Return the absolute path of a path cell; only its text is checked, nothing is opened.

    An absolute path is accepted only inside `root`; a row that reads from another folder names it in the column `root`.

    Raises:
        DataError: the cell is empty, is a URL, protocol or drive, contains NUL or `..`, or leads out of `root`.
    """
    if not text.strip() or text.strip() == ".":
        raise DataError("the path is empty; name a video file or a folder of frames")
    if "\0" in text:
        raise DataError(f"path {text!r} holds a NUL character; correct the name")
    if _PROTOCOL.match(text.lstrip()) or text.startswith("\\\\"):
        raise DataError(
            f"path '{text}' reads as a URL, protocol or drive, which are never opened; "
            + (
                "backslashes are Windows's: copy the clips beside the manifest and write 'folder/clip.mp4'"
                if "\\" in text
                else "copy the clip beside the manifest, or put './' before a file name that has a colon"
            )
        )
    if ".." in text and ".." in re.split(r"[/\\]", text):
        raise DataError(f"path '{text}' has '..', which may lead out of {root}; write the path without it")
    path = Path(text)
    if not path.is_absolute():
        return root / path
    if not path.is_relative_to(root):
        raise DataError(
            f"path '{text}' is absolute and outside {root}; write it relative to the manifest, "
            "or relative to a folder named in a column 'root'"
        )
    return path


def read_table(path: Path, needed: list[str]) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Return the columns of a CSV file, and for each row that is not blank its line number and its cells by column.

    Cells are separated by commas, semicolons, tabs or bars; Excel's first line `sep=;` names the separator. The unnamed
    column of row numbers that R's write.table adds is skipped.

    Raises:
        DataError: the file cannot be read, or lacks a column in `needed`. Iterating over the rows raises it for a row
            with a wrong number of cells or wrong quotes.
    """
    text = _text(path)
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r'"?sep=(.)"?', first.strip("\r "), re.IGNORECASE)
    header = (rest if told else text).lstrip().partition("\n")[0]
    # the most frequent one in the header, which has one between each two columns; ties go to the first
    delimiter = told[1] if told else max(",;\t|", key=header.count)
    if delimiter not in header and set(needed) & set(header.lower().replace('"', "").split()[1:]):
        raise DataError(f"{path.name}: blanks separate its columns; save it with commas (in R: write.csv)")
    lines = _lines(path, f"\n{rest}" if told else text, delimiter)
    columns = _columns(path, next(lines, (1, [""]))[1], needed)
    return columns, _rows(path, columns, lines)


def _lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                yield line, row
            line = rows.line_num + 1
    except csv.Error as exc:
        raise DataError(f"{path.name} line {line}: not a CSV row ({exc}); correct the quotes") from exc


def _rows(
    path: Path, columns: list[str], lines: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    names = columns
    for n, (line, row) in enumerate(lines):
        if n == 0 and len(row) == len(columns) + 1 and row[0].isdecimal():
            names = ["", *columns]  # R's write.table puts a row number before each row, without a column in the header
        if len(row) != len(names):
            raise DataError(
                f"{path.name} line {line}: {len(row)} cells, but the header has {len(names)}; "
                "quote cells that hold the delimiter"
            )
        yield line, {c: _cell(c, text) for c, text in zip(names, row, strict=True)}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path}: the manifest cannot be read ({exc.strerror or exc})") from exc
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise DataError(
            f"{path.name} line {line}: byte 0x{data[exc.start]:02X} is not UTF-8; save the file as 'CSV UTF-8'"
        ) from exc
    if not text.strip():
        raise DataError(f"{path.name} is empty; it needs a header 'path,label,subject' and a row per clip")
    return text


def _columns(path: Path, header: list[str], needed: list[str]) -> list[str]:
    columns = [n if n.startswith("group_") else n.lower() for n in (plain_cell(cell).strip() for cell in header)]
    twice = [name for name, n in Counter(columns).items() if n > 1 and name]
    if twice:
        raise DataError(f"{path.name}: column '{twice[0]}' occurs twice; keep one")
    for name in needed:
        if name not in columns:
            own = [c for c in columns if c not in KNOWN]
            close = [c for c in own if c in SYNONYMS.get(name, "").split()] or difflib.get_close_matches(name, own, n=1)
            raise DataError(
                f"{path.name} has no column '{name}'; it has {', '.join(columns)}."
                + (f" Rename '{close[0]}'?" if close else "")
                + (
                    " Without subjects there is no subject-disjoint split: 'ferflow data scan manifest' reads it with "
                    "--option subject=none, to be scored or looked at."
                    if name == "subject"
                    else ""
                )
            )
    return columns


def _cell(column: str, cell: str) -> str:
    """Return the text of a cell, '' for a missing value.

    In the columns subject and label, the word is returned, because clips without a value are counted by it.
    """
    text = plain_cell(cell)
    if column == "path":
        return text  # a file name may begin with a space, and may be a word like `null`
    if column not in ("clip", "root"):
        text = text.strip()
    if not text or not is_missing(text) or column in ("subject", "label"):
        return text
    return text if text.lower() == "none" and column.startswith("group_") else ""  # a group may have the value `none`


def _label(word: str, where: str, classes: Classes | None, words: Mapping[str, str] | None) -> tuple[str | None, str]:
    """Return (class, class) of a label cell, or (None, reason) where its word is none of the classes."""
    label = mapped_label(word, words)
    if label not in (classes or ()):
        if label in UNCLASSED:
            return None, label
        if is_missing(word):
            return None, f"no label ({word})" if word else "no label"
    if classes is None:
        if fault := label_fault(label):
            raise DataError(f"{where}: label '{word}' cannot be a class: {fault}")
        return label, label
    if label in classes:
        return label, label
    if label in OTHER_LABELS or label in ALIASES:
        return None, label
    return None, _UNKNOWN


def _unknown_labels(path: Path, unknown: Mapping[str, list[int]], classes: Classes) -> str:
    """Return the error message for words that are no class: details of the first, and the number of rows of each."""
    word, lines = next(iter(unknown.items()))
    found = f"{path.name} line {lines[0]}: label '{word}' {label_hint(word, classes)}"
    if len(unknown) == 1:
        return found
    counts = ", ".join(f"{w} ({len(n)})" for w, n in list(unknown.items())[:12])
    return f"{found} Unknown are {len(unknown)} words: {counts}{' ...' if len(unknown) > 12 else ''}"


def _locate(row: dict[str, str], folder: Path) -> tuple[Path, Path]:
    """Return (root, absolute path) of a row's clip, see `clip_path`."""
    root = folder
    if row.get("root"):
        if not Path(row["root"]).is_absolute():
            raise DataError(f"root '{row['root']}' is not absolute; name the whole folder")
        root = clip_path(row["root"], Path("/"))
    path = clip_path(row["path"], root)
    if not (row["path"].isascii() and row.get("root", "").isascii()):
        path = existing_path(path)
    if "\\" in row["path"] and not os.path.lexists(path):
        raise DataError(
            f"path '{row['path']}' has backslashes, as Windows writes them, and there is no such file; "
            "write slashes, as in 'folder/clip.mp4'"
        )
    return root, path


def _clip(
    row: dict[str, str], emotion: str | None, root: Path, path: Path, where: str, people: People, named: bool
) -> Clip:
    try:
        apex, start, end = (_frame(name, row.get(name, "")) for name in ("apex", "start", "end"))
        if start or end not in (None, apex):  # `end` at the apex is allowed: frames after the apex are not used anyway
            raise DataError(
                f"start={start}, end={end} take a stretch out of a longer recording, which is not done here; "
                "cut the file first, and clear both cells"
            )
        if named and not row.get("subject"):
            raise DataError(
                "the subject is empty; fill it in or drop the row: clips of unknown people can be scored, looked at "
                "('ferflow data card') and split as their database was (split.scheme=official), not trained on"
            )
        groups = {c.removeprefix("group_"): v for c, v in row.items() if c.startswith("group_") and v}
        if row.get("intensity"):
            groups["intensity"] = row["intensity"]
        subject, keep_id = _subject_key(row.get("subject", ""), row.get("dataset", "")), _keeps_id(row)
        return Clip(
            id=row.get("clip") or path.relative_to(root).with_suffix("").as_posix(),
            path=path,
            subject=subject if keep_id else people.name(subject),
            emotion=emotion,
            dataset=row.get("dataset", ""),
            apex=apex,
            split=_split(row.get("split", "")),
            groups=groups,
            root=root,
            keep_id=keep_id,
            labelled_by=row.get("labelled_by", ""),
            labelled_at=row.get("labelled_at", ""),
        )
    except DataError as exc:
        raise DataError(f"{where}: {exc}") from exc


def _subject_key(subject: str, dataset: str) -> str:
    return f"{dataset}:{subject}" if subject and dataset and ":" not in subject else subject


def _keeps_id(row: Mapping[str, str]) -> bool:
    return row.get("keep_id", "").lower() in ("yes", "true", "1")


def _shows(row: Mapping[str, str], subject: str) -> bool:
    """Return True if a row shows this subject, in any spelling that counts as the same person."""
    own = _subject_key(row["subject"], row.get("dataset", ""))
    exact = _keeps_id(row) or is_missing(row["subject"])
    return own == subject if exact else person_key(own) == person_key(subject)


def _frame(name: str, text: str) -> int | None:
    if not text:
        return None
    try:
        number = float(text)  # pandas writes 28 as 28.0 when another cell of the column is empty
    except ValueError:
        number = -1.0
    if number < 0 or not number.is_integer():
        raise DataError(f"{name} '{text}' is not a frame number; frames are whole numbers that count from 0")
    return int(number)


def _split(text: str) -> Split | None:
    if text and text.lower() not in SPLITS:
        close = difflib.get_close_matches(text.lower(), SPLITS, n=1)
        hint = f"did you mean '{SPLITS[close[0]]}'?" if close else f"use one of {', '.join(Split)}"
        raise DataError(f"split '{text}' is unknown; {hint}")
    return SPLITS[text.lower()] if text else None


def _one_side_each(path: Path, kept: Rows) -> None:
    sides: dict[str, tuple[int, Clip]] = {}
    for line, clip in kept.values():
        if not (clip.subject and clip.split):
            continue
        first, other = sides.setdefault(clip.subject, (line, clip))
        if other.split is not clip.split:
            raise DataError(
                f"{path.name} line {line}: subject '{clip.subject}' is in {other.split} (line {first}) and "
                f"{clip.split}; a subject may be in one split only. Run 'ferflow data split'."
            )


def _unique_ids(path: Path, kept: Rows) -> tuple[Clip, ...]:
    clips = tell_apart([clip for _, clip in kept.values()])
    seen: dict[str, int] = {}
    for clip, (line, _) in zip(clips, kept.values(), strict=True):
        if clip.id in seen:
            raise DataError(
                f"{path.name} line {line}: clip '{clip.id}' is also in line {seen[clip.id]}; give one another name"
            )
        seen[clip.id] = line
    return clips
