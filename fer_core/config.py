"""Settings: one pydantic model for each step, combined in RunConfig.

The same models validate YAML files, command-line flags and the forms of the Prefect UI. Validators check values only;
they read no files and download nothing. `"auto"` is resolved once, at run start, by `runtime.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fer_core.config_errors import explain
from fer_core.databases import Address
from fer_core.emotions import NAMED, SEVEN, Classes, checked_classes
from fer_core.errors import ConfigError
from fer_core.model_names import AVERAGE, BACKBONE_NAMES, FACE_NETWORKS, FC_HEAD_MODELS, MODEL_NAMES
from fer_core.published import ATTENTION, ATTENTION_BATCHES

PRESETS = {path.stem: path for path in sorted((Path(__file__).parent / "presets").glob("*.yaml"))}


class Settings(BaseModel):
    """Base of all settings: unknown keys, infinity and NaN are errors; values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _one_of(names: Sequence[str], *others: str) -> Callable[[str], str]:
    """Return a check that a string is in `names`, which is read at every check, so names can be added later, or one of
    `others`."""

    def check(name: str) -> str:
        if name not in (*names, *others):
            raise ValueError(f"there is no {name[:60]!r}; there are {', '.join(names)}")
        return name

    return check


_CHOICES = Field(json_schema_extra={"enum": [*MODEL_NAMES]})
ModelName = Annotated[str, AfterValidator(_one_of(MODEL_NAMES)), _CHOICES]
BackboneName = Annotated[
    str, AfterValidator(_one_of(BACKBONE_NAMES)), Field(json_schema_extra={"enum": [*BACKBONE_NAMES]})
]


def _known_networks(label: str) -> str:
    for name in label.split("+"):
        _one_of(BACKBONE_NAMES)(name)
    return label


BackboneLabel = Annotated[str, AfterValidator(_known_networks)]


class FaceConfig(Settings):
    """Face detection (thesis §3.5.2: Viola-Jones)."""

    detector: Literal["viola_jones", "blazeface", "none"] = Field(
        "viola_jones",
        description="viola_jones (the thesis); blazeface: a small network, fetched by 'ferflow weights fetch "
        "blazeface', which uses only min_size and min_weight; none: the frames are cropped faces already and are "
        "used completely, and the other face settings are not used",
    )
    mode: Literal["per_frame", "tracked"] = Field(
        "per_frame",
        description="per_frame: search every whole frame (the thesis); tracked: search near the last box first",
    )
    scale_factor: float = Field(1.1, gt=1.0, le=2.0, description="Step of the image pyramid")
    min_neighbors: int = Field(5, ge=1, le=20, description="Overlapping detections required for a face")
    min_size: float = Field(0.2, gt=0.0, le=1.0, description="Smallest face, as a share of the frame's shorter side")
    min_weight: float = Field(
        1.0,
        ge=0.0,
        description="Smallest confidence of a face: for viola_jones the cascade's weight, for blazeface the log odds "
        "(1 is a probability of 0.73)",
    )
    landmarks: Literal["auto", "yes", "no"] = Field(
        "auto",
        description="Find 468 landmarks of each face by the network face-landmarks ('ferflow weights'), and use no box "
        "without them; auto: if the network is on this machine",
    )

    @model_validator(mode="after")
    def _unread(self) -> FaceConfig:
        of_cascade = ("scale_factor", "min_neighbors")
        ignored = {"viola_jones": (), "blazeface": of_cascade, "none": (*of_cascade, "min_size", "min_weight")}
        by_itself = {name: field.default for name, field in FaceConfig.model_fields.items()}
        if unread := [name for name in ignored[self.detector] if getattr(self, name) != by_itself[name]]:
            raise ValueError(
                f"detector '{self.detector}' does not read {', '.join(unread)}; leave out what it does not read"
            )
        return self


class PreprocessConfig(Settings):
    """Preprocessing of clips into faces (§3.5). All of these settings are part of the key of stored faces."""

    selection: Literal["second_half", "all"] = Field(
        "second_half", description="Frames to use: second_half: n/2 ... n (§3.5.1); all"
    )
    apex: Literal["last", "given", "estimate"] = Field(
        "given",
        description="Last frame to use: last: the end of the clip; given: the apex in the manifest, if there is one; "
        "estimate: also estimate the apex if the manifest has none",
    )
    max_frames: int = Field(0, ge=0, description="Most frames to keep, evenly spaced among the selected ones; 0: all")
    frames_per_s: float = Field(
        0.0, ge=0, description="Most frames per second to keep, of clips that say how many they have; 0: all"
    )
    face: FaceConfig = FaceConfig()
    align: Literal["none", "eyes"] = Field(
        "none",
        description="none: the face as it is in its box (the thesis); eyes: turned until the eyes are level, by the "
        "network face-landmarks",
    )
    equalize: Literal["thesis", "opencv", "none"] = Field(
        "thesis", description="Histogram equalisation: eq. 3.1-3.4, cv2.equalizeHist, or none"
    )
    size: int = Field(224, ge=32, le=512, description="Side of a face in pixels")

    @model_validator(mode="after")
    def _alignable(self) -> PreprocessConfig:
        if self.align == "eyes" and self.face.landmarks == "no":
            raise ValueError("align 'eyes' needs landmarks, but face.landmarks is 'no'; set it to auto")
        return self


