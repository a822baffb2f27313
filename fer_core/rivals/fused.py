"""Two rivals' scores joined into one (§1.3.2): LSTM and C3D (Khan and Reeshad), appearance and motion (Käding)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from fer_core.evaluation.calibration import negative_log_likelihood
from fer_core.rivals.material import Descriptor, Material
from fer_core.rivals.rival import Fitted, Rival
from fer_core.training.history import History

_SHARES = np.linspace(0, 1, 21)


@dataclass(frozen=True)
class Fused(Rival):
    """The mean of two rivals' scores, weighed evenly or by a share learnt in the fold.

    Args:
        first, second: the parts; fitted once, whoever else asks for them.
        learned: whether the first's share is the one with the least cross-entropy on the clips stopped on; else 1/2.
    """

    first: Rival
    second: Rival
    learned: bool

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return tuple(dict.fromkeys((*self.first.descriptors, *self.second.descriptors)))

    @property
    def reads_features(self) -> bool:
        return self.first.reads_features or self.second.reads_features

    def fit(self, data: Material, fit_clips: np.ndarray, stop_clips: np.ndarray, seed: int) -> FittedFused:
        first, second = (data.fitted(part, fit_clips, stop_clips, seed) for part in (self.first, self.second))
        started = time.monotonic()
        share = 0.5
        if self.learned and len(stop_clips):
            labels = data.table.labels[stop_clips]
            a, b = first.scores(data, stop_clips), second.scores(data, stop_clips)
            losses = [negative_log_likelihood(w * a + (1 - w) * b, labels) for w in _SHARES]
            share = float(_SHARES[int(np.argmin(losses))])
        seconds = first.seconds + second.seconds + time.monotonic() - started
        return FittedFused(first, second, share, seconds, int(self.learned))


@dataclass(frozen=True)
class FittedFused:
    """Two fitted rivals and the share of the first."""

    first: Fitted
    second: Fitted
    share: float
    seconds: float
    learned: int
    history: History | None = None

    @property
    def n_parameters(self) -> int:
        return self.first.n_parameters + self.second.n_parameters + self.learned

    def scores(self, data: Material, clips: np.ndarray) -> np.ndarray:
        return self.share * self.first.scores(data, clips) + (1 - self.share) * self.second.scores(data, clips)
