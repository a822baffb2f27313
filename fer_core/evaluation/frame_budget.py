"""The frame budget: the fewest frames of a clip whose verdicts are those of all its frames, measured out of fold."""

from __future__ import annotations

import numpy as np

from fer_core.config import Rule
from fer_core.evaluation.metrics import clip_verdicts
from fer_core.models.record import FrameBudget
from fer_core.preprocess.selection import spread

AGREEMENT = 0.98  # least share of clips with the same verdict
NUMBERS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # at least 4: one or two frames of a clip may have no face


def frame_budget(scores: np.ndarray, offsets: np.ndarray, rule: Rule) -> FrameBudget | None:
    """Return the smallest of `NUMBERS` from which on at least 98 % of the verdicts are those of all frames.

    The frames of a number are those that `select` takes for `max_frames`. None: only all frames give these verdicts.

    Args:
        scores: (N, k) out-of-fold frame scores of all clips, one clip after the other.
        offsets: (C + 1,) index of each clip's first frame, then N.
        rule: how a clip's frame scores are combined.
    """
    lengths, clips = np.diff(offsets), np.arange(len(offsets) - 1)
    whole, _ = clip_verdicts(scores, offsets, clips, rule)
    found: FrameBudget | None = None
    for most in sorted((n for n in NUMBERS if n < lengths.max(initial=0)), reverse=True):
        kept = [spread(int(n), most) for n in lengths]
        frames = np.concatenate([start + own for start, own in zip(offsets[:-1], kept, strict=True)])
        verdicts, _ = clip_verdicts(scores[frames], np.cumsum([0, *map(len, kept)]), clips, rule)
        same = float((verdicts == whole).mean())
        if same < AGREEMENT:
            break
        found = FrameBudget(frames=most, agreement=same, clips=len(clips))
    return found
