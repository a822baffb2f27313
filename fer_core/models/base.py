"""What a classifier is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import nn

from fer_core.config import Rule
from fer_core.errors import WeightsError
from fer_core.features.inputs import ClipInputs
from fer_core.models.record import ClassifierRecord


@dataclass(frozen=True)
class FrameView:
    """The frames of one clip, where a classifier joins their scores.

    Args:
        scores: (n, k), rows sum to 1. shares: (n,) of each frame in the clip's verdict, sum 1.
    """

    scores: np.ndarray
    shares: np.ndarray


class ClipClassifier(ABC):
    """Scores of clips; it learns nothing any more."""

    @property
    def reads_features(self) -> bool:
        """Whether it reads the backbone's features."""
        return False

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Names of the descriptors it reads."""
        return ()

    @property
    def judges_frames(self) -> bool:
        """Whether it scores single frames, which a rule joins; else it judges a clip whole."""
        return False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules there is a choice of; what judges a clip whole has none, and its scores are their own mean."""
        return get_args(Rule) if self.judges_frames else ("mean_scores",)

    @property
    def block(self) -> nn.Module | None:
        """A fine-tuned last block of the backbone, which goes into the model's convolutions."""
        return None

    @property
    def parts(self) -> tuple[ClipClassifier, ...]:
        """Itself; of a fused one its parts."""
        return (self,)

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Numbers it has learnt and must keep to judge a clip."""

    @abstractmethod
    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """(n, k) scores of the clips at some places, rows sum to 1; the arg-max is the verdict."""

    def frame_scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """(N, k) float32 scores of the clips' frames; what judges a clip whole gives each frame its clip's scores."""
        return np.repeat(self.scores(inputs, clips), inputs.lengths[clips], axis=0).astype(np.float32)

    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView | None:
        """What single frames of a clip say, and count; None where it does not join frames."""
        return None

    @abstractmethod
    def to_record(self) -> ClassifierRecord:
        """What it is, beside its tensors."""

    @abstractmethod
    def to_tensors(self) -> dict[str, torch.Tensor]:
        """All it has learnt, on the CPU."""


def take(
    tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, torch.dtype]
) -> dict[str, np.ndarray]:
    """Exactly the tensors named, as arrays; -1 in a shape is any length.

    Raises:
        WeightsError: one is missing, too many, or of another shape or type.
    """
    if tensors.keys() != shapes.keys():
        raise WeightsError(f"needs tensors {_list(shapes)}, but got {_list(tensors)}")
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape)
        fits = len(found) == len(shape) and all(w in (-1, n) for w, n in zip(shape, found, strict=True))
        if not fits or tensors[name].dtype != dtypes[name]:
            raise WeightsError(f"'{name}' must be {shape} {dtypes[name]}, but is {found} {tensors[name].dtype}")
    return {name: tensors[name].numpy() for name in shapes}


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:6]) or "none"
