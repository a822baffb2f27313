"""Pretrained emotion networks used as a model, without any training (`ferflow adopt`).

The score of a class is its mean log probability over the frames of the clip's second half, minus half the log
probability of that class for the same person's neutral face. So a neutral face that looks a little sad does not make
the clip sad. The neutral face is the first frame of the clip that the networks classify as neutral; when there is none,
nothing is subtracted. The log probabilities of several networks are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from fer_core.config import PreprocessConfig
from fer_core.emotions import SEVEN, Emotion
from fer_core.errors import WeightsError
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClassifierRecord, ClipClassifier, FrameView

FRAMES = 8  # default number of frames from the whole clip; four of them are in the second half
OF_NEUTRAL = 0.5  # weight of the neutral face's log probabilities
NO_NEUTRAL = "no_neutral_face"  # flag of a clip from which no neutral face was subtracted


def whole_course(cfg: PreprocessConfig) -> PreprocessConfig:
    """Preprocessing settings for adopted networks: frames from the whole clip, faces cropped but not equalised.

    The networks were trained on plain pictures.
    """
    return cfg.model_copy(update={"selection": "all", "equalize": "none", "max_frames": cfg.max_frames or FRAMES})


class AdoptedRecord(ClassifierRecord):
    """Record of an adopted model: the number of networks, and whether a neutral face is subtracted."""

    kind: Literal["adopted"] = "adopted"
    n_features: int = Field(ge=1, le=64)
    networks: int = Field(ge=1, le=8)
    relative: Literal["none", "neutral"] = "neutral"


@dataclass(frozen=True)
class AdoptedClassifier(ClipClassifier):
    """A classifier that reads the networks' log probabilities, in `Emotion` order (`Backbone.output` is `classes`).

    Args:
        record: number of networks and of feature columns.
        n_classes: 7, or 6: without neutral, the other scores renormalised to sum 1.
    """

    Record = AdoptedRecord
    record: AdoptedRecord
    n_classes: int

    @property
    def reads_features(self) -> bool:
        return True

    @property
    def n_parameters(self) -> int:
        return 0

    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        views = [self.frames_in(inputs, int(clip)) for clip in clips]
        logs = [view.shares @ np.log(np.maximum(view.scores, np.finfo(float).tiny)) for view in views]
        return _softmax(np.stack(logs))

    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView:
        """Scores of each frame, with the neutral face subtracted; frames of the first half have weight 0."""
        said = self._log_probabilities(inputs, clip)
        neutral = self._neutral(said)
        relative = said if neutral is None else said - OF_NEUTRAL * neutral
        late = np.arange(len(said)) >= len(said) // 2
        return FrameView(_softmax(relative[:, : self.n_classes]), late / late.sum())

    def flags(self, inputs: ClipInputs, clip: int) -> tuple[str, ...]:
        if self.record.relative == "none" or self._neutral(self._log_probabilities(inputs, clip)) is not None:
            return ()
        return (NO_NEUTRAL,)

    def _log_probabilities(self, inputs: ClipInputs, clip: int) -> np.ndarray:
        """(n, c) float64 log probabilities of a clip's frames, averaged over the networks."""
        rows = inputs.features[inputs.frames_of(np.array([clip]))].double().numpy()
        found: np.ndarray = rows.reshape(len(rows), self.record.networks, -1).mean(axis=1)
        return found

    def _neutral(self, said: np.ndarray) -> np.ndarray | None:
        """(c,) log probabilities of the first frame classified as neutral; None if there is none or it is unused."""
        if self.record.relative == "none":
            return None
        at_rest = np.flatnonzero(said.argmax(axis=1) == SEVEN.index(Emotion.NEUTRAL))
        return said[at_rest[0]] if len(at_rest) else None

    def to_record(self) -> AdoptedRecord:
        return self.record

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {}

    @classmethod
    def build(cls, record: AdoptedRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> AdoptedClassifier:
        columns, rest = divmod(record.n_features, record.networks)
        if tensors or rest or columns != len(SEVEN) or n_classes > columns:
            raise WeightsError(
                f"an adopted model holds no tensors and reads {len(SEVEN)} columns of each network; got "
                f"{len(tensors)} tensors and {record.n_features} columns of {record.networks}"
            )
        return cls(record, n_classes)


def _softmax(logs: np.ndarray) -> np.ndarray:
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    found: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return found
