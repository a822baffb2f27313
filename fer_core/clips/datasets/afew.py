"""AFEW (EmotiW): film clips of seven classes, split by the organisers. Needs a signed agreement; may not be passed on.

    Train_AFEW/Angry/000552400.avi    Train_AFEW/Train_6.xml
    Val_AFEW/Happy/001234567.avi      Val_AFEW/Val_6.xml

Clips have no neutral beginning and no apex: use all frames (preprocess.selection=all). Paths do not name the person;
`NameOfActor` in the XML does. How the XML names the clip is not documented, so the clip's nine digits are searched
for in the elements around the actor.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from fer_core.clips.clip import Split
from fer_core.clips.datasets.survey import Scan, Survey, read_xml, videos
from fer_core.emotions import ALIASES, SIX, Classes, label_of
from fer_core.errors import DataError

LAYOUT = "Train_AFEW/Angry/*.avi and Val_AFEW/Angry/*.avi"
SIDES = {"train_afew": Split.TRAIN, "val_afew": Split.VALIDATION}
PUBLISHED = {Split.TRAIN: (771, 773), Split.VALIDATION: (381, 383)}  # neutral included
# counts in the copies with 771 and 381 clips; the organisers published none by class
BY_CLASS = {
    Split.TRAIN: {"angry": 133, "disgust": 74, "fear": 81, "happy": 149, "neutral": 143, "sad": 117, "surprise": 74},
    Split.VALIDATION: {"angry": 64, "disgust": 40, "fear": 45, "happy": 62, "neutral": 63, "sad": 61, "surprise": 46},
}


def read(root: Path, *, classes: Classes | None = SIX, follow_links: bool = False) -> Scan:
    """Return the clips of AFEW; the official side is in `group_official`, for `split.scheme=official`.

    Raises:
        DataError: neither folder exists, or no clip is usable.
    """
    survey = Survey("afew", root, classes=classes, follow_links=follow_links)
    folders = {side: next(survey.find(name), None) for name, side in SIDES.items()}
    if not any(folders.values()):
        raise DataError(f"{survey.root}: no folder Train_AFEW or Val_AFEW; looked for {LAYOUT}")
    for side, folder in folders.items():
        if folder is None:
            survey.warn(f"afew: no {side} side found")
            continue
        actors = _actors(folder)
        counts = Counter[str]()
        for emotion in survey.folders(folder):
            if emotion.name.lower() not in ALIASES:
                survey.drop("not an emotion folder")
                continue
            for path in videos(survey.entries(emotion)):
                counts[emotion.name.lower()] += 1
                survey.add(
                    path,
                    take=f"{side}/{emotion.name}/{path.stem}",
                    subject=actors.get(path.stem, ""),
                    label=label_of(emotion.name),
                    groups={"official": side.value},
                )
        survey.expect(f"{side} clips", counts.total(), *PUBLISHED[side])
        for name, published in BY_CLASS[side].items():
            survey.expect(f"{side} clips of {name}", counts[name], published)
    _say_who_is_known(survey)
    survey.warn("afew: clips have no neutral beginning; set preprocess.selection=all for them")
    return survey.close(LAYOUT)


def _actors(folder: Path) -> dict[str, str]:
    """Return the actor of each clip stem, from the XML files beside the class folders; empty where none can be read."""
    actors: dict[str, str] = {}
    for path in sorted(folder.glob("*.xml")):
        document = read_xml(path)
        if document is None:
            continue
        parents = {child: parent for parent in document.iter() for child in parent}
        for element in document.iter():
            actor = " ".join(element.get("NameOfActor", "").split())
            near: ElementTree.Element | None = element
            while actor and near is not None and near is not document:
                text = " ".join([*near.attrib.values(), *(e.text or "" for e in near.iter())])
                if clips := re.findall(r"\b\d{9}\b", text):
                    actors.setdefault(clips[0], actor)
                    break
                near = parents.get(near)
    return actors


def _say_who_is_known(survey: Survey) -> None:
    unknown = sum(not c.subject for c in survey.clips)
    if unknown:
        survey.warn(
            f"afew: the actor of {unknown} of {len(survey.clips)} clips is unknown, so that no person is on two sides "
            "rests on the official split alone (ferflow data split --set split.scheme=official)"
        )
    people = [
        {c.subject for c in survey.clips if c.subject and c.groups["official"] == side.value} for side in SIDES.values()
    ]
    if both := people[0] & people[1]:
        survey.warn(
            f"afew: {len(both)} actors are on both official sides; that split leaves their validation clips out"
        )