class EveryFaceConfig(PreprocessConfig):
    """Preprocessing that keeps every face of a frame, not only the main one; `score.faces=all` uses it."""

    everyone: Literal[True] = True


class LimitsConfig(Settings):
    """Limits for one clip; a child process decodes it and is killed beyond them. Not part of any key."""

    max_bytes: int = Field(2 * 1024**3, gt=0, description="Largest file, bytes")
    max_pixels: int = Field(3840 * 2160 * 4, gt=0, description="Largest frame, pixels")
    max_frames: int = Field(100_000, gt=0, description="Longest clip, decoded frames")
    timeout_s: float = Field(120.0, gt=0, description="Longest time for one clip, in seconds")
    timeout_per_minute_s: float = Field(
        120.0,
        ge=0,
        description="Additional time for each decoded minute of video (1500 frames), in seconds, so that long clips "
        "have enough time, but clips that hang do not",
    )
    memory_mb: int = Field(2048, ge=256, description="Memory of a decoding process, in MiB")
    follow_links: bool = Field(False, description="Follow symbolic links inside folders")
    max_quarantine: float = Field(0.02, ge=0, le=1, description="Share of unusable clips above which training stops")
    workers: int = Field(0, ge=0, description="Decoding processes; 0 = one per core")


class SplitConfig(Settings):
    """Subject-disjoint split, stratified as far as the subjects allow."""

    scheme: Literal["fractions", "thesis", "folds", "one_subject_out", "cross_database", "official"] = Field(
        "fractions",
        description="fractions: shares of the clips; thesis: the proportions of Table 3.2; folds: grouped k-fold; "
        "one_subject_out: each subject is the test set once; cross_database: train on some databases, test on others; "
        "official: the split published with the database (AFEW)",
    )
    test: float = Field(0.25, ge=0.0, lt=1.0, description="Share of the clips in the test set")
    validation: float = Field(0.0, ge=0.0, lt=1.0, description="Share in a validation set; 0: cross-validation only")
    seed: int = Field(0, ge=0, description="Seed of the split")
    folds: int = Field(5, ge=2, le=1000, description="Folds, folds scheme only")
    fold: int = Field(0, ge=0, description="Which fold or subject is the test set, folds and one_subject_out only")
    train_on: tuple[str, ...] = Field((), description="Databases trained on, cross_database only")
    test_on: tuple[str, ...] = Field((), description="Databases tested on, cross_database only")
    allow_pairs: tuple[tuple[str, str], ...] = Field(
        (), description="Pairs of clip ids that look alike, but that you have checked to be different recordings"
    )


class OnnxConfig(Settings):
    """Input and outputs of a network in an ONNX file, because the file does not contain them."""

    size: int = Field(ge=8, le=1024, description="Side of its input faces in pixels")
    mean: tuple[float, ...] = Field(
        description="Mean of its input in [0, 1], one number per channel: one for grey, three for colour"
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        description="Standard deviation of its input, one number per channel; 0.00392157 (1/255) for input in 0 ... 255"
    )
    features: str = Field("", max_length=200, description="Name of the output with the features; empty: there is none")
    scores: str = Field("", max_length=200, description="Name of the output with class scores; empty: none")
    classes: tuple[Annotated[str, Field(max_length=60)], ...] = Field(
        (),
        max_length=100,
        description="Its classes in the order of the scores: the seven emotions, then any others",
    )
    scores_are: Literal["logits", "probabilities"] = Field("logits", description="Kind of the scores")

    @model_validator(mode="after")
    def _whole(self) -> OnnxConfig:
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError(f"mean and std hold one number each, or three; got {len(self.mean)} and {len(self.std)}")
        if not (self.features or self.scores):
            raise ValueError("name an output: features for training, scores for 'ferflow adopt'")
        if bool(self.scores) != bool(self.classes):
            raise ValueError("scores and classes go together: the output, and its classes in order")
        if self.classes and (absent := [str(e) for e in SEVEN if e not in self.classes]):
            raise ValueError(f"classes lack {', '.join(absent)}; a network with scores knows the seven")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")
        return self


