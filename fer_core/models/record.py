"""The model record, `model.json`. Scoring needs only this file and the weights file."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fer_core.config import BackboneName, EngineName, ModelName, OnnxConfig, PreprocessConfig, Rule, Settings
from fer_core.emotions import SIX, Classes, checked_classes
from fer_core.features.known_weights import KNOWN
from fer_core.models.base import AnyRecord, Temperature

FORMAT = 3
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
Score = Annotated[float, Field(ge=0, le=1)]


class TensorSpec(Settings):
    """Shape and type of one tensor in the weights file."""

    shape: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=5)
    dtype: Literal["F64", "F32", "F16", "I64", "U8"]

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * {"F64": 8, "F32": 4, "F16": 2, "I64": 8, "U8": 1}[self.dtype]


class BackboneRecord(Settings):
    """A frozen network. Its tensors are in the weights file; `weights_digest` identifies it in the keys of features.

    With `mirror`, its features are averaged over a face and its mirror image.
    """

    name: BackboneName
    source: str = Field(max_length=200)
    weights_digest: Digest
    normalization: str = Field(max_length=40)
    output: Literal["features", "classes"] = "features"
    onnx: OnnxConfig | None = None
    mirror: bool = False

    @property
    def origin(self) -> str:
        """Where the weights are from, in one line for a model card: source, licence, data they were trained on."""
        known = KNOWN.get(self.name)
        if known is None or self.source != known.package.label:
            return f"{self.name}: weights {self.source}"
        return (
            f"{self.name}: {known.what}; from {self.source}, licence {known.licence}; trained on {known.trained_on}; "
            f"SHA-256 of the published file {known.sha256}"
        )


class FrameBudget(Settings):
    """The fewest frames of a clip whose verdicts agree with those of all frames; see `evaluation.frame_budget`."""

    frames: int = Field(ge=1, description="Frames of a clip's second half, evenly spaced")
    agreement: Score = Field(description="Share of the clips with the same verdict, out of fold")
    clips: int = Field(ge=1, description="Number of clips")

    @property
    def words(self) -> str:
        """The budget and its agreement, for people."""
        same = f"{100 * self.agreement:.1f} % of {self.clips} verdicts out of fold are those of all frames"
        return f"{self.frames} frames of a clip; {same}"


LEAST_AGREEMENT, MOST_LOSS = 0.99, 0.005  # share of verdicts and mean recall; an engine with worse ones is not used


class EngineRecord(Settings):
    """How the verdicts with an engine's features agree with those of torch; see `experiments.engines`."""

    name: EngineName
    agreement: Score = Field(description="Share of the clips with the same verdict")
    clips: int = Field(ge=1, description="Number of clips")
    recall_loss: float | None = Field(
        None, ge=-1, le=1, description="Mean recall out of fold that the engine loses; None: compared on training clips"
    )

    @property
    def allowed(self) -> bool:
        """True if the engine may be used for the model."""
        return self.agreement >= LEAST_AGREEMENT and (self.recall_loss or 0.0) <= MOST_LOSS

    @property
    def words(self) -> str:
        """The record for people."""
        if self.recall_loss is None:
            return f"{self.name}: {100 * self.agreement:.0f} % of {self.clips} verdicts on training clips are torch's"
        return (
            f"{self.name}: {100 * self.agreement:.1f} % of {self.clips} verdicts out of fold are torch's, mean recall "
            f"{-100 * self.recall_loss:+.1f} points"
        )


class ModelFacts(Settings):
    """Everything about a model except its tensors: how to preprocess and score clips, and its training data.

    Args:
        model: name of the model, as in its training settings.
        classes: labels, in the order of the scores' columns.
        preprocess: settings used in training; `max_frames` limits the frames of a clip.
        budget: frames of a clip that scoring reads; None: as many as `preprocess` selects.
        engines: engines other than torch whose verdicts were compared with torch's and agree.
        rule: how the frame scores of a clip are combined.
        temperatures: rule -> temperature of its clip scores, fitted on out-of-fold scores.
        abstain_below: the model abstains from clips whose calibrated confidence is below this value.
        subjects: digests of the training subjects (see `training_subjects`).
        data_fingerprint: fingerprint of the training manifest.
        synthetic: True if any training face was drawn or rendered.
        versions: versions of the packages that the model was trained with.
    """

    model: ModelName | Literal["adopted", "average"] = "head"
    classes: Classes = SIX
    preprocess: PreprocessConfig
    budget: FrameBudget | None = None
    engines: tuple[EngineRecord, ...] = Field((), max_length=8)
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
    backbones: tuple[BackboneRecord, ...] = Field(max_length=8, description="Empty if the classifier reads no features")
    classifier: AnyRecord
    tensors: dict[str, TensorSpec] = Field(max_length=5000)
    canary: tuple[tuple[Score, ...], ...] = Field(min_length=1, max_length=64)
    weights_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
