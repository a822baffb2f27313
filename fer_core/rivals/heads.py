"""The thesis's own: FC layers fitted to frames, and a rule that joins the frames' scores (§4.1, §4.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fer_core.config import Rule, TrainConfig
from fer_core.features.store import load_block, load_fc
from fer_core.model.classifiers.head import HeadClassifier
from fer_core.rivals.fits import Fits, Side
from fer_core.rivals.rival import Fitted, Rival
from fer_core.training.loop import fit


@dataclass(frozen=True)
class Head(Rival):
    """FC layers fitted to frames, judging by mean scores.

    Args:
        train: the setting. fc, block: stored FC layers and last block of the backbone to start from.
    """

    train: TrainConfig
    fc: Path | None = None
    block: Path | None = None

    @property
    def reads_features(self) -> bool:
        return True

    def fit(self, fits: Fits, side: Side) -> Fitted:
        """As `training.loop.fit`. A refit's epochs are longer than a fold's, so it counts the folds' steps."""
        chosen = side.chosen
        cfg = self.train.model_copy(update={"seed": side.seed} | ({"stopping": "never"} if chosen else {}))
        found = fit(
            fits.table, side.fit, side.stop, cfg,
            fc=load_fc(self.fc) if self.fc else (), block=load_block(self.block) if self.block else None,
            max_steps=max(1, round(chosen["steps"])) if chosen else 0,
            epoch_steps=chosen["steps"] / chosen["epochs"] if chosen else 0,
            checkpoint=fits.checkpoint, on_epoch=fits.on_epoch,
        )  # fmt: skip
        return Fitted(
            classifier=HeadClassifier(found.head, found.block),
            seconds=found.seconds,
            chosen={"steps": found.steps, "epochs": found.best_epoch},
            history=found.history,
            best_epoch=found.best_epoch,
            pretrained=tuple(found.pretrained),
            threads=found.threads,
        )


@dataclass(frozen=True)
class HeadRule(Rival):
    """The verdicts of a head by one rule; the rules of a comparison share one fit."""

    head: Head
    rule: Rule

    @property
    def reads_features(self) -> bool:
        return True

    def fit(self, fits: Fits, side: Side) -> Fitted:
        fitted = fits.fitted(self.head, side)
        assert isinstance(fitted.classifier, HeadClassifier)
        return replace(fitted, classifier=replace(fitted.classifier, rule=self.rule))