class BackboneConfig(Settings):
    """The frozen network or networks that compute the features."""

    name: BackboneName = Field(
        "fer2013",
        description="Architecture: vgg16 is used in the thesis; fer2013 and face-api were trained on faces; "
        "efficientnet-lite0's weights are installed; onnx is the network in the ONNX file `weights` (extra onnx)",
    )
    names: tuple[BackboneName, ...] = Field(
        (), description="Several networks whose features are concatenated; empty: only `name`"
    )
    weights: str = Field(
        "auto",
        description="auto: imagenet, or the weights published for the network; imagenet; features (torchvision's vgg16 "
        "features checkpoint); or a path to a .safetensors, .pth or .onnx file",
    )
    onnx: OnnxConfig | None = Field(None, description="Input and outputs of the network, name=onnx only")
    normalize: Literal["auto", "imagenet", "features", "unit"] = Field(
        "auto",
        description="Channel mean and std (eq. 3.5); auto: those that the weights were trained with; others are an "
        "error unless force_normalize is set. unit: input in [0, 1] (the appendix's FER+ ResNet18)",
    )
    force_normalize: bool = Field(False, description="Accept a normalisation that the weights were not trained with")
    mirror: Literal["auto", "mean", "none"] = Field(
        "auto",
        description="mean: average the features of each face and its mirror image, which takes twice the time; none: "
        "the face alone; auto: mean for fer2013 and face-api, which take 1 to 2 ms a face, unless the last block is "
        "tuned",
    )

    @model_validator(mode="after")
    def _of_a_file(self) -> BackboneConfig:
        if "onnx" in self.names:
            raise ValueError("names joins networks by their published weights; an ONNX file is used alone")
        if self.name == "onnx" and (self.weights in ("auto", "imagenet", "features") or self.onnx is None):
            raise ValueError(
                "onnx needs the file (backbone.weights) and, in backbone.onnx, its size, mean, std and the name of an "
                "output: features, or scores with their classes"
            )
        if self.name == "onnx" and self.normalize != "auto":
            raise ValueError("onnx is normalised by backbone.onnx.mean and std; leave normalize at auto")
        return self

    @model_validator(mode="after")
    def _joinable(self) -> BackboneConfig:
        if self.names and (len(set(self.names)) != len(self.names) or len(self.names) < 2):
            raise ValueError(f"names joins two networks or more, each once; got {', '.join(self.names)}")
        if self.names and (self.weights, self.normalize) != ("auto", "auto"):
            raise ValueError("names joins networks by their published weights; leave weights and normalize at auto")
        return self

    @property
    def label(self) -> str:
        """Names of the networks, joined by `+`."""
        return "+".join(self.names or (self.name,))

    @property
    def checkpoint(self) -> str:
        """`weights`; for `auto`, `imagenet` or `published`."""
        if self.weights != "auto":
            return self.weights
        return "published" if {*(self.names or (self.name,))} & {*FACE_NETWORKS} else "imagenet"

    @property
    def parts(self) -> tuple[BackboneConfig, ...]:
        """The settings of each network."""
        return tuple(BackboneConfig(name=name, mirror=self.mirror) for name in self.names) or (self,)

    @property
    def mirrored(self) -> bool:
        """True if the features of a single network are averaged over a face and its mirror image."""
        return self.mirror == "mean" or (self.mirror == "auto" and self.name in FACE_NETWORKS)


class AugmentConfig(Settings):
    """Data augmentation (§2.7): each epoch uses a random stored view of each training face. Evaluation uses none.

    View 0 is the unchanged face; each other view is made once per face, at random within these ranges, and stored.
    """

    views: int = Field(1, ge=1, le=64, description="Views per face, with the unchanged face; 1: no augmentation")
    flip: bool = Field(True, description="Mirror half of the views")
    rotation: float = Field(10.0, ge=0, le=180, description="Largest rotation to either side, in degrees")
    crop: float = Field(0.1, ge=0, lt=0.5, description="Largest share of the side cut off; the rest is enlarged")
    brightness: float = Field(0.15, ge=0, le=1, description="Largest change of brightness, as a share of white")
    contrast: float = Field(0.2, ge=0, lt=1, description="Largest change of contrast, as a share")
    blur: float = Field(0.0, ge=0, le=20, description="Largest sigma of a Gaussian blur, pixels; 0: none")
    seed: int = Field(0, ge=0, description="Seed of the views")


