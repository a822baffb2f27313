"""CK+: posed expressions as image sequences, neutral first, apex last. Needs a signed agreement; may not be passed on.

    cohn-kanade-images/S005/001/S005_001_00000011.png
    Emotion/S005/001/S005_001_00000011_emotion.txt        "   3.0000000e+00"

Each zip is often unpacked into a folder of its own name, so both folders are searched for two levels down.
Only 327 of 593 sequences have an emotion: "if there is no file it means that there is no emotion label" (README).
"""

from __future__ import annotations

import re
from pathlib import Path

from fer_core.clips.clip import frame_files
from fer_core.clips.datasets.survey import Scan, Survey
from fer_core.emotions import SIX, Classes, Emotion
from fer_core.errors import DataError

CODES: dict[int, str] = {
    0: Emotion.NEUTRAL, 1: Emotion.ANGER, 2: "contempt", 3: Emotion.DISGUST, 4: Emotion.FEAR, 5: Emotion.HAPPINESS,
    6: Emotion.SADNESS, 7: Emotion.SURPRISE,
}  # fmt: skip
LAYOUT = "cohn-kanade-images/S005/001/*.png beside Emotion/S005/001/*_emotion.txt"
PUBLISHED = dict(zip(SIX, (45, 59, 25, 69, 28, 83), strict=True))


def read(root: Path, *, classes: Classes | None = SIX, follow_links: bool = False) -> Scan:
    """Return the labelled sequences of CK+; unlabelled ones, and labels outside `classes` (contempt), are dropped.

    Raises:
        DataError: the folders are missing, no clip is usable, or it is a 48x48 re-upload, which has no subject ids.
    """
    survey = Survey("ckplus", root, classes=classes, follow_links=follow_links)
    images = _tree(survey, "cohn-kanade-images", "extended-cohn-kanade-images")
    labels = _tree(survey, "Emotion", "Emotion_labels")
    n_labelled = n_contempt = n_other_frame = 0
    people = [p for p in survey.folders(images) if re.fullmatch(r"S\d{3}", p.name)]
    for person in people:
        for sequence in survey.folders(person):
            name = f"{person.name}/{sequence.name}"
            label, last = _label(survey, labels / person.name / sequence.name)
            frames = frame_files(sequence)
            n_labelled += label is not None
            n_contempt += label == "contempt"
            n_other_frame += bool(label and frames) and _number(frames[-1]) != last
            survey.add(sequence, clip=name, subject=person.name, label=label, apex=max(len(frames) - 1, 0))
    if n_other_frame:
        survey.warn(
            f"ckplus: in {n_other_frame} sequences the last frame is not the one the label names; "
            "frames are missing or added, so their last frame may not be the apex"
        )
    survey.expect("labelled sequences", n_labelled, 327)
    survey.expect("clips of the six emotions", len(_six(survey)), 309)
    survey.expect("subjects with one of the six", len({c.subject for c in _six(survey)}), 106)
    for emotion, n in PUBLISHED.items():
        survey.expect(f"{emotion} clips", sum(c.emotion == emotion for c in survey.clips), n)
    survey.expect("contempt clips", n_contempt, 18)
    return survey.close(LAYOUT)


def _six(survey: Survey) -> list:
    return [c for c in survey.clips if c.emotion in SIX]


def _tree(survey: Survey, *names: str) -> Path:
    """Return the outermost folder of one of these names that contains subject folders."""
    for folder in survey.find(*names):
        if any(re.fullmatch(r"S\d{3}", p.name) for p in folder.iterdir() if p.is_dir()):
            return folder
    inside = [p.name.lower() for p in survey.root.iterdir()]
    if "ckextended.csv" in inside or "ck+48" in inside or survey.root.name.lower() == "ck+48":
        raise DataError(
            f"{survey.root}: this is a 48x48 re-upload of CK+ without subject ids, so nobody could be kept apart; "
            "ask the CMU/Pittsburgh group for the database itself"
        )
    raise DataError(f"{survey.root}: no folder '{names[0]}' with S005, S010 ... in it; looked for {LAYOUT}")


def _number(frame: Path) -> int:
    """Return the last number in a frame's name, which counts frames; -1 without one."""
    numbers = re.findall(r"\d+", frame.stem)
    return int(numbers[-1]) if numbers else -1


def _label(survey: Survey, folder: Path) -> tuple[str | None, int]:
    """Return (label, number of the frame it names) from the only *_emotion.txt; the folder may be empty or missing."""
    if not folder.is_dir():
        return None, -1
    files = [p for p in survey.entries(folder) if p.name.endswith("_emotion.txt")]
    if len(files) != 1:
        return ("several labels" if files else None), -1
    last = int(re.findall(r"\d+", files[0].name)[-1]) if re.search(r"\d", files[0].name) else -1
    try:
        code = int(float(files[0].read_text(encoding="ascii").strip()))
    except (ValueError, OverflowError, OSError):
        return "unreadable label", last
    return CODES.get(code, f"unknown code {code}"), last
