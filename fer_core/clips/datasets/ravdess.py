"""RAVDESS: 24 actors speak or sing two sentences with an emotion. Open, CC BY-NC-SA 4.0: may be shared with credit.

    Video_Speech_Actor_01/Actor_01/01-01-05-01-01-01-01.mp4
    modality-channel-emotion-intensity-statement-repetition-actor

Modality 01 and 02 are the same takes with and without sound. Keeping both would count every clip twice, so 02 is kept
only where its 01 is missing or unusable.
"""

from __future__ import annotations

import re
from pathlib import Path

from fer_core.clips.clip import VIDEO_SUFFIXES
from fer_core.clips.datasets.survey import Scan, Survey
from fer_core.emotions import SIX, Classes, Emotion

LAYOUT = "Actor_01/01-01-05-01-01-01-01.mp4"
CODES: dict[str, str] = {
    "01": Emotion.NEUTRAL, "02": "calm", "03": Emotion.HAPPINESS, "04": Emotion.SADNESS, "05": Emotion.ANGER,
    "06": Emotion.FEAR, "07": Emotion.DISGUST, "08": Emotion.SURPRISE,
}  # fmt: skip
INTENSITIES = {"01": "normal", "02": "strong"}


def read(root: Path, *, classes: Classes | None = SIX, follow_links: bool = False, song: bool = False) -> Scan:
    """Return the takes of RAVDESS, each once.

    Args:
        song: keep sung takes too; they have no disgust and no surprise.
    Raises:
        DataError: no clip is usable.
    """
    survey = Survey("ravdess", root, classes=classes, follow_links=follow_links)
    # 01, with sound, before 02: the first usable file of a take is kept
    for path in sorted(survey.walk(survey.root), key=lambda path: (path.stem, path.suffix.lower() != ".mp4", path)):
        if not re.fullmatch(r"\d\d(-\d\d){6}", path.stem) or path.suffix.lower() not in (*VIDEO_SUFFIXES, ".wav"):
            survey.drop("not a RAVDESS clip")
            continue
        modality, take = path.stem.split("-", 1)
        channel, emotion, intensity, _, _, actor = take.split("-")
        if modality == "03" or path.suffix.lower() == ".wav":
            survey.drop("audio only")
        elif channel == "02" and not song:
            survey.drop("song")
        else:
            survey.add(
                path,
                take=take,
                clip=path.stem,
                subject=actor,
                label=CODES.get(emotion, f"unknown code {emotion}"),
                groups={
                    "sex": "male" if int(actor) % 2 else "female",
                    "intensity": INTENSITIES.get(intensity, intensity),
                },
            )
    speech = [c for c in survey.clips if c.emotion in SIX and c.id.split("-")[1] == "01"]
    survey.expect("speech clips of the six emotions", len(speech), 1152)
    survey.expect("subjects", len({c.subject for c in survey.clips}), 24)
    survey.say_apex_unknown()
    return survey.close(LAYOUT)
