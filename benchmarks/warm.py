"""Warm scoring: clip after clip through the Python API and the served model, against a new decoding process for each.

`python -m benchmarks.warm [VIDEO]` takes a drawn face, or a video, scaled to 640x480, and the default network with an
untrained head, which takes as long as a trained one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil

from benchmarks.front_end import canvas, source, write
from fer_core.config import BackboneConfig, LimitsConfig, PreprocessConfig, ScoreConfig
from fer_core.emotions import SIX
from fer_core.features.load_backbone import load_backbone
from fer_core.models.bundle import ModelBundle, write_bundle
from fer_core.models.fc_head import HeadClassifier, build_head
from fer_core.models.record import ModelFacts
from fer_core.preprocess.children import WarmChildren
from fer_core.scoring.scorer import ClipScorer
from fer_core.tracking.packing import pack

BUDGET = 8  # frames
N_FRAMES = 120
ROUNDS = 9


def main(video: str | None = None) -> None:
    """Print a row a way of calling, and a verdict's share of it."""
    import mlflow.pyfunc

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = write(folder / "film.mp4", canvas(source(video, folder)), N_FRAMES)
        (folder / "bundle").mkdir()
        bundle = untrained(folder / "bundle")
        limits = LimitsConfig()
        warm = ClipScorer(bundle, limits=limits, warm=WarmChildren(limits, ready=True))
        every = ClipScorer(bundle, ScoreConfig(max_frames=0), limits=limits, warm=WarmChildren(limits, ready=True))
        served = mlflow.pyfunc.load_model(str(pack(folder / "bundle", bundle, folder / "packed", "face-emotion")))
        table = pd.DataFrame({"path": [str(clip)]})
        ways: dict[str, Callable[[], object]] = {
            f"API, {BUDGET} frames, warm": lambda: warm.score(clip),
            f"`pyfunc.predict`, {BUDGET} frames, warm": lambda: served.predict(table),
            f"{BUDGET} frames, a new process each": lambda: ClipScorer(bundle, limits=limits).score(clip),
            f"API, all {N_FRAMES // 2} second-half frames, warm": lambda: every.score(clip),
        }
        print_times(ways)


def untrained(folder: Path) -> ModelBundle:
    """Write a model with the default backbone and FC layers of random weights."""
    backbone = load_backbone(BackboneConfig())
    head = HeadClassifier(build_head(backbone.n_features, (32,), len(SIX), dropout=0.5, seed=0))
    facts = ModelFacts(preprocess=PreprocessConfig(max_frames=BUDGET), synthetic=True)
    return write_bundle(folder, head, backbone, facts)


def print_times(ways: dict[str, Callable[[], object]]) -> None:
    """Print the median wall and CPU time of each way, taken in turn; decoding processes count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), cpu_s()
            way()
            times[name].append((time.perf_counter() - wall, cpu_s() - cpu))
    print(f"One clip of {N_FRAMES} frames, 640x480; medians of {ROUNDS}, in turn.\n")
    print("| call | wall s | CPU s |")
    print("| --- | ---: | ---: |")
    for name, taken in times.items():
        wall_s, total_s = (statistics.median(column) for column in zip(*taken, strict=True))
        print(f"| {name} | {wall_s:.2f} | {total_s:.2f} |")


def cpu_s() -> float:
    """Return the CPU time of this process and its children, living and dead."""
    own = psutil.Process()
    total = sum(own.cpu_times()[:4])  # user and system, own and of ended children
    for child in own.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    main(*sys.argv[1:2])
