"""History: what a fit recorded, epoch by epoch (§4.3). The loop fills it; trackers and plots only read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Epoch:
    """One epoch, counted from 1.

    Args:
        loss: mean of the batches' losses while training.
        train_accuracy: share of right training frames, counted while training (dropout on).
        validation_loss, validation_accuracy: the same on the clips stopped on, dropout off; NaN when there are none.
        lr: learning rate of the epoch.
        seconds: wall clock.
        ended_at: Unix time in milliseconds, so that a history sent later keeps its own times.
    """

    number: int
    loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    seconds: float
    ended_at: int


@dataclass
class History:
    """The epochs of one fit, in order."""

    epochs: list[Epoch] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.epochs)

    def column(self, name: str) -> list[float]:
        """One field of every epoch."""
        return [getattr(epoch, name) for epoch in self.epochs]

    def to_rows(self) -> list[dict[str, Any]]:
        """JSON-able rows; `from_rows` reads them back."""
        return [asdict(epoch) for epoch in self.epochs]

    @classmethod
    def from_rows(cls, rows: list[dict[str, Any]]) -> History:
        return cls([Epoch(**row) for row in rows])
