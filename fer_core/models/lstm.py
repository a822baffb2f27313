"""An LSTM over the features of a clip's frames, in order (§1.3.2: the CNN-RNN of Kahou et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fer_core.features.store import FeatureTable
from fer_core.models.clip_network import Batch
from fer_core.models.record import NetworkRecord
from fer_core.rivals.nets import ClipNet

HIDDEN = 64


@dataclass(frozen=True)
class Recurrent(ClipNet):
    """Standardised features -> LSTM -> its last state -> scores, dropout before each."""

    @property
    def reads_features(self) -> bool:
        return True

    def network(self, table: FeatureTable) -> NetworkRecord:
        return NetworkRecord(kind="lstm", n_features=table.n_features, hidden=HIDDEN, dropout=self.recipe.dropout)

    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        return self.whole(table, rng.permutation(clips))
