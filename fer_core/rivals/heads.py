"""The thesis's own: FC layers over every frame, and a rule that joins the frames' scores (§4.1, §4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_core.config import Rule, TrainConfig
from fer_core.evaluation.metrics import clip_verdicts
from fer_core.model.features import load_block, load_fc
from fer_core.rivals.material import Material
from fer_core.rivals.rival import Rival
from fer_core.training.history import History
from fer_core.training.loop import FitResult, fit

_TIE = 1e-6


@dataclass(frozen=True)
class Head(Rival):
    """FC layers fitted to frames. As a rival it needs a rule: `HeadRule`; the rules of a comparison share one fit.

    Args:
        train: the setting. fc, block: stored FC layers and last block of the backbone to start from.
    """

    train: TrainConfig
    fc: Path | None = None
    block: Path | None = None

    @property
    def reads_features(self) -> bool:
        return True

    def fit(self, data: Material, fit_clips: np.ndarray, stop_clips: np.ndarray, seed: int) -> FittedHead:
        found = fit(
            data.table, fit_clips, stop_clips, self.train.model_copy(update={"seed": seed}),
            fc=load_fc(self.fc) if self.fc else (), block=load_block(self.block) if self.block else None,
        )  # fmt: skip
        return FittedHead(found, "mean_scores")


@dataclass(frozen=True)
class HeadRule(Rival):
    """The verdicts of a head by one rule."""

    head: Head
    rule: Rule

    @property
    def reads_features(self) -> bool:
        return True

    def fit(self, data: Material, fit_clips: np.ndarray, stop_clips: np.ndarray, seed: int) -> FittedHead:
        fitted = data.fitted(self.head, fit_clips, stop_clips, seed)
        assert isinstance(fitted, FittedHead)
        return FittedHead(fitted.found, self.rule)


@dataclass(frozen=True)
class FittedHead:
    """A fitted head under a rule."""

    found: FitResult
    rule: Rule

    @property
    def n_parameters(self) -> int:
        return self.found.n_weights

    @property
    def history(self) -> History:
        return self.found.history

    @property
    def seconds(self) -> float:
        return self.found.seconds

    def scores(self, data: Material, clips: np.ndarray) -> np.ndarray:
        """Clip scores by the rule; where votes are tied, the class of the rule's verdict is a hair ahead."""
        table = data.table
        frames = self.found.score_frames(table, table.frames_of(clips)).numpy()
        offsets = np.concatenate([[0], np.cumsum(np.diff(table.offsets)[clips])])
        verdicts, scores = clip_verdicts(frames, offsets, np.arange(len(clips)), self.rule)
        ahead = np.eye(scores.shape[1])[verdicts]
        return (scores + _TIE * ahead) / (1 + _TIE)
