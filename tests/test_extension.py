"""What CONTRIBUTING.md says of adding a backbone and a model, done to a copy of the code, and taken to a verdict."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent
MODEL = '''"""Nearest mean: a clip is of the class whose mean features are the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from fer_core.models.base import ClassifierRecord, ClipClassifier, ClipModel, Fits, FitSplit, Fitted, take


class NearestMeanRecord(ClassifierRecord):
    kind: Literal["nearest-mean"] = "nearest-mean"
    n_features: int = Field(ge=1)


def clip_features(inputs, clips):
    return np.stack([inputs.features[inputs.frames_of(np.array([c]))].double().mean(dim=0).numpy() for c in clips])


@dataclass(frozen=True)
class NearestMeanClassifier(ClipClassifier):
    Record = NearestMeanRecord

    record: NearestMeanRecord
    means: np.ndarray

    @property
    def reads_features(self):
        return True

    @property
    def n_parameters(self):
        return self.means.size

    def scores(self, inputs, clips):
        far = np.linalg.norm(clip_features(inputs, clips)[:, None] - self.means, axis=2)
        near = np.exp(-10 * (far - far.min(axis=1, keepdims=True)) / far.mean())
        return near / near.sum(axis=1, keepdims=True)

    def to_record(self):
        return self.record

    def to_tensors(self):
        return {"means": torch.from_numpy(self.means)}

    @classmethod
    def build(cls, record, tensors, n_classes):
        return cls(record, **take(tensors, {"means": (n_classes, record.n_features)}, {"means": torch.float64}))


@dataclass(frozen=True)
class NearestMean(ClipModel):
    @property
    def reads_features(self):
        return True

    @property
    def stops_early(self):
        return False

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        features, labels = clip_features(fits.table, side.fit), fits.table.labels[side.fit]
        means = np.stack([features[labels == c].mean(axis=0) for c in range(len(fits.table.classes))])
        return Fitted(NearestMeanClassifier(NearestMeanRecord(n_features=means.shape[1]), means), seconds=0.0)
'''


BACKBONE = """    "tiny": Architecture(
        lambda: nn.ModuleDict(
            {
                "features": nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU(), nn.Conv2d(4, 6, 1)),
                "avgpool": nn.AvgPool2d(2),
            }
        ),
        lambda net: (
            _named(features=net["features"][:2]),
            _named(features=net["features"][2:], avgpool=net["avgpool"], flatten=nn.Flatten()),
        ),
        "features.1", 1176, "classifier.",
    ),
"""


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name} has {text.count(before)} times {before!r}"
    path.write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the packages with both added, each by the edits that CONTRIBUTING.md names, and no others."""
    root = tmp_path_factory.mktemp("extended")
    for package in ("fer_core", "flows", "mlflow_server"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    library = root / "fer_core"
    (library / "models" / "nearest_mean.py").write_text(MODEL)
    edit(library / "model_names.py", "MODEL_NAMES = [\n", 'MODEL_NAMES = [\n    "nearest-mean",\n')
    edit(library / "model_names.py", "BACKBONE_NAMES = [", 'BACKBONE_NAMES = ["tiny", ')
    edit(
        library / "models" / "registry.py",
        "MODELS: dict[str, Factory] = {\n",
        "from fer_core.models.nearest_mean import NearestMean\n\nMODELS: dict[str, Factory] = {\n"
        '    "nearest-mean": lambda train, _: NearestMean("nearest-mean", "nearest mean"),\n',
    )
    architectures = library / "features" / "architectures.py"
    edit(
        architectures,
        "ARCHITECTURES: dict[str, Architecture] = {\n",
        f"ARCHITECTURES: dict[str, Architecture] = {{\n{BACKBONE}",
    )
    return root


def ferflow(root: Path, *words: str) -> dict:
    """What a command of the extended copy prints as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(root), "FERFLOW_WORKSPACE": str(root / "workspace")}
    command = [sys.executable, "-c", "from flows.cli import main; main()", *words, "--json"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_a_model_and_a_backbone_that_were_added_reach_a_verdict(extended):
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU(), nn.Conv2d(4, 6, 1))
    weights = extended / "tiny.safetensors"
    save_file({f"features.{key}": value for key, value in features.state_dict().items()}, weights)
    clips = extended / "clips"
    ferflow(extended, "data", "synth", str(clips), "--subjects", "10")
    trained = ferflow(
        extended, "train", "--model", "nearest-mean", "--set", f"manifest={clips / 'manifest.csv'}",
        "--set", "backbone.name=tiny", "--set", f"backbone.weights={weights}",
        "--set", "preprocess.max_frames=4", "--set", "search.folds=2",
    )  # fmt: skip
    assert trained["version"] == 1
    ferflow(extended, "promote", "--set", "promote.force=true")
    verdicts = extended / "verdicts"
    ferflow(extended, "score", str(next(clips.rglob("*.mp4"))), "--out", str(verdicts))
    with (verdicts / "verdicts.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert row["status"] == "ok" and row["emotion"]
