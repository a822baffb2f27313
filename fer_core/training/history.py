"""History: the losses and accuracies of every epoch (§4.3). The epoch loop fills it; tracking and plots read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1.

    Args:
        loss: mean of the batches' losses during training.
        train_accuracy: accuracy on the training frames (clip networks: clips) during training, with dropout.
        validation_loss, validation_accuracy: the same on the clips for early stopping, without dropout; NaN if there
            are none.
        lr: learning rate of the epoch.
        seconds: wall-clock time of the epoch.
        ended_at: Unix time in milliseconds, so that a history that is logged later keeps its own times.
        halved: True if batches were computed in two halves, because the GPU had too little memory for a whole one.
    """

    number: int
    loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    seconds: float
    ended_at: int
    halved: bool = False


@dataclass
class History:
    """The epochs of one fit, in order."""

    epochs: list[Epoch] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.epochs)

    @property
    def halved(self) -> bool:
        """True if batches of any epoch were computed in two halves; see `Epoch`."""
        return any(epoch.halved for epoch in self.epochs)

    def column(self, name: str) -> list[float]:
        """Return one field of every epoch."""
        return [getattr(epoch, name) for epoch in self.epochs]

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the epochs as JSON-able rows; `from_rows` reads them."""
        return [asdict(epoch) for epoch in self.epochs]

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]]) -> History:
        return cls([Epoch(**row) for row in rows])
