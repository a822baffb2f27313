"""The interface of models: fitting a `ClipModel` gives a `ClipClassifier`, stored as a record and tensors."""

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
from fer_core.training.fit_epochs import Length
from fer_core.training.history import Epoch, History


@dataclass(frozen=True)
class FrameView:
    """The frames of one clip, where a classifier joins their scores.

    Args:
        scores: (n, k), rows sum to 1. shares: (n,) of each frame in the clip's verdict, sum 1.
    """

    scores: np.ndarray
    shares: np.ndarray


Temperature = Annotated[float, Field(gt=0, le=100)]


class ClassifierRecord(Settings):
    """Everything needed to build a classifier from its tensors; each kind of classifier has a record of its own."""

    kind: str


CLASSIFIERS: dict[str, type[ClipClassifier]] = {}  # kind of record -> its classifier; filled as classes are defined


class ClipClassifier(ABC):
    """Scores of clips; it learns nothing any more.

    A class that names its `Record` is found by the record's kind from then on.
    """

    Record: ClassVar[type[ClassifierRecord]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "Record" in cls.__dict__:
            CLASSIFIERS[cls.Record.model_fields["kind"].default] = cls

    @property
    def reads_features(self) -> bool:
        """True if it reads the backbone's features."""
        return False

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Names of the descriptors it reads."""
        return ()

    @property
    def judges_frames(self) -> bool:
        """True if it scores single frames, which a rule combines; False if it scores whole clips."""
        return False

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Rules to select from; only the mean for a model that scores whole clips, whose scores equal their mean."""
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
        """Number of learnt values that it must keep to predict."""

    @abstractmethod
    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """(n, k) scores of the clips at some places, rows sum to 1; the arg-max is the verdict."""

    def frame_scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """(N, k) float32 scores of the clips' frames; whole-clip models give each frame its clip's scores."""
        return np.repeat(self.scores(inputs, clips), inputs.lengths[clips], axis=0).astype(np.float32)

    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView | None:
        """Scores and shares of a clip's single frames; None for a model that does not combine frames."""
        return None

    def flags(self, inputs: ClipInputs, clip: int) -> tuple[str, ...]:
        """Words for the row of a clip: what was particular about judging it."""
        return ()

    @abstractmethod
    def to_record(self) -> ClassifierRecord:
        """The record from which, with `to_tensors`, `build` makes the same classifier again."""

    @abstractmethod
    def to_tensors(self) -> dict[str, torch.Tensor]:
        """All it has learnt, on the CPU."""

    @classmethod
    @abstractmethod
    def build(cls, record: Any, tensors: dict[str, torch.Tensor], n_classes: int) -> ClipClassifier:
        """The classifier of a record, filled strictly. Both may be anybody's: whatever does not fit is refused.

        Raises:
            WeightsError, RuntimeError: a tensor too many, too few, or of another shape or type.
        """


def _by_kind(value: Any) -> Any:
    """A record of the class that its kind names."""
    if isinstance(value, ClassifierRecord):
        return value
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in CLASSIFIERS:
        raise ValueError(f"kind must be one of {', '.join(sorted(CLASSIFIERS))}; got {str(kind)[:60]!r}")
    return CLASSIFIERS[kind].Record.model_validate(value)


AnyRecord = Annotated[SerializeAsAny[ClassifierRecord], BeforeValidator(_by_kind)]


def build_classifier(record: ClassifierRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> ClipClassifier:
    """The classifier of a record; errors as of `ClipClassifier.build`."""
    return CLASSIFIERS[record.kind].build(record, tensors, n_classes)


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


@dataclass(frozen=True, eq=False)
class FitSplit:
    """The clips of a table that a model is fitted to, and how; every class is among them.

    Args:
        fit: places of the clips trained on. stop: of other subjects, to stop on; what needs no stopping is trained on
            them too. Neither holds a clip that is scored later.
        seed: of all that is random.
        chosen: what earlier fits have chosen; nothing is stopped or chosen then, and no clips are needed for it.
    """

    fit: np.ndarray
    stop: np.ndarray
    seed: int
    chosen: Mapping[str, float] | None = None

    @property
    def whole(self) -> FitSplit:
        """The split with nothing held out to stop on."""
        return replace(self, fit=np.sort(np.concatenate([self.fit, self.stop])), stop=self.stop[:0])

    @property
    def key(self) -> tuple[Any, ...]:
        return self.fit.tobytes(), self.stop.tobytes(), self.seed, tuple(sorted((self.chosen or {}).items()))

    @property
    def length(self) -> Length | None:
        """Length of the fit, where earlier fits have determined it."""
        if self.chosen is None:
            return None
        return Length(max(1, round(self.chosen["steps"])), self.chosen["steps"] / self.chosen["epochs"])

    def part(self, name: str) -> FitSplit:
        """This split with the values selected for one part of a fusion, stored as `<part>.<setting>`."""
        if self.chosen is None:
            return self
        own = {key.removeprefix(f"{name}."): v for key, v in self.chosen.items() if key.startswith(f"{name}.")}
        return replace(self, chosen=own)


@dataclass(frozen=True)
class Fits:
    """A table and the fits made of it.

    Args:
        table: features and descriptors of the clips.
        checkpoint: folder in which a head's long fit is saved, to resume from; None: it is not saved.
        on_epoch: called after every epoch of a head or network; the fit stops when it returns True.
    """

    table: FeatureTable
    checkpoint: Path | None = None
    on_epoch: Callable[[Epoch], bool] | None = None
    _fits: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def checkpoint_of(self, model: ClipModel) -> Path | None:
        """The checkpoint file of a model's fit; in a fusion, each model has a file of its own."""
        return self.checkpoint / model.name if self.checkpoint else None

    def fitted(self, model: ClipModel, side: FitSplit) -> Fitted:
        """`model.fit`, to all clips of the split where it needs no stopping; the last split's fits are kept, so that
        models can share parts.

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


MODELS_VERSION = 11  # raised whenever the same setting and clips give other scores


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Args:
        classifier: on the CPU, ready to judge.
        seconds: wall clock of the fit, that of its parts included.
        chosen: what was chosen inside the fit, by name (optimiser steps, a cost, a share). A refit on all clips is
            given the steps and the share; a cost it chooses again, by inner folds of its own.
        history: its epochs; None for those that have none. best_epoch: counted from 1.
        pretrained: places of FC layers that started from the backbone's checkpoint.
        threads: torch threads used; the same number is needed for the same bytes.
    """

    classifier: ClipClassifier
    seconds: float
    chosen: Mapping[str, float] = field(default_factory=dict)
    history: History | None = None
    best_epoch: int = 0
    pretrained: tuple[int, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class ClipModel(ABC):
    """One system: its name and settings; `fit` does the work.

    Args:
        name: one word, as typed on the command line.
        title: a few words for tables, with the section of the thesis that names it.
    """

    name: str
    title: str

    @abstractmethod
    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        """Fit to the clips of a side.

        Args:
            fits: the clips' table, and where a fused model has its parts fitted.
        Raises:
            TrainingError: it diverged.
        """

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """The descriptors that the model reads."""
        return ()

    @property
    def stops_early(self) -> bool:
        """True if it is fitted in epochs, which stop on held-out clips; other models are fitted to those clips too."""
        return True

    @property
    def reads_features(self) -> bool:
        """True if it reads the backbone's features."""
        return False

    @property
    def setting(self) -> dict[str, Any]:
        """All that decides what it learns, JSON-able; part of the key its results are stored under."""
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "title"}
        return {"kind": type(self).__name__, **fields}


def read_of(table: FeatureTable, model: ClipModel) -> dict[str, str]:
    """Identity of what a model reads of a table: other parts of it change nothing."""
    names = ["people"] + ["features"] * model.reads_features + [d.name for d in model.descriptors]
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
