"""The models' names: every way from a clip to a verdict; `models/catalogue.py` says what they are.

Apart from the settings, so that a command line can list them before anything heavy is imported.
"""

from __future__ import annotations

from typing import Literal, get_args

ModelName = Literal[
    "head", "fan-self", "fan-relation", "lstm", "c3d", "lstm-c3d", "lstm-c3d-learned", "lbp-svm", "lbp-forest",
    "displacement-svm", "appearance-displacement", "gradients-svm",
]  # fmt: skip
FC_HEAD_MODELS: tuple[ModelName, ...] = ("head", "appearance-displacement")  # FC layers over frames are in them
COMPARED = ("head-mean", "head-vote", "head-log-mean", *get_args(ModelName)[1:])  # the head under each rule
