"""CREMA-D: 91 actors speak twelve sentences, with five emotions or neutral; no surprise. Open, ODbL 1.0 / DbCL 1.0.

    VideoFlash/1001_DFA_ANG_XX.flv      actor_sentence_emotion_level
    VideoDemographics.csv               ActorID, Age, Sex ...
    processedResults/summaryTable.csv   FaceVote: emotion that raters saw without sound

The videos are in Git LFS: a clone or zip without LFS contains only pointer files named .flv. Where a clip exists both
as .flv and, converted, as .mp4, one file is kept.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Literal

from fer_core.clips.clip import VIDEO_SUFFIXES
from fer_core.clips.datasets.survey import Scan, Survey
from fer_core.emotions import SIX, Classes, Emotion, label_of
from fer_core.errors import DataError

LAYOUT = "VideoFlash/1001_DFA_ANG_XX.flv"
LETTERS = {
    "A": Emotion.ANGER, "D": Emotion.DISGUST, "F": Emotion.FEAR, "H": Emotion.HAPPINESS, "N": Emotion.NEUTRAL,
    "S": Emotion.SADNESS,
}  # fmt: skip
# By the README: an error picture, no duration, or a minute long with all emotions.
BAD = frozenset({"1076_MTI_NEU_XX", "1076_MTI_SAD_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD"})
PER_CLASS = 1271


def read(
    root: Path,
    *,
    classes: Classes | None = SIX,
    follow_links: bool = False,
    label: Literal["asked", "face_vote"] = "asked",
) -> Scan:
    """Return the clips of CREMA-D.

    Args:
        label: `asked` is the emotion that the actor was asked to show; `face_vote` is the raters' majority for the face
            alone, and ties are dropped.
    Raises:
        DataError: a table is missing or cannot be read, or no clip is usable.
    """
    survey = Survey("cremad", root, classes=classes, follow_links=follow_links)
    folder = next(survey.find("VideoFlash"), survey.root)
    votes = _votes(folder.parent) if label == "face_vote" else {}
    people = _people(folder.parent)
    asked: dict[str, int] = {e: 0 for e in SIX if e is not Emotion.SURPRISE}
    seen: set[str] = set()
    for path in survey.entries(folder):
        match = re.fullmatch(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_(LO|MD|HI|XX|X)", path.stem)
        if match and path.suffix.lower() in (".wav", ".mp3"):
            survey.drop("audio only")
            continue
        if not match or path.is_dir() or path.suffix.lower() not in VIDEO_SUFFIXES:
            survey.drop("not a CREMA-D clip")
            continue
        emotion = label_of(match[2])
        if emotion in asked and path.stem not in seen:
            asked[emotion] += 1
        seen.add(path.stem)
        if path.stem in BAD:
            survey.drop("known to be bad")
            continue
        survey.add(
            path,
            take=path.stem,
            clip=path.stem,
            subject=match[1],
            label=votes.get(path.stem) if label == "face_vote" else emotion,
            groups={**people.get(match[1], {}), "level": match[3]},
        )
    for emotion, n in asked.items():
        survey.expect(f"{emotion} clips asked for", n, PER_CLASS)
    survey.expect("subjects", len({c.subject for c in survey.clips}), 91)
    survey.say_apex_unknown()
    return survey.close(LAYOUT)


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"{path}: cannot be read ({exc}); copy it from the CREMA-D repository") from exc


def _votes(base: Path) -> dict[str, str]:
    path = base / "processedResults" / "summaryTable.csv"
    votes: dict[str, str] = {}
    for row in _table(path):
        if "FaceVote" not in row or "FileName" not in row:
            raise DataError(f"{path}: has no columns FileName and FaceVote; copy it from the CREMA-D repository")
        vote = (row["FaceVote"] or "").strip()
        votes[(row["FileName"] or "").strip()] = "tie of the raters" if ":" in vote else LETTERS.get(vote, vote)
    return votes


def _people(base: Path) -> dict[str, dict[str, str]]:
    """Return sex and decade of age by actor; empty without VideoDemographics.csv."""
    path = base / "VideoDemographics.csv"
    people = {}
    for row in _table(path) if path.is_file() else ():
        groups = {"sex": (row.get("Sex") or "").strip().lower()}
        if (age := (row.get("Age") or "").strip()).isdecimal():
            groups["age"] = f"{int(age) // 10 * 10}s"
        people[(row.get("ActorID") or "").strip()] = {k: v for k, v in groups.items() if v}
    return people