Rule = Literal["majority_vote", "mean_scores", "log_mean_scores"]
WeightScheme = Literal["none", "inverse_frequency", "balanced", "effective_number", "square_root"]
Sampling = Literal["none", "over", "under"]
Transfer = Literal["frozen", "last_block"]
Relative = Literal["none", "neutral"]
Device = Literal["auto", "cpu", "cuda", "mps"]
# The programs that compute a backbone's features on the CPU; a suffix names numbers coarser than float32
EngineName = Literal["torch", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-bf16", "openvino-int8"]
EngineSetting = Literal["auto", EngineName]
_NETWORK = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 16, "dropout": 0.5}
RECIPES: dict[str, dict[str, Any]] = {  # default settings of networks over clips; batches are of clips
    # the appendix keeps the epoch with the best clip accuracy; here by its 5-epoch mean, patience half a step
    **{name: {**ATTENTION, "batch_size": size, "patience": 30} for name, size in ATTENTION_BATCHES.items()},
    "lstm": {**_NETWORK, "epochs": 60},
    "c3d": {**_NETWORK, "epochs": 40},
    "lstm-c3d": {**_NETWORK, "epochs": 60},  # the larger of its parts' 60 and 40
    "lstm-c3d-learned": {**_NETWORK, "epochs": 60},
}
SHARED_FIELDS = ("model", "class_weights", "inner_share", "seed", "threads", "device")
_OF_A_NETWORK = (
    "lr", "batch_size", "optimizer", "momentum", "nesterov", "weight_decay", "label_smoothing", "schedule",
    "step_epochs", "step_gamma", "epochs", "stopping", "patience",
)  # fmt: skip


def widths_name(widths: tuple[int, ...]) -> str:
    """Return the name of FC widths in Optuna and MLflow: `512-256` for (512, 256), `linear` for no hidden layer."""
    return "-".join(map(str, widths)) or "linear"


class TrainConfig(Settings):
    """Training of one model (§4.2, Table 4.1). Fields that are not given have the values of the model's recipe."""

    model: Annotated[str, AfterValidator(_one_of(MODEL_NAMES, AVERAGE)), _CHOICES] = Field(
        "head",
        description="Model: head (the thesis's FC layers over frames), or a model of whole clips. Each has its own "
        "recipe, the default values of the fields below. A field that the model does not use is an error",
    )
    lr: float = Field(1e-3, gt=0, le=1, description="Learning rate (Table 4.1: 0.005; §4.2.2: 0.001)")
    batch_size: int = Field(20, ge=1, le=4096, description="Frames per step (Table 4.1: 20; §4.2.2: 30)")
    widths: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        (256,), max_length=4, description="Widths of the hidden FC layers; in the thesis 4096, 4096"
    )
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout after each hidden layer (VGG16: 0.5)")
    class_weights: WeightScheme = Field(
        "none", description="Class weights of the cross-entropy, from the numbers of frames or clips (§4.5)"
    )
    sampling: Sampling = Field("none", description="Over- or undersampling of training frames (§4.5)")
    optimizer: Literal["adam", "sgd", "adagrad", "adadelta"] = Field("adam", description="Optimiser (§2.5)")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum, sgd only")
    nesterov: bool = Field(False, description="Nesterov momentum, sgd only")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy")
    schedule: Literal["constant", "step", "cosine"] = Field("constant", description="Learning-rate schedule")
    step_epochs: int = Field(60, ge=1, description="Epochs between steps, step schedule only")
    step_gamma: float = Field(0.2, gt=0, le=1, description="Factor at each step, step schedule only")
    epochs: int = Field(60, ge=1, le=10_000, description="Largest number of epochs")
    stopping: Literal["patience", "thesis", "never"] = Field(
        "patience",
        description="patience: stop when the 5-epoch mean of validation accuracy does not rise, and keep the best "
        "epoch; thesis: stop when validation accuracy falls while training accuracy rises (§4.3); never: all epochs",
    )
    patience: int = Field(10, ge=1, description="Epochs without a higher mean before stopping")
    inner_share: float = Field(0.15, gt=0, lt=0.5, description="Share of training subjects held out for early stopping")
    transfer: Transfer = Field(
        "frozen",
        description="frozen: fixed features of the backbone (§2.8); last_block: its last block is fine-tuned too, from "
        "stored maps",
    )
    relative: Relative = Field(
        "none",
        description="neutral: the head reads each frame's features beside their difference to the same person's "
        "neutral face: the first faces of the clip that the backbone classifies as neutral, else its first face",
    )
    block_lr: float = Field(1e-4, gt=0, le=1, description="Learning rate of the last block, last_block only")
    augment: AugmentConfig = AugmentConfig()
    pretrained_fc: bool = Field(True, description="Start from the backbone's FC layers if the shapes are equal")
    seed: int = Field(0, ge=0, description="Seed of weights, order and dropout")
    members: tuple[dict[str, Any], ...] = Field(
        (),
        max_length=20,
        description="Settings of the averaged models; only in the trial that a search makes of its best",
    )
    threads: int = Field(0, ge=0, description="torch threads; 0: one under 10 M head weights, else all cores")
    device: Device = Field("auto", description="auto: a GPU if there is one")

    @model_validator(mode="wrap")
    @classmethod
    def _by_recipe(cls, given: Any, handler: ModelWrapValidatorHandler[TrainConfig]) -> TrainConfig:
        if not isinstance(given, dict):
            return handler(given)
        made = handler({**RECIPES.get(str(given.get("model")), {}), **given})
        made.model_fields_set.intersection_update(given)  # values from the recipe do not count as given
        return made

    @model_validator(mode="after")
    def _contradictions(self) -> TrainConfig:
        if (self.model == AVERAGE) != bool(self.members):
            raise ValueError(
                f"model '{AVERAGE}' and members belong together; train the trial that a search made of its best"
            )
        for member in self.members:
            if TrainConfig.model_validate(member).transfer != "frozen":
                raise ValueError("the members of an average share one frozen backbone; transfer must be frozen")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0; got momentum=0")
        if self.relative == "neutral" and not self.compares:
            raise ValueError(
                "relative=neutral compares stored features of unaugmented faces; set transfer=frozen and "
                "augment.views=1, or relative=none"
            )
        read = _read_by(self.model)
        if unread := [name for name in self.differing if name not in read]:
            raise ValueError(
                f"model '{self.model}' does not read {', '.join(unread)}; beside its name it reads "
                f"{', '.join(read[1:])}. All fields are read by {' and '.join(FC_HEAD_MODELS)}"
            )
        return self

    @property
    def compares(self) -> bool:
        """True if frames can be compared with a neutral face: the block is frozen, and faces are not augmented."""
        return self.transfer == "frozen" and self.augment.views == 1

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The clip rules to select from: all for a head; only its own for a model that scores whole clips."""
        return get_args(Rule) if self.model == "head" else ("mean_scores",)

    @property
    def differing(self) -> dict[str, Any]:
        """The fields whose values are not those of the model's recipe."""
        recipe = RECIPES.get(self.model, {})
        by_itself = {name: recipe.get(name, field.default) for name, field in TrainConfig.model_fields.items()}
        return {name: getattr(self, name) for name, value in by_itself.items() if getattr(self, name) != value}

    @property
    def given(self) -> dict[str, Any]:
        """The fields that were given. If all were given (a saved setting), only those that differ from the recipe."""
        if self.model_fields_set == TrainConfig.model_fields.keys():
            return self.differing
        return {name: getattr(self, name) for name in TrainConfig.model_fields if name in self.model_fields_set}

    def with_model(self, model: str, **changes: Any) -> TrainConfig:
        """Return the settings for `model`: its recipe, with the given fields that it uses, and `changes`.

        Raises:
            ValueError: a change is out of bounds, or is a field that the model does not use.
        """
        return self._of(model, _read_by(model), changes)

    def with_recipe_of(self, model: str) -> TrainConfig:
        """Return the settings for `model` in a comparison: its recipe, with the fields that all models share taken from
        these settings. Between models with FC layers, all fields are taken from these settings.
        """
        alike = model == self.model or {model, self.model} <= set(FC_HEAD_MODELS)
        return self._of(model, _read_by(model) if alike else SHARED_FIELDS, {})

    def _of(self, model: str, names: Sequence[str], changes: dict[str, Any]) -> TrainConfig:
        kept = {name: value for name, value in self.given.items() if name in names}
        return TrainConfig.model_validate({**kept, "model": model, **changes})


