"""Class folders: `<root>/[split/]<class>/<clip>`, a clip being a video, a still image or a folder of frames (`media`).

Folders between class and clip (a person, a session) are walked through. The subject comes from a regex on the
relative path; without one it is unknown, which forbids subject-disjoint splits.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from fer_core.clips.clip import Split
from fer_core.clips.datasets.survey import Scan, Survey
from fer_core.clips.media import OURS, SPLITS, clips_in, is_ours
from fer_core.emotions import ALIASES, OTHER_LABELS, SIX, Classes, label_of
from fer_core.errors import ConfigError, DataError

LAYOUT = "[train/]anger/clip.mp4, or a folder of frames in place of the file"


def read(
    root: Path,
    *,
    classes: Classes | None = SIX,
    follow_links: bool = False,
    subject: str = "",
    dataset: str = "",
    keep_split: bool = True,
) -> Scan:
    """The clips of class folders.

    Args:
        subject: regex with a group `subject`, searched in the path below the root; other named groups become `group_*`.
        dataset: name of the data; the root folder's own when empty.
        keep_split: take folders named train, validation and test for the sides of a split.
    Raises:
        ConfigError: `subject` is no regex, or has no group called subject.
        DataError: a person is in two of the split's folders.
    """
    pattern = _pattern(subject)
    survey = Survey(dataset or root.absolute().name, root, classes=classes, follow_links=follow_links)
    strangers = []
    for side, folder in _class_folders(survey):
        label = label_of(folder.name)
        known = survey.knows(label) or label in ALIASES or label in OTHER_LABELS
        if not known:
            strangers.append(folder.name)
        for path in _clips(survey, folder):
            if not known:
                survey.drop("not a class folder")
                continue
            match = pattern.search(path.relative_to(survey.root).as_posix()) if pattern else None
            if pattern and not (match and match["subject"]):
                survey.drop("no subject")
                continue
            groups = {k: v for k, v in match.groupdict().items() if k != "subject" and v} if match else {}
            survey.add(
                path,
                subject=match["subject"] if match else "",
                label=label,
                split=side if keep_split else None,
                groups=groups,
                least_frames=1,
            )
    for name in strangers:
        close = difflib.get_close_matches(name.lower(), ALIASES, n=1)
        survey.warn(f"folder '{name}' is no class" + (f"; did you mean '{ALIASES[close[0]]}'?" if close else ""))
    if not pattern and survey.clips:
        survey.warn(
            "subjects are unknown, so no split can keep people apart; give a regex, e.g. subject='(?P<subject>s[0-9]+)'"
        )
    _apart(survey)
    return survey.close(LAYOUT)


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


def _pattern(subject: str) -> re.Pattern[str] | None:
    if not subject:
        return None
    try:
        pattern = re.compile(subject)
    except re.error as exc:
        raise ConfigError(f"subject '{subject}' is no regular expression ({exc})") from exc
    if "subject" not in pattern.groupindex:
        raise ConfigError(f"subject '{subject}' has no group 'subject'; write it like (?P<subject>s[0-9]+)")
    return pattern


def _class_folders(survey: Survey) -> Iterator[tuple[Split | None, Path]]:
    for folder in survey.folders(survey.root):
        side = SPLITS.get(folder.name.lower())
        if side is None:
            yield None, folder
        else:
            yield from ((side, inner) for inner in survey.folders(folder))


def _clips(survey: Survey, folder: Path, depth: int = 8, class_folder: bool = True) -> Iterator[Path]:
    """Clips in a class folder, and in the folders inside it; see `clips_in`."""
    entries = survey.entries(folder)
    inner_folders = [p for p in entries if p.is_dir()]
    inner = set(inner_folders)
    found = clips_in(folder, [p for p in entries if p not in inner], class_folder=class_folder)
    yield from found.clips if entries else (folder,)
    for path, reason in found.passed_over:
        survey.drop(reason, path=path)
    if found.note:
        survey.warn(found.note)
    for path in inner_folders:
        if is_ours(path):
            survey.drop(OURS, path=path)
        elif depth:
            yield from _clips(survey, path, depth - 1, class_folder=False)
        else:
            survey.drop("nested too deep", path=path)
