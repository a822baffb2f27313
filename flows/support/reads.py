"""The settings that each command and each form reads, beside `workspace`; others are refused, or not shown."""

from __future__ import annotations

CLIPS = ("classes", "preprocess", "limits", "tracking", "runner")  # what looks at clips,
DATA = ("manifest", "neutral_from", "split", *CLIPS)  # what makes the data of a run,
FITS = (*DATA, "backbone", "train", "search")  # what fits models to it
TRAIN = (*FITS, "score.abstain_below")
ADOPT = (*DATA, "backbone", "train.device")
PROMOTE = ("promote", "tracking")
SCORE = ("score", "limits", "tracking")
_OF_ARRIVALS = ("rule", "face_mode", "max_frames", "abstain_below", "device", "explain", "faces")
WATCH = ("watch", *(f"score.{name}" for name in _OF_ARRIVALS), "limits", "tracking")
RERUN = ("limits", "tracking")
END_TO_END = (*FITS, "promote", "score")
