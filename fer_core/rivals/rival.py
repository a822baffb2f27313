"""What a rival is: a system with its settings, which is fitted to some clips and then judges others."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from fer_core.model.classifiers.classifier import ClipClassifier
from fer_core.model.descriptors.descriptor import Descriptor
from fer_core.model.features import FeatureTable
from fer_core.rivals.fits import Fits, Side
from fer_core.training.history import History

RIVALS_VERSION = 7  # raised whenever the same setting and clips give other scores


@dataclass(frozen=True)
class Fitted:
    """A fitted rival.

    Args:
        classifier: on the CPU, ready to judge.
        seconds: wall clock of the fit, that of its parts included.
        chosen: what was chosen inside the fit, by name (optimiser steps, a cost, a share). A refit on all clips is told
            the steps and the share; a cost it chooses again, by inner folds of its own.
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
class Rival(ABC):
    """One system: its name and settings; `fit` does the work.

    Args:
        name: one word, as typed on the command line.
        title: a few words for tables, with the section of the thesis that names it.
    """

    name: str
    title: str

    @abstractmethod
    def fit(self, fits: Fits, side: Side) -> Fitted:
        """Fit to the clips of a side.

        Args:
            fits: the clips' table, and where a fused rival has its parts fitted.
        Raises:
            TrainingError: it diverged.
        """

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """What it reads of the faces."""
        return ()

    @property
    def stops_early(self) -> bool:
        """Whether it is fitted in epochs, which stop on clips held out; what is not is fitted to those clips too."""
        return True

    @property
    def reads_features(self) -> bool:
        """Whether it reads the backbone's features."""
        return False

    @property
    def setting(self) -> dict[str, Any]:
        """All that decides what it learns, JSON-able; part of the key its results are stored under."""
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "title"}
        return {"kind": type(self).__name__, **fields}


def read_of(table: FeatureTable, rival: Rival) -> dict[str, str]:
    """Identity of what a rival reads of a table: other parts of it change nothing."""
    names = ["people"] + ["features"] * rival.reads_features + [d.name for d in rival.descriptors]
    return {name: table.part_keys[name] for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, Rival):
        return value.setting
    if isinstance(value, Descriptor):
        return value.identity
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value.stem if isinstance(value, Path) else value  # stored layers are named by their content
