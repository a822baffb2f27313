"""The interface of all models: fitting a `ClipModel` gives a `ClipClassifier`, saved as a record and tensors."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

import numpy as np
import torch
from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny
from torch import nn

from fer_core.config import Rule, Settings
from fer_core.dataset.table import FeatureTable
from fer_core.errors import TrainingError, WeightsError
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.features.inputs import ClipInputs
from fer_core.features.neutral_reference import NEUTRAL
from fer_core.training.fit_epochs import Length
from fer_core.training.history import Epoch, History


@dataclass(frozen=True)
class FrameView:
    """The scores of one clip's frames, and the weight of each frame in the clip's verdict.

    Args:
        scores: (n, k), each row sums to 1.
        shares: (n,) weights of the frames, sum 1.
    """

    scores: np.ndarray
    shares: np.ndarray


Temperature = Annotated[float, Field(gt=0, le=100)]


class ClassifierRecord(Settings):
    """Everything needed to build a classifier from its tensors. Each kind of classifier has its own record class."""

    kind: str


# kind of record -> classifier class; `ClipClassifier.__init_subclass__` fills it
CLASSIFIERS: dict[str, type[ClipClassifier]] = {}


class ClipClassifier(ABC):
    """A fitted model: it predicts the scores of clips.

    Defining a subclass with a `Record` registers the subclass in `CLASSIFIERS` under the record's `kind`.
    """

    Record: ClassVar[type[ClassifierRecord]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Record" in cls.__dict__:
            CLASSIFIERS[cls.Record.model_fields["kind"].default] = cls

    @property
    def reads_features(self) -> bool:
        """True if the classifier reads the backbone's features."""
        return False

    @property
    def reads_neutral(self) -> bool:
        """True if the classifier reads the features of the clip's neutral face too."""
        return False

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Names of the descriptors that the classifier reads."""
        return ()

    @property
    def scores_frames(self) -> bool:
        """True if the classifier scores single frames, which a rule combines; False if it scores whole clips."""
        return False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules to select from. A model that scores whole clips needs no rule, so it has only `mean_scores`."""
        return get_args(Rule) if self.scores_frames else ("mean_scores",)

    @property
    def block(self) -> nn.Module | None:
        """The fine-tuned last block of the backbone, if there is one; the saved model contains it."""
        return None

    @property
    def parts(self) -> tuple[ClipClassifier, ...]:
        """The parts of a fused classifier; for any other classifier, only itself."""
        return (self,)

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Number of learnt values that the classifier needs to predict."""

    @abstractmethod
    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """Predict (n, k) scores; each row sums to 1 and its arg-max is the predicted class.

        Args:
            clips: (n,) positions of the clips in `inputs`.
        """

    def frame_scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """Predict (N, k) float32 scores of the clips' frames. A whole-clip model gives each frame its clip's scores."""
        return np.repeat(self.scores(inputs, clips), inputs.lengths[clips], axis=0).astype(np.float32)

    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView | None:
        """Scores and weights of a clip's single frames; None for a model that does not combine frames."""
        return None

    def flags(self, inputs: ClipInputs, clip: int) -> tuple[str, ...]:
        """Flags for the clip's row in the result table, such as 'no_neutral_face'."""
        return ()

    @abstractmethod
    def to_record(self) -> ClassifierRecord:
        """The record that `build` needs, together with `to_tensors`, to make the same classifier again."""

    @abstractmethod
    def to_tensors(self) -> dict[str, torch.Tensor]:
        """All learnt values, on the CPU."""

    @classmethod
    @abstractmethod
    def build(cls, record: Any, tensors: dict[str, torch.Tensor], n_classes: int) -> ClipClassifier:
        """Build the classifier from its record and tensors. Neither is trusted: any mismatch is an error.

        Raises:
            WeightsError, RuntimeError: a tensor is missing, superfluous, or of another shape or type.
        """


def _by_kind(value: Any) -> Any:
    """Validate `value` as the record class that its `kind` names."""
    if isinstance(value, ClassifierRecord):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in CLASSIFIERS:
        raise ValueError(f"kind must be one of {', '.join(sorted(CLASSIFIERS))}; got {str(kind)[:60]!r}")
    return CLASSIFIERS[kind].Record.model_validate(value)


AnyRecord = Annotated[SerializeAsAny[ClassifierRecord], BeforeValidator(_by_kind)]


