"""A reproduction that nobody had to train: drawn verdicts of 20 people, drawn curves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from fer_core.clips.clip import Split
from fer_core.config import BackboneConfig, PreprocessConfig, SplitConfig, TrainConfig
from fer_core.evaluation.metrics import evaluate
from fer_core.thesis.reproduction import DataFacts, Outcome, Reproduction
from fer_core.training.history import Epoch, History

LABELS = np.tile(np.arange(6), 20)
SUBJECTS = [f"drawn:s{i // 6}" for i in range(120)]
FACTS = DataFacts(
    fingerprint="ab" * 16,
    datasets=("drawn-synthetic",),
    synthetic=True,
    clips={Split.TRAIN: (40,) * 6, Split.TEST: (20,) * 6, Split.VALIDATION: (2,) * 6},
    people={Split.TRAIN: 40, Split.TEST: 20, Split.VALIDATION: 2},
    frames=(400,) * 6,
    own_split=False,
    stopped_on="stopped on the 12 validation clips of 2 people",
)


def history(epochs: int = 12, gap: float = 0.1) -> History:
    """Training rises to 0.95, validation stays `gap` below it."""
    rise = 0.95 - 0.6 * 0.7 ** np.arange(epochs)
    return History([Epoch(i + 1, 2 * 0.8**i, r, 2 * 0.85**i, r - gap, 0.005, 3.0, 0) for i, r in enumerate(rise)])


def verdicts(right: float, seed: int) -> np.ndarray:
    """Columns of the 120 clips, that share of them right; fear that is missed is taken for surprise."""
    rng = np.random.default_rng(seed)
    missed = rng.random(120) > right
    wrong = np.where(LABELS == 2, 5, (LABELS + rng.integers(1, 3, 120)) % 6)
    return np.where(missed, wrong, LABELS)


def outcome(number: int, vote: float = 0.7, mean: float = 0.8, **changes: Any) -> Outcome:
    given = {"majority_vote": verdicts(vote, number), "mean_scores": verdicts(mean, number)}
    widths = (4096, 4096) if number % 2 else (4096, 1024)
    made = Outcome(
        number=number,
        train=TrainConfig(lr=0.005, batch_size=20, widths=widths, stopping="thesis", epochs=12),
        history=history(gap=0.1 if number % 2 else 0.05),
        n_weights=119_578_624,
        threads=2,
        device="cpu",
        tests={rule: evaluate(v, LABELS, SUBJECTS) for rule, v in given.items()},
        verdicts=given,
        opening=number,
        openings=4,
    )
    return dataclasses.replace(made, **changes)


def reproduction(*outcomes: Outcome, **changes: Any) -> Reproduction:
    made = Reproduction(
        changed=(),
        setting="table-4.1",
        fixed_epochs=False,
        shrink=1,
        outcomes=outcomes or tuple(outcome(n) for n in (1, 2, 3, 4)),
        labels=LABELS,
        subjects=SUBJECTS,
        data=FACTS,
        preprocess=PreprocessConfig(),
        split=SplitConfig(scheme="thesis"),
        backbone=BackboneConfig(name="vgg16", weights="features"),
        normalization="features",
        environment={"platform": "Linux", "torch": "2.14.1"},
    )
    return dataclasses.replace(made, **changes)


def diverged(number: int) -> Outcome:
    """An implementation that could not be trained."""
    return Outcome(
        number=number,
        train=TrainConfig(widths=(4096, 4096), stopping="thesis"),
        history=history(3),
        reason="the loss became nan and the fit has diverged; try a smaller train.lr",
    )
