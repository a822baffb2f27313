"""Features of a person's neutral face, to which a head compares the faces of the same clip (`train.relative`)."""

from __future__ import annotations

import numpy as np
import torch

from fer_core.emotions import SEVEN, Emotion
from fer_core.features.backbone import Backbone

NEUTRAL = "neutral"  # its name among the parts of a table and in `ClipInputs.described`
FACES = 3  # the mean of three differs less from frame to frame; further on, a clip's expression has begun


def neutral_reference(backbone: Backbone, course: np.ndarray) -> np.ndarray:
    """Compute (d,) float16 features of a clip's neutral face.

    They are the mean over the first three faces that the backbone classifies as neutral. If there is none, or if the
    backbone has no classes of its own, they are those of the first face.

    Args:
        course: (n, size, size) uint8 faces of the clip's whole course, n >= 1.
    Raises:
        WeightsError: a feature exceeds the range of float16.
    """
    said = backbone.log_probabilities(course)
    chosen = course[:1]
    if said is not None and (at_rest := said.argmax(axis=1) == SEVEN.index(Emotion.NEUTRAL)).any():
        chosen = course[at_rest][:FACES]
    mean: np.ndarray = backbone.features(chosen).astype(np.float32).mean(axis=0)
    return mean.astype(np.float16)


def beside_difference(features: torch.Tensor, neutral: torch.Tensor) -> torch.Tensor:
    """Return (n, 2d) float32: each frame's features, and their difference to the neutral face of its clip.

    Training, scoring and explanation all make a head's input by this function.

    Args:
        features: (n, d) of any float type.
        neutral: (n, d) or (1, d) likewise.
    """
    own = features.float()
    return torch.hstack([own, own - neutral.float()])
