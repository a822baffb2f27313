"""The clips of one table, and the rivals fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_core.errors import TrainingError
from fer_core.model.features import FeatureTable
from fer_core.training.history import Epoch

if TYPE_CHECKING:
    from fer_core.rivals.rival import Fitted, Rival


@dataclass(frozen=True, eq=False)
class Side:
    """The clips of a table that a rival is fitted to, and how; every class is among them.

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
    def whole(self) -> Side:
        """The side with nothing held out to stop on."""
        return replace(self, fit=np.sort(np.concatenate([self.fit, self.stop])), stop=self.stop[:0])

    @property
    def key(self) -> tuple[Any, ...]:
        return self.fit.tobytes(), self.stop.tobytes(), self.seed, tuple(sorted((self.chosen or {}).items()))

    def part(self, name: str) -> Side:
        """The side with what was chosen for a part, by the names `<part>.<setting>`."""
        if self.chosen is None:
            return self
        own = {key.removeprefix(f"{name}."): v for key, v in self.chosen.items() if key.startswith(f"{name}.")}
        return replace(self, chosen=own)


@dataclass(frozen=True)
class Fits:
    """A table and the fits made of it.

    Args:
        table: what the rivals read.
        checkpoint: where a head's long fit is saved, and resumed from; None: nowhere.
        on_epoch: told every epoch of a head or network; it stops when that answers True.
    """

    table: FeatureTable
    checkpoint: Path | None = None
    on_epoch: Callable[[Epoch], bool] | None = None
    _fits: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def fitted(self, rival: Rival, side: Side) -> Fitted:
        """`rival.fit`, to the whole side where it needs no stopping; the last side's fits are kept, so that rivals can
        share parts.

        Raises:
            TrainingError: a class has no clip to be fitted to, or the fit diverged.
        """
        place = side.key
        side = side if rival.stops_early else side.whole
        present = np.bincount(self.table.labels[side.fit], minlength=len(self.table.classes)) > 0
        if not present.all():
            missing = ", ".join(str(c) for c, there in zip(self.table.classes, present, strict=True) if not there)
            raise TrainingError(
                f"no training clips of {missing}; every class needs clips of several subjects, or fewer folds "
                "(search.folds)"
            )
        if place not in self._fits:
            self._fits.clear()
        fits: dict[Rival, Fitted] = self._fits.setdefault(place, {})
        if rival not in fits:
            fits[rival] = rival.fit(self, side)
        return fits[rival]