def build_classifier(record: ClassifierRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> ClipClassifier:
    """Build the classifier of a record. Raises the errors of `ClipClassifier.build`."""
    return CLASSIFIERS[record.kind].build(record, tensors, n_classes)


def take(
    tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, torch.dtype]
) -> dict[str, np.ndarray]:
    """Return exactly the tensors that `shapes` names, as arrays. -1 in a shape means any length.

    Raises:
        WeightsError: a tensor is missing, superfluous, or of another shape or type.
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


@dataclass(frozen=True, eq=False)
class FitSplit:
    """The training clips of one fit, by their positions in the table, and the seed.

    Args:
        fit: positions of the clips that the weights are trained on.
        stop: positions of the clips for early stopping; their subjects are not in `fit`. A model without early stopping
            is trained on these clips too. No clip that is scored later is in `fit` or `stop`.
        seed: seed of everything random in the fit.
        selected: values that earlier fits have selected, by name. A fit that gets them does not stop early and does not
            select them again, so `stop` may be empty.
    """

    fit: np.ndarray
    stop: np.ndarray
    seed: int
    selected: Mapping[str, float] | None = None

    @property
    def whole(self) -> FitSplit:
        """The same split with the clips of `stop` moved to `fit`."""
        return replace(self, fit=np.sort(np.concatenate([self.fit, self.stop])), stop=self.stop[:0])

    @property
    def key(self) -> tuple[Any, ...]:
        return self.fit.tobytes(), self.stop.tobytes(), self.seed, tuple(sorted((self.selected or {}).items()))

    @property
    def length(self) -> Length | None:
        """Length of the fit, if earlier fits have selected it; else None."""
        if self.selected is None:
            return None
        return Length(max(1, round(self.selected["steps"])), self.selected["steps"] / self.selected["epochs"])

    def part(self, name: str) -> FitSplit:
        """This split with the values selected for one part of a fusion, stored as `<part>.<setting>`."""
        if self.selected is None:
            return self
        own = {key.removeprefix(f"{name}."): v for key, v in self.selected.items() if key.startswith(f"{name}.")}
        return replace(self, selected=own)


@dataclass(frozen=True)
class Fits:
    """A feature table and the models fitted to it.

    Args:
        table: features and descriptors of the clips.
        checkpoint: folder for the checkpoints of fits in epochs, from which a killed fit resumes; None: no checkpoints.
        on_epoch: called after every epoch of a head or network; the fit stops when it returns True.
    """

    table: FeatureTable
    checkpoint: Path | None = None
    on_epoch: Callable[[Epoch], bool] | None = None
    _fits: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def checkpoint_of(self, model: ClipModel) -> Path | None:
        """The checkpoint folder of one model's fit; in a fusion, each model has its own folder."""
        return self.checkpoint / model.name if self.checkpoint else None

    def fitted(self, model: ClipModel, side: FitSplit) -> Fitted:
        """Call `model.fit`, or return its result for the same split if there is one, so that models can share parts.

        A model without early stopping is fitted to the clips of `stop` too. Only the fits of the last split are kept.

        Raises:
            TrainingError: a class has no clip to be fitted to, or the fit diverged.
        """
        place = side.key
        side = side if model.stops_early else side.whole
        present = np.bincount(self.table.labels[side.fit], minlength=len(self.table.classes)) > 0
        if not present.all():
            missing = ", ".join(str(c) for c, there in zip(self.table.classes, present, strict=True) if not there)
            raise TrainingError(
                f"no training clips of {missing}; every class needs clips of several subjects, or fewer folds "
                "(search.folds)"
            )
        if place not in self._fits:
            self._fits.clear()
        fits: dict[ClipModel, Fitted] = self._fits.setdefault(place, {})
        if model not in fits:
            fits[model] = model.fit(self, side)
        return fits[model]


MODELS_VERSION = 12  # raised whenever the same setting and clips give other scores


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Args:
        classifier: the fitted classifier, on the CPU.
        seconds: wall-clock time of the fit; for a fusion, with its parts.
        selected: values selected during the fit, by name (optimiser steps, cost, share). A refit on all clips reuses
            the steps and the share, and selects the cost again by its own inner folds.
        history: the epochs; None for a model that is not fitted in epochs.
        best_epoch: counted from 1; 0 without epochs.
        pretrained: indices of the FC layers that started from the backbone's checkpoint.
        threads: number of torch threads; a fit with another number gives slightly different weights.
    """

    classifier: ClipClassifier
    seconds: float
    selected: Mapping[str, float] = field(default_factory=dict)
    history: History | None = None
    best_epoch: int = 0
    pretrained: tuple[int, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class ClipModel(ABC):
    """A model to fit: its name and settings.

    Args:
        name: the model's name on the command line, without spaces.
        title: the model's name in tables, with the section of the thesis that describes it.
    """

    name: str
    title: str

    @abstractmethod
    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        """Fit the model to the training clips of a split.

        Args:
            fits: the table of the clips; a fused model fits its parts by `fits.fitted`.
            side: the training clips.
        Raises:
            TrainingError: the fit diverged.
        """

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """The descriptors that the model reads."""
        return ()

    @property
    def stops_early(self) -> bool:
        """True if the fit needs clips for early stopping; models without early stopping train on those clips too."""
        return True

    @property
    def reads_features(self) -> bool:
        """True if the model reads the backbone's features."""
        return False

    @property
    def reads_neutral(self) -> bool:
        """True if the model reads the features of the clips' neutral faces too."""
        return False

    @property
    def setting(self) -> dict[str, Any]:
        """All settings that change the fit, as JSON-able values; part of the key under which results are stored."""
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "title"}
        return {"kind": type(self).__name__, **fields}


def read_of(table: FeatureTable, model: ClipModel) -> dict[str, str]:
    """Keys of the parts of a table that the model reads; a change in any other part does not change its fit."""
    names = ["people"] + ["features"] * model.reads_features + [NEUTRAL] * model.reads_neutral
    names += [d.name for d in model.descriptors]
    return {name: table.part_keys[name] for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, ClipModel):
        return value.setting
    if isinstance(value, Descriptor):
        return value.identity
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value.stem if isinstance(value, Path) else value  # stored layers are named by their content
