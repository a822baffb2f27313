"""Rival: a way from clips to scores that can be fitted, and compared with every other on the same material."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from fer_core.rivals.material import Descriptor, Material
from fer_core.training.history import History


class Fitted(Protocol):
    """A fitted rival.

    Attributes:
        n_parameters: numbers it has learnt and must keep to judge a clip.
        history: its epochs; None for those that have none.
        seconds: wall clock of its fit, that of its parts included.
    """

    @property
    def n_parameters(self) -> int: ...
    @property
    def history(self) -> History | None: ...
    @property
    def seconds(self) -> float: ...

    def scores(self, data: Material, clips: np.ndarray) -> np.ndarray:
        """(n, k) scores of the clips at some places, rows sum to 1; the arg-max is the verdict."""
        ...


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
    def fit(self, data: Material, fit_clips: np.ndarray, stop_clips: np.ndarray, seed: int) -> Fitted:
        """Fit to some clips.

        Args:
            fit_clips: places of the clips trained on. stop_clips: of other subjects; for stopping, and for the few
                settings that are chosen inside a fold. Neither holds a clip that is scored later.
        Raises:
            TrainingError: it diverged.
        """

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        """What it reads of the faces."""
        return ()

    @property
    def reads_features(self) -> bool:
        """Whether it reads the backbone's features."""
        return False

    @property
    def setting(self) -> dict[str, Any]:
        """All that decides what it learns, JSON-able; part of the key its results are stored under."""
        fields = {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name != "title"}
        return {"kind": type(self).__name__, **fields}


def _plain(value: Any) -> Any:
    if isinstance(value, Rival):
        return value.setting
    if isinstance(value, Descriptor):
        return f"{value.name} {value.version}"
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value.stem if isinstance(value, Path) else value  # stored layers are named by their content
