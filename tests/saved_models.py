"""A small real model for tests: lite0's own convolutions, a head of random weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fer_core.config import BackboneConfig, PreprocessConfig, TrackingConfig
from fer_core.emotions import SIX
from fer_core.features.backbone import Backbone
from fer_core.features.load_backbone import load_backbone
from fer_core.models.bundle import ModelBundle, subject_digest, write_bundle
from fer_core.models.fc_head import HeadClassifier, build_head
from fer_core.models.record import ModelFacts
from fer_core.tracking.connection import connect
from fer_core.tracking.registry import CHAMPION, register
from fer_core.tracking.run import start_run


@cache
def lite0() -> Backbone:
    """A backbone whose weights are installed, loaded once: a child process converts its checkpoint."""
    return load_backbone(BackboneConfig(name="efficientnet-lite0"))


RULES = ("majority_vote", "mean_scores", "log_mean_scores")


def small_bundle(folder: Path, seed: int = 0, **facts: Any) -> ModelBundle:
    """A model of six classes and one hidden layer, written to `folder`."""
    backbone = lite0()
    head = HeadClassifier(build_head(backbone.n_features, (32,), len(SIX), dropout=0.5, seed=seed))
    known: dict[str, Any] = {
        "preprocess": PreprocessConfig(max_frames=6),
        "temperatures": dict.fromkeys(RULES, 1.5),
        "subjects": (subject_digest("drawn-synthetic:s000"),),
        "data_fingerprint": "ab" * 16,
        "synthetic": True,
        "versions": {"ferflow": "0.1.0"},
    }
    return write_bundle(folder, head, backbone, ModelFacts(**{**known, **facts}))


def register_champion(root: Path) -> None:
    """Register a small model as version 1, the champion, and another as version 2, in the workspace's SQLite."""
    tracking = connect(TrackingConfig(), root)
    for seed in (0, 1):
        folder = root / f"candidate-{seed}"
        folder.mkdir()
        with start_run(tracking, f"candidate {seed}") as run, pytest.MonkeyPatch.context() as patch:
            patch.setattr("fer_core.tracking.registry.prove_parity", lambda *_: 0.0)  # it takes a process of its own
            version = register(tracking, small_bundle(folder, seed=seed), folder, run.id)
    tracking.client.set_registered_model_alias("face-emotion", CHAMPION, str(version - 1))
