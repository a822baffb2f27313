"""Inputs of models: the features of a clip's frames, and the descriptors of each clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class ClipInputs:
    """Some clips as models see them, whether they are trained on, tested, or scored one at a time.

    Args:
        features: (N, d) float16 of the plain faces, frames of a clip together and in order; d = 0 where no model reads
            them.
        offsets: (C + 1,) int64; clip c owns rows offsets[c] ... offsets[c + 1] - 1, at least one.
        described: name of a descriptor -> (C, ...) array.
        maps: (N, c, h, w) float16 maps at the backbone's cut, the plain view first; empty unless a block is tuned.
    """

    features: torch.Tensor
    offsets: np.ndarray
    described: Mapping[str, np.ndarray] = field(default_factory=dict)
    maps: tuple[torch.Tensor, ...] = ()

    @property
    def lengths(self) -> np.ndarray:
        """(C,) frames of every clip."""
        return np.diff(self.offsets)

    def frames_of(self, clips: np.ndarray) -> np.ndarray:
        """Rows of the frames of some clips, in the clips' order."""
        return np.concatenate([np.arange(self.offsets[c], self.offsets[c + 1]) for c in clips] or [np.empty(0, int)])
