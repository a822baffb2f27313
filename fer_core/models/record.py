"""The model record, `model.json`: a scorer reads this file and the weights, and nothing else."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fer_core.config import BackboneName, ModelName, OnnxConfig, PreprocessConfig, Rule, Settings
from fer_core.emotions import SIX, Classes, checked_classes
from fer_core.models.base import AnyRecord, Temperature

FORMAT = 3
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
Score = Annotated[float, Field(ge=0, le=1)]


class TensorSpec(Settings):
    """Shape and type of one tensor of the weights file."""

    shape: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=5)
    dtype: Literal["F64", "F32", "F16", "I64", "U8"]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "U8": 1}[self.dtype]


class BackboneRecord(Settings):
    """A frozen network; its tensors are in the weights file, `weights_digest` is what feature keys hold."""

    name: BackboneName
    source: str = Field(max_length=200)
    weights_digest: Digest
    normalization: str = Field(max_length=40)
    output: Literal["features", "classes"] = "features"
    onnx: OnnxConfig | None = None


class ModelFacts(Settings):
    """All of a model but its tensors: how to preprocess and score clips, and the data it was trained on.

    Args:
        model: name of the model, as in the settings it was trained by.
        classes: labels, in the order of the scores' columns.
        preprocess: as in training; its `max_frames` is the frame budget of a clip.
        rule: how frames are joined into a verdict.
        temperatures: rule -> temperature of its clip scores, fitted out of fold.
        abstain_below: calibrated confidence under which a clip abstains.
        subjects: digests of the training subjects (see `subject_digest`).
        data_fingerprint: of the training manifest.
        synthetic: whether any training face was drawn or rendered.
        versions: of the packages that made it.
    """

    model: ModelName | Literal["adopted"] = "head"
    classes: Classes = SIX
    preprocess: PreprocessConfig
    rule: Rule = "mean_scores"
    temperatures: dict[Rule, Temperature] = Field(default_factory=dict)
    abstain_below: float = Field(0.0, ge=0, lt=1)
    subjects: tuple[Digest, ...] = ()
    data_fingerprint: str = Field("", max_length=64)
    synthetic: bool
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _labels(self) -> ModelFacts:
        if checked_classes(self.classes) != self.classes:
            raise ValueError(f"classes must be {', '.join(checked_classes(self.classes))} in this order")
        return self


class ModelRecord(Settings):
    """`model.json`."""

    format: Literal[3]
    preprocess_version: int
    facts: ModelFacts
    backbones: tuple[BackboneRecord, ...] = Field(max_length=8, description="None: the classifier reads no features")
    classifier: AnyRecord
    tensors: dict[str, TensorSpec] = Field(max_length=5000)
    canary: tuple[tuple[Score, ...], ...] = Field(min_length=1, max_length=64)
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