def _read_by(model: str) -> tuple[str, ...]:
    """Return the fields that a model uses."""
    if model in FC_HEAD_MODELS:
        return tuple(name for name in TrainConfig.model_fields if name != "members")
    if model == AVERAGE:
        return ("model", "members", "inner_share", "seed", "threads", "device")
    if model not in RECIPES:
        return SHARED_FIELDS
    return (
        *SHARED_FIELDS,
        *_OF_A_NETWORK,
        *(["dropout"] if "dropout" in RECIPES[model] else []),
    )  # attention has its own


class SearchConfig(Settings):
    """Optuna's study: the search space, its length, and how trials are evaluated."""

    trials: int = Field(20, ge=1, description="Total number of trials, with the presets")
    models: tuple[ModelName, ...] = Field(
        (),
        description="Models to search, each with its own recipe, the given train fields and the searched values; "
        "empty: only train.model",
    )
    backbones: tuple[BackboneLabel, ...] = Field(
        (),
        description="Backbones to search, NAME or NAME+NAME (joined), each with its published weights; the one that "
        "`backbone` names has the weights given there; empty: only `backbone`",
    )
    folds: int = Field(5, ge=2, le=50, description="Folds by subject, over train and validation clips")
    lr: tuple[float, float] = Field((1e-5, 1e-2), description="Smallest and largest learning rate, on a log scale")
    batch_sizes: tuple[int, ...] = Field((20, 30, 64, 128), min_length=1, description="Batch sizes, frames")
    widths: tuple[tuple[int, ...], ...] = Field(
        ((), (64,), (256,), (512, 256), (1024, 256)), min_length=1, description="FC widths to search"
    )
    class_weights: tuple[WeightScheme, ...] = Field(
        ("none", "inverse_frequency", "balanced", "effective_number", "square_root"),
        min_length=1,
        description="Class-weight schemes to search",
    )
    sampling: tuple[Sampling, ...] = Field((), description="Sampling methods to search; empty: only train.sampling")
    transfer: tuple[Transfer, ...] = Field((), description="Transfer modes to search; empty: only train.transfer")
    views: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (), description="Numbers of views to search; empty: only train.augment.views"
    )
    relative: tuple[Relative, ...] = Field(
        (),
        description="Values of train.relative to search, for heads on frozen features of unaugmented faces; empty: "
        "only train.relative",
    )
    full: bool = Field(False, description="Search optimiser, dropout and weight decay too")
    presets: bool = Field(True, description="Try the thesis's two settings first")
    prune: bool = Field(
        True,
        description="Stop a trial after two or more folds if it is worse than the best trial on the same subjects, by "
        "the 95 % interval of their paired difference",
    )
    minutes: float | None = Field(
        None, gt=0, description="No trial starts after these minutes; the same search again goes on; none: no limit"
    )
    finalists: int = Field(
        3, ge=1, le=20, description="Best trials, as good as the best on the same people, that are judged again"
    )
    repeats: int = Field(
        2, ge=0, le=20, description="Cross-validations with other folds of each finalist, before one is selected"
    )
    max_ms: float | None = Field(
        None,
        gt=0,
        description="Most CPU milliseconds a clip of a trial that may be selected; none: time does not count",
    )
    workers: int = Field(0, ge=0, description="Trials at a time; 0: one per core, one on a GPU")
    seed: int = Field(0, ge=0, description="Seed of sampler, folds and trials")
    storage: Address = Field(
        "auto", description="Optuna storage URL, its password in $PGPASSWORD; auto: SQLite in the workspace"
    )
    name: str = Field("face-emotion", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Name of the study")

    @model_validator(mode="after")
    def _ordered(self) -> SearchConfig:
        low, high = self.lr
        if not 0 < low <= high <= 1:
            raise ValueError(f"`0 < low <= high <= 1` must hold for lr, but got (low={low}, high={high})")
        if len(set(self.backbones)) != len(self.backbones):
            raise ValueError(f"backbones names one twice: {', '.join(self.backbones)}")
        return self


class TrackingConfig(Settings):
    """The MLflow store of runs and models."""

    uri: Address = Field(
        "auto",
        description="MLflow tracking URI; auto: $MLFLOW_TRACKING_URI, else a running `ferflow up`, else SQLite in the "
        "workspace",
    )
    experiment: str = Field("face-emotion", min_length=1, max_length=200, description="MLflow experiment")
    model: str = Field(
        "face-emotion", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="Registered model's name"
    )
    coverages: tuple[Annotated[float, Field(ge=0.5, lt=1)], ...] = Field(
        (0.8, 0.9, 0.95),
        max_length=3,
        description="Coverages of the prediction sets in a candidate's run: shares of clips whose set contains the "
        "true emotion; at most 3, each at least 0.5 and below 1; empty: no sets",
    )
    upload_faces: bool = Field(False, description="Upload pictures of faces even if a database's licence forbids it")
    offline: bool = Field(
        False,
        description="Keep runs and new models in the workspace, without asking the MLflow server; 'ferflow sync' sends "
        "them later. Only for what needs no registered model: search, train, compare, adopt",
    )


class PromoteConfig(Settings):
    """The gate: conditions for a new version to become champion."""

    min_mean_recall: float = Field(
        0.0, ge=0, le=1, description="Smallest mean recall; its interval must also be above chance"
    )
    min_class_recall: float = Field(0.0, ge=0, le=1, description="Smallest recall of any class; 0 itself never passes")
    max_calibration_error: float = Field(1.0, ge=0, le=1, description="Largest expected calibration error")
    max_ms_per_clip: float = Field(0.0, ge=0, description="Largest CPU time of the model in ms per clip; 0: no limit")
    min_stays: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Floor of the share of verdicts that stay under every change of 'evaluate --stress'; 0: none",
    )
    margin: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest loss of mean recall against the champion: the 95 % interval of the difference, by person, "
        "must not reach below minus this; 0.05: 5 points",
    )
    beat_adopted: bool = Field(
        False,
        description="Also require a higher mean recall than that of the newest adopted version, on the same clips; "
        "false: only warn",
    )
    approval: bool = Field(
        False,
        description="A person approves or refuses a version that passes, with name and reason: on the page of the flow "
        "run, or on the terminal",
    )
    approval_timeout_s: float = Field(
        3600.0, ge=1, le=7 * 86400, description="Time in seconds that a flow run waits for the answer"
    )
    force: bool = Field(False, description="Promote although the gate is not passed; this is recorded")


