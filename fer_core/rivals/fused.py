"""Two rivals' scores joined into one (§1.3.2): LSTM and C3D (Khan and Reeshad), appearance and motion (Käding)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from fer_core.rivals.material import Descriptor, Material
from fer_core.rivals.rival import Fitted, Rival
from fer_core.training.history import History

_SHARES = np.linspace(0, 1, 21)
_TINY = 1e-7


@dataclass(frozen=True)
class Fused(Rival):
    """The mean of two rivals' scores, weighed evenly or by a share learnt in the fold.

    Args:
        first, second: the parts; fitted once, whoever else asks for them.
        learned: whether the first's share is learnt on the clips stopped on (`learned_share`); else it is 1/2.
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
            share = learned_share(
                first.scores(data, stop_clips), second.scores(data, stop_clips), data.table.labels[stop_clips]
            )
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


def learned_share(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    """The first's share by the one-standard-error rule: of those whose cross-entropy is within one standard error of
    the least, the one nearest to an even split. A few dozen clips tell a useless part from a good one, and no more.

    Args:
        first, second: (n, k) scores of the same clips. labels: (n,) columns.
    """
    a, b = (scores[np.arange(len(labels)), labels] for scores in (first, second))
    shares = _SHARES[:, None]
    losses = -np.log(np.maximum(shares * a + (1 - shares) * b, _TINY))  # (shares, n)
    behind = losses - losses[losses.mean(axis=1).argmin()]
    near = behind.mean(axis=1) <= behind.std(axis=1) / np.sqrt(len(labels))
    return float(min(_SHARES[near], key=lambda share: abs(share - 0.5)))
