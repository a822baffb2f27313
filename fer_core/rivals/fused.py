"""Two rivals' scores joined into one (§1.3.2): LSTM and C3D (Khan and Reeshad), appearance and motion (Käding)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from fer_core.model.classifiers.fused import FusedClassifier
from fer_core.model.descriptors.descriptor import Descriptor
from fer_core.rivals.fits import Fits, Side
from fer_core.rivals.rival import Fitted, Rival

_SHARES = np.linspace(0, 1, 21)
_TINY = 1e-7


@dataclass(frozen=True)
class Fused(Rival):
    """The mean of two rivals' scores, weighed evenly or by a share learnt in the fold.

    Args:
        first, second: the parts; fitted once, whoever else asks for them.
        learned: whether the first's share is learnt on the clips stopped on (`learned_share`), from parts that were not
            fitted to these; else it is 1/2.
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

    def fit(self, fits: Fits, side: Side) -> Fitted:
        first, second = fits.fitted(self.first, side.part("first")), fits.fitted(self.second, side.part("second"))
        started = time.monotonic()
        share = 0.5 if side.chosen is None else side.chosen["share"]
        if self.learned and side.chosen is None and len(side.stop):
            apart = (p if r.stops_early else r.fit(fits, side) for r, p in ((self.first, first), (self.second, second)))
            ours, theirs = (part.classifier.scores(fits.table, side.stop) for part in apart)
            share = learned_share(ours, theirs, fits.table.labels[side.stop])
        parts = {"first": first, "second": second}
        decided = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.chosen.items()}
        return Fitted(
            classifier=FusedClassifier(first.classifier, second.classifier, share, self.learned),
            seconds=first.seconds + second.seconds + time.monotonic() - started,
            chosen={"share": share, **decided},
            pretrained=first.pretrained or second.pretrained,
            threads=max(first.threads, second.threads),
        )


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