class WindowsConfig(Settings):
    """Verdicts over time: one for each window of a clip."""

    length_s: float = Field(0.0, ge=0, le=3600, description="Length of a window in seconds; 0: no windows")
    step_s: float = Field(0.0, ge=0, description="Time from one window to the next in seconds; 0: the length")
    frames_per_s: float = Field(5.0, ge=0, description="Frames per second in which a face is looked for; 0: all")

    @model_validator(mode="after")
    def _covering(self) -> WindowsConfig:
        if self.step_s > self.length_s:
            raise ValueError(f"step_s is {self.step_s:g}, longer than length_s ({self.length_s:g}); it leaves gaps")
        if self.length_s and self.frames_per_s and self.length_s * self.frames_per_s < 1:
            raise ValueError(
                f"a window of {self.length_s:g} s has no frame at frames_per_s={self.frames_per_s:g}; raise one of them"
            )
        return self

    @property
    def step(self) -> float:
        """Time from one window to the next in seconds."""
        return self.step_s or self.length_s


class ScoreConfig(Settings):
    """Scoring of files with a registered model."""

    rule: Literal["auto", "majority_vote", "mean_scores", "log_mean_scores"] = Field(
        "auto", description="Clip rule; auto: the model's own"
    )
    face_mode: Literal["auto", "per_frame", "tracked"] = Field("auto", description="Face search; auto: the model's own")
    max_frames: int = Field(
        -1,
        ge=-1,
        description="Most frames of a clip to use, evenly spaced; 0: every selected one; -1: the frame budget of the "
        "version, or as many as in training",
    )
    abstain_below: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The model abstains below this confidence; at least just above chance (0.21 for six classes); 0: "
        "it never does",
    )
    device: Device = Field("auto", description="Device of the backbone; auto: a GPU if there is one")
    engine: EngineSetting = Field(
        "auto",
        description="Program that computes features on the CPU (extras onnx, openvino); auto: the fastest here that "
        "the version allows. bf16 and int8 compute with coarser numbers",
    )
    strict: bool = Field(False, description="Exit with code 3 if any clip has no prediction")
    explain: int = Field(0, ge=0, le=8, description="Decisive frames per clip to explain by Grad-CAM; 0: none")
    windows: WindowsConfig = WindowsConfig()
    faces: Literal["main", "all"] = Field(
        "main", description="main: the main face of a clip; all: every face, with a row per person"
    )
    video: bool = Field(False, description="Also write each clip as an mp4 with faces and verdicts drawn in")


