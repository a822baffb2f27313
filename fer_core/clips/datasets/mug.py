"""MUG: posed and induced expressions, neutral-apex-neutral JPEG takes. Needs a signed licence; may not be passed on.

    subjects3/001/anger/take000/img_0000.jpg
    subjects3/002/session0/anger/take001/img_0012.jpg     some subjects have session folders

A reader that expects only subject/emotion/take loses the people with session folders, without an error.
"""

from __future__ import annotations

import re
from pathlib import Path

from fer_core.clips.clip import frame_files
from fer_core.clips.datasets.survey import Scan, Survey
from fer_core.emotions import ALIASES, SIX, Classes, label_of
from fer_core.errors import DataError

END_TAKE = "take named 'end'"
LONG = 64  # frames; the MoCoGAN paper gives the number of takes of this length or more
LAYOUT = "subjects3/001/[session0/]anger/take000/*.jpg"


def read(root: Path, *, classes: Classes | None = SIX, follow_links: bool = False, end_takes: bool = False) -> Scan:
    """Return the takes of MUG. The apex is not annotated: estimate it (preprocess.apex=estimate).

    Args:
        end_takes: keep takes whose name ends in `end`. Their meaning is not documented; public readers leave them out.
    Raises:
        DataError: no subject folder is found, or no clip is usable.
    """
    survey = Survey("mug", root, classes=classes, follow_links=follow_links)
    for person in _people(survey):
        for folder in survey.folders(person):
            if folder.name.lower().startswith("session"):
                for emotion in survey.folders(folder):
                    _emotion(survey, person, emotion, end_takes)
            else:
                _emotion(survey, person, folder, end_takes)
    survey.expect("subjects", len({c.subject for c in survey.clips}), 52, 86)
    long = sum(c.emotion in SIX and len(frame_files(c.path)) >= LONG for c in survey.clips)
    survey.expect("takes", len(survey.clips) + survey.dropped[END_TAKE], 1462)
    survey.expect(f"takes of the six emotions with {LONG} frames or more", long, 1254)
    unclear = sum("nsg" in c.path.name.lower() for c in survey.clips)
    if unclear:
        survey.warn(f"mug: {unclear} takes have 'nsg' in their name, whose meaning is not documented; they are kept")
    survey.say_apex_unknown()
    return survey.close(LAYOUT)


def _people(survey: Survey) -> list[Path]:
    for base in (survey.root, *survey.find("subjects3")):
        if any(re.fullmatch(r"\d{3}", p.name) for p in base.iterdir()):
            return [p for p in survey.folders(base) if re.fullmatch(r"\d{3}", p.name)]
    raise DataError(f"{survey.root}: no folders 001, 002 ...; looked for {LAYOUT}")


def _emotion(survey: Survey, person: Path, folder: Path, end_takes: bool) -> None:
    if folder.name.lower() not in ALIASES:
        return survey.drop("not an emotion folder")
    label = label_of(folder.name)
    takes = survey.folders(folder)
    if frame_files(folder):  # frames of a single take may lie in the emotion folder itself
        _add(survey, person, folder, label)
    elif not takes:
        survey.drop("empty folder")
    for take in takes:
        if take.name.lower().endswith("end") and not end_takes:
            survey.drop(END_TAKE)
        else:
            _add(survey, person, take, label)
    return None


def _add(survey: Survey, person: Path, take: Path, label: str) -> None:
    survey.add(take, clip=take.relative_to(person.parent).as_posix(), subject=person.name, label=label)
