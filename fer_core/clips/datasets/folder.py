"""Reader of a user's own folders: `<root>/[split/]<class>/<clip>`, or any other layout that a pattern describes.

A clip is a video, a still image or a folder of frames, see `media`. Folders between class and clip (a person, a
session) are searched too. The subject comes from a regex on the relative path, from the pattern, or from a table.
Without one of these it is unknown, and then no subject-disjoint split is possible.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fer_core.clips.clip import FRAME_SUFFIXES, Split, frame_files
from fer_core.clips.datasets.readings import EXAMPLE, PathPattern, Reading, ReadingTable
from fer_core.clips.datasets.survey import APEX_UNKNOWN, NO_LABEL, Scan, Survey
from fer_core.clips.label_words import label_hint, mapped_label, read_label_map
from fer_core.clips.media import OURS, SPLITS, clips_in, is_class_folder, is_ours
from fer_core.clips.spelling import is_missing
from fer_core.emotions import ALIASES, OTHER_LABELS, SIX, Classes
from fer_core.errors import ConfigError, DataError

LAYOUT = "[train/]anger/clip.mp4, or a folder of frames in place of the file"
OTHERWISE = f"for another layout say where label and subject stand: --pattern '{EXAMPLE}' --dry-run"
NO_FIT, NO_ROW, NO_CLASS, NO_SUBJECT = (
    "does not fit the pattern", "not in the table", "not a class folder", "no subject"
)  # fmt: skip
N_READINGS = 10


def read(
    root: Path,
    *,
    classes: Classes | None = SIX,
    follow_links: bool = False,
    subject: str = "",
    dataset: str = "",
    keep_split: bool = True,
    pattern: str = "",
    labels: str = "",
    labels_from: str = "",
    by: str = "clip",
    keep_ids: bool = False,
) -> Scan:
    """Return the clips of a user's own folders.

    Args:
        subject: regex with a group `subject`, searched in the path below the root; other named groups become `group_*`.
        dataset: name of the data; when empty, the name of the root folder.
        keep_split: take folders named train, validation and test for the sides of a split.
        pattern: form of the paths below the root, in place of class folders; see `PathPattern`.
        labels: file that maps the user's words to labels, see `read_label_map`.
        labels_from: table with further words about the clips, see `ReadingTable`.
        by: column of the table that identifies clips.
        keep_ids: treat subjects that differ only in spelling as different people.
    Raises:
        ConfigError: `subject` is no regex or has no group `subject`, or `pattern` is refused by `PathPattern`.
        DataError: a subject is in folders of two sides, `labels` or `labels_from` cannot be used, or no clip is usable.
    """
    regex = _regex(subject)
    form = PathPattern(pattern) if pattern else None
    table = ReadingTable(Path(labels_from), by) if labels_from else None
    words = read_label_map(Path(labels), classes) if labels else None
    survey = Survey(dataset or root.absolute().name, root, classes=classes, follow_links=follow_links)
    anywhere = form is not None or (table is not None and "label" in table.columns)
    strangers: Counter[str] = Counter()
    found = ((None, path) for path in _clips(survey, survey.root)) if anywhere else _class_folder_clips(survey)
    for class_folder, path in found:
        reading, reason = _reading(survey, path, class_folder, form, regex, table)
        label = mapped_label(reading.label, words)
        known = survey.knows(label) or label in ALIASES or label in OTHER_LABELS
        if not reason and not known and not is_missing(reading.label):
            strangers[reading.label] += 1
            reason = (
                NO_CLASS if class_folder and not (table and "label" in table.columns) else f"label '{label}' unknown"
            )
        if reason:
            survey.drop(reason, path=path)
        else:
            reason = survey.add(
                path,
                subject=reading.subject,
                label="" if is_missing(reading.label) and not survey.knows(label) else label,
                split=_side(reading.split) if keep_split else None,
                apex=_apex(reading.apex, path),
                groups=reading.groups,
                least_frames=1,
            )
        if len(survey.readings) < N_READINGS:
            shown = path.relative_to(survey.root).as_posix()
            became = f"left out: {reason}" if reason else f"kept as {label}"
            survey.readings.append((shown, reading.subject, reading.label, reading.split, became))
    _warn_of_labels(survey, strangers, anywhere)
    if table and (sentence := table.unused()):
        survey.warn(sentence)
    if survey.clips and not any(clip.subject for clip in survey.clips):
        survey.warn(
            "subjects are unknown, so no split can keep people apart; say where they stand in the paths, e.g. "
            f"--pattern '{EXAMPLE}' (--dry-run shows what it reads), or give a regex, e.g. "
            "--option 'subject=(?P<subject>s[0-9]+)'"
        )
    if n := sum(clip.apex is None and clip.path.suffix.lower() not in FRAME_SUFFIXES for clip in survey.clips):
        survey.warn(APEX_UNKNOWN.format(n=n, of=len(survey.clips)))
    _apart(survey)
    looked_for = f"paths like {pattern}" if pattern else LAYOUT
    if not survey.clips and survey.readings:
        path_shown, person, word, _, became = survey.readings[0]
        looked_for += f"; '{path_shown}' reads as subject '{person}', label '{word}' ({became})"
    return survey.close(looked_for + ("" if pattern else f"; {OTHERWISE}"), keep_ids=keep_ids)


def _reading(
    survey: Survey,
    path: Path,
    class_folder: tuple[Split | None, Path] | None,
    form: PathPattern | None,
    regex: re.Pattern[str] | None,
    table: ReadingTable | None,
) -> tuple[Reading, str]:
    """Return what path and table say about a clip, and the reason why it is left out; '' where it is not."""
    below = PurePosixPath(path.relative_to(survey.root).as_posix())
    reading, reason = Reading(), ""
    if class_folder:
        side, folder = class_folder
        reading = Reading(label=folder.name, split=side or "")
    if form:
        read = (form.read(below, folder=True) or _of_frames(form, path, below)) if path.is_dir() else form.read(below)
        reading, reason = (read, "") if read else (reading, NO_FIT)
    if regex:
        match = regex.search(below.as_posix())
        reading = reading.with_words({k: v or "" for k, v in match.groupdict().items()} if match else {})
    if table and not reason:
        filled = table.add(reading, below)
        reading = filled or reading
        if filled is None and "label" in table.columns:
            reason = NO_ROW
    if is_missing(reading.subject):
        word = f" ({reading.subject})" if reading.subject else ""
        wanted = regex or (form and "subject" in form.names) or (table and "subject" in (*table.columns, table.by))
        reason = reason or (f"{NO_SUBJECT}{word}" if wanted else "")
        reading = replace(reading, subject="")
    if not reason and is_missing(reading.label):
        reason = f"{NO_LABEL} ({reading.label})" if reading.label else NO_LABEL
    return reading, reason


def _of_frames(form: PathPattern, folder: Path, below: PurePosixPath) -> Reading | None:
    """Return the reading of a frame folder by its first frame, for patterns whose last part is a file name."""
    first = next(iter(frame_files(folder)), None)
    return form.read(below / first.name) if first else None


def _side(word: str) -> Split | None:
    if word and word.lower() not in SPLITS:
        raise DataError(f"'{word}' is no side of a split; sides are {', '.join(Split)}")
    return SPLITS[word.lower()] if word else None


def _apex(word: str, path: Path) -> int | None:
    if not word:
        return None
    number = float(word) if re.fullmatch(r"\d+(\.0*)?", word) else -1.0
    if number < 0:
        raise DataError(f"{path}: apex '{word}' is not a frame number; frames are whole numbers that count from 0")
    return int(number)


def _warn_of_labels(survey: Survey, strangers: Counter[str], anywhere: bool) -> None:
    for word, n in strangers.items():
        if anywhere:
            survey.warn(f"label '{word}' ({n} clips) {label_hint(word, survey.classes or ())}")
        else:
            close = difflib.get_close_matches(word.lower(), [w for w in ALIASES if len(w) > 3], n=1, cutoff=0.8)
            survey.warn(f"folder '{word}' is no class" + (f"; did you mean '{ALIASES[close[0]]}'?" if close else ""))
    if strangers and not anywhere:
        survey.warn(f"words of your own can be mapped with --labels map.csv; {OTHERWISE}")


def _apart(survey: Survey) -> None:
    sides: dict[str, set[Split]] = {}
    for clip in survey.clips:
        if clip.subject and clip.split:
            sides.setdefault(clip.subject, set()).add(clip.split)
    if both := sorted(s for s, where in sides.items() if len(where) > 1):
        raise DataError(
            f"{survey.root}: {len(both)} subjects are in two of the split's folders ({', '.join(both[:5])}"
            f"{' ...' if len(both) > 5 else ''}); scan with keep_split=false and run 'ferflow data split'"
        )


def _regex(subject: str) -> re.Pattern[str] | None:
    if not subject:
        return None
    try:
        pattern = re.compile(subject)
    except re.error as exc:
        raise ConfigError(f"subject '{subject}' is no regular expression ({exc})") from exc
    if "subject" not in pattern.groupindex:
        raise ConfigError(f"subject '{subject}' has no group 'subject'; write it like (?P<subject>s[0-9]+)")
    return pattern


def _class_folder_clips(survey: Survey) -> Iterator[tuple[tuple[Split | None, Path], Path]]:
    for side, folder in _class_folders(survey):
        yield from (((side, folder), path) for path in _clips(survey, folder, True))


def _class_folders(survey: Survey) -> Iterator[tuple[Split | None, Path]]:
    for folder in survey.folders(survey.root):
        side = SPLITS.get(folder.name.lower())
        if side is None:
            yield None, folder
        else:
            yield from ((side, inner) for inner in survey.folders(folder))


def _clips(survey: Survey, folder: Path, class_folder: bool | None = None, depth: int = 8) -> Iterator[Path]:
    """Yield the clips in a folder and its subfolders, see `clips_in`.

    Args:
        class_folder: True if the folder collects clips of one label; None decides by its name.
        depth: levels of subfolders to search.
    """
    entries = survey.entries(folder)
    inner_folders = [p for p in entries if p.is_dir()]
    inner = set(inner_folders)
    if class_folder is None:
        class_folder = is_class_folder(folder.relative_to(survey.root))
    found = clips_in(folder, [p for p in entries if p not in inner], class_folder=class_folder)
    yield from found.clips if any(folder.iterdir()) else (folder,)  # an empty folder is counted as such
    for path, reason in found.passed_over:
        survey.drop(reason, path=path)
    if found.note:
        survey.warn(found.note)
    for path in inner_folders:
        if is_ours(path):
            survey.drop(OURS, path=path)
        elif depth:
            yield from _clips(survey, path, depth=depth - 1)
        else:
            survey.drop("nested too deep", path=path)
