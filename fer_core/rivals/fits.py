"""The clips of one table, and the rivals fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_core.errors import TrainingError
from fer_core.model.features import FeatureTable
from fer_core.training.history import Epoch

if TYPE_CHECKING:
    from fer_core.rivals.rival import Fitted, Rival


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

    def fitted(
        self,
        rival: Rival,
        fit_clips: np.ndarray,
        stop_clips: np.ndarray,
        seed: int,
        chosen: Mapping[str, float] | None = None,
    ) -> Fitted:
        """`rival.fit`; the last side's fits are kept, so that rivals can share parts.

        Raises:
            TrainingError: a class has no clip to be fitted to, or the fit diverged.
        """
        present = np.bincount(self.table.labels[fit_clips], minlength=len(self.table.classes)) > 0
        if not present.all():
            missing = ", ".join(str(c) for c, there in zip(self.table.classes, present, strict=True) if not there)
            raise TrainingError(
                f"no training clips of {missing}; every class needs clips of several subjects, or fewer folds "
                "(search.folds)"
            )
        side = (fit_clips.tobytes(), stop_clips.tobytes(), seed, tuple(sorted((chosen or {}).items())))
        if side not in self._fits:
            self._fits.clear()
        fits: dict[Rival, Fitted] = self._fits.setdefault(side, {})
        if rival not in fits:
            fits[rival] = rival.fit(self, fit_clips, stop_clips, seed, chosen)
        return fits[rival]
