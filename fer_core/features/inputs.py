"""The inputs of models: features of the clips' frames, and descriptors of the clips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class ClipInputs:
    """The inputs of models for some clips, in training, evaluation and scoring.

    Args:
        features: (N, d) float16 features of the unaugmented faces, one clip after the other, frames in order; d = 0 if
            no model reads them.
        offsets: (C + 1,) int64; the frames of clip c are rows offsets[c] ... offsets[c + 1] - 1, at least one.
        described: name of a descriptor -> (C, ...) array; `neutral` -> (C, d) float16 features of the clips' neutral
            faces.
        maps: (N, c, h, w) float16 maps at the backbone's cut, one tensor per view, the unaugmented view first; empty
            unless a last block is fine-tuned.
    """

    features: torch.Tensor
    offsets: np.ndarray
    described: Mapping[str, np.ndarray] = field(default_factory=dict)
    maps: tuple[torch.Tensor, ...] = ()

    @property
    def lengths(self) -> np.ndarray:
        """(C,) number of frames of every clip."""
        return np.diff(self.offsets)

    def frames_of(self, clips: np.ndarray) -> np.ndarray:
        """Return the row indices of the frames of some clips, in the order of the clips."""
        return np.concatenate([np.arange(self.offsets[c], self.offsets[c + 1]) for c in clips] or [np.empty(0, int)])

    def neutral_of(self, clips: np.ndarray) -> torch.Tensor:
        """Return (n, d) float16 features of the neutral face of each frame's clip, row by row like `frames_of`."""
        rows = np.repeat(self.described["neutral"][clips], self.lengths[clips], axis=0)
        return torch.from_numpy(rows)