class WatchConfig(Settings):
    """A folder in which every clip that arrives is scored once."""

    folder: str = Field(
        "",
        description="The folder; empty: `incoming` of the workspace (`ferflow up` looks into a folder regularly "
        "only if it is named here)",
    )
    every_s: float = Field(300.0, ge=5, le=7 * 86400, description="Time from one look to the next in seconds")
    settle_s: float = Field(
        10.0,
        ge=0.1,
        le=3600,
        description="Time in seconds that a file must stay as it is; until then it is being copied",
    )


class RunnerConfig(Settings):
    """Where a flow runs its work: this machine or a Dask cluster. The results are the same, so no key contains it."""

    kind: Literal["threads", "dask"] = Field(
        "threads", description="threads: this machine's cores; dask: the workers of a Dask cluster (extra dask)"
    )
    address: str = Field(
        "",
        description="Dask scheduler, tcp://host:8786; empty: a cluster of two workers on this machine",
    )


class RunConfig(Settings):
    """All settings of a run; they are saved with the results."""

    workspace: str = Field("auto", description="Folder of all results; auto: $FERFLOW_WORKSPACE, else ./workspace")
    manifest: str = Field("", description="Manifest CSV; empty: clips.csv in the workspace, else the demo's manifest")
    classes: Literal["six", "seven", "from_manifest"] | Classes = Field(
        "six",
        description="The six emotions, seven with neutral last, all labels of the manifest (from_manifest), or a list "
        "of labels: [pain, no_pain]. The order is that of the emotions, then other labels alphabetically",
    )
    neutral_from: tuple[str, ...] = Field(
        ("ckplus", "mug"),
        description="Databases whose clips begin neutral. If neutral is a class, the first frames of one clip of each "
        "subject become a neutral clip",
    )
    preprocess: PreprocessConfig = PreprocessConfig()
    limits: LimitsConfig = LimitsConfig()
    split: SplitConfig = SplitConfig()
    backbone: BackboneConfig = BackboneConfig()
    train: TrainConfig = TrainConfig()
    search: SearchConfig = SearchConfig()
    tracking: TrackingConfig = TrackingConfig()
    promote: PromoteConfig = PromoteConfig()
    score: ScoreConfig = ScoreConfig()
    watch: WatchConfig = WatchConfig()
    runner: RunnerConfig = RunnerConfig()

    @field_validator("classes", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        if isinstance(given, list | tuple):
            return checked_classes(given)
        if given not in (*NAMED, "from_manifest"):
            raise ValueError(f"needs {', '.join(NAMED)}, from_manifest, or a list of labels as in [pain, no_pain]")
        return given

    @field_validator("search", mode="after")
    @classmethod
    def _searchable(cls, search: SearchConfig, info: ValidationInfo) -> SearchConfig:
        own = info.data["backbone"].label if "backbone" in info.data else ""
        if any("onnx" in label.split("+") and label != own for label in search.backbones):
            raise ValueError(
                "backbones names networks by their published weights; an ONNX file is searched only if backbone.name "
                "is onnx too"
            )
        return search

    @field_validator("search", mode="after")
    @classmethod
    def _tunable(cls, search: SearchConfig, info: ValidationInfo) -> SearchConfig:
        backbone, train = info.data.get("backbone"), info.data.get("train")
        tuned = "last_block" in (train.transfer if train else "", *search.transfer)
        if backbone is not None and backbone.mirror == "mean" and tuned:
            raise ValueError(
                "backbone.mirror is mean, but a last block is tuned on the maps of faces without their mirror images; "
                "leave mirror at auto"
            )
        return search

    @property
    def searched_backbones(self) -> dict[str, BackboneConfig]:
        """Label -> settings of every backbone that a search may try; without `search.backbones`, only `backbone`."""
        own = self.backbone
        found = {}
        for label in self.search.backbones or (own.label,):
            names = tuple(label.split("+"))
            of = {"names": names} if len(names) > 1 else {"name": names[0]}
            published = BackboneConfig.model_validate({**of, "mirror": own.mirror})
            found[label] = own if label == own.label else published
        return found

    @property
    def class_list(self) -> Classes | None:
        """The classes, in the order of the scores' columns; None: those of the manifest."""
        if isinstance(self.classes, tuple):
            return self.classes
        return NAMED.get(self.classes)


def load_config(file: Path | None = None, overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """Load a RunConfig from a YAML file and `section.field=value` overrides, which take precedence.

    Args:
        file: a YAML file, or the name of a packaged one (`thesis-4`).
    Raises:
        ConfigError: the file is missing or no YAML mapping, a key is unknown, or a value is out of bounds.

    Example:
        >>> config = load_config(overrides=["train.lr=0.001", "search.trials=20"])
        >>> config.train.lr, config.search.trials
        (0.001, 20)
    """
    # Not by pydantic-settings: its errors do not name the file or flag of a wrong value.
    data: dict[str, Any] = {}
    if file is not None:
        data = _read_yaml(file if file.is_file() else PRESETS.get(str(file), file))
    origins = {section: str(file) for section in data}
    for item in overrides:
        _apply(data, item)
    return _validated(data, origins, overrides)


def config_from(preset: Path | None, values: Mapping[str, Any], origin: str) -> RunConfig:
    """Return a RunConfig from a packaged file and nested `values`, which take precedence.

    Args:
        origin: name of `values` in messages.
    Raises:
        ConfigError: see `load_config`.
    """
    data = _read_yaml(preset) if preset else {}
    origins = dict.fromkeys(data, str(preset)) | dict.fromkeys(values, origin)
    merge(data, values)
    return _validated(data, origins, ())


def _validated(data: dict[str, Any], origins: Mapping[str, str], overrides: Sequence[str]) -> RunConfig:
    try:
        return RunConfig.model_validate(data)
    except ValidationError as exc:
        raise ConfigError(explain(exc, RunConfig, origins, overrides)) from exc


def merge(data: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put `more` into `data`, section by section; its values replace those that are there."""
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(data.get(name), dict):
            merge(data[name], value)
        else:
            data[name] = value


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases, because nested aliases can expand a few bytes to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not accepted")
        return super().compose_node(parent, index)


def _parse_yaml(text: str) -> Any:
    loader = _StrictLoader(text)
    try:
        return loader.get_single_data()
    except RecursionError:
        raise yaml.YAMLError("lists or mappings are nested too deeply") from None
    finally:
        loader.dispose()


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        data = _parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ConfigError(f"no such config file: {file}; packaged are {', '.join(PRESETS)}") from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(f"{file}: cannot be read as YAML ({' '.join(str(exc).split())})") from exc
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: needs a mapping of sections, got {type(data).__name__}")
    return data


def _apply(data: dict[str, Any], item: str) -> None:
    key, equals, text = item.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"'--set {item}': write it as section.field=value")
    try:
        value = _parse_yaml(text) if text else ""
    except yaml.YAMLError as exc:
        raise ConfigError(f"'--set {item:.80}': the value is no YAML ({' '.join(str(exc).split())})") from exc
    if isinstance(value, str) and value:
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML 1.1 reads 1e-3 as text
    *sections, last = key.strip().split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"'--set {item}': '{section}' is not a section")
    data[last] = value
