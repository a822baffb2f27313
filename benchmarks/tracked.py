"""Tracked search in scoring: how many verdicts of models that were trained on faces of the full search stay the same.

`python -m benchmarks.tracked [TRAIN.csv OTHER.csv …]`: models are fitted in five folds by subject to the clips of
TRAIN (drawn ones by default) and score the clips that were held out; a model of the first fold scores the clips of the
other manifests. Every clip is scored with every frame searched completely, and with the face tracked.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from fer_core.clips.manifest import read_manifest
from fer_core.clips.splits import grouped_folds
from fer_core.clips.synthetic import synthesize
from fer_core.config import BackboneConfig, PreprocessConfig, RunConfig, ScoreConfig, SplitConfig
from fer_core.dataset.dataset import Dataset, keep_usable
from fer_core.dataset.load import load_dataset
from fer_core.dataset.training_table import training_table
from fer_core.evaluation.cross_validation import hold_out
from fer_core.features.load_backbone import load_backbone
from fer_core.models.base import Fits
from fer_core.models.bundle import ModelBundle, write_bundle
from fer_core.models.record import ModelFacts
from fer_core.models.registry import model_of, requirements_of
from fer_core.preprocess.clip_rows import store_faces
from fer_core.scoring.inputs import Item
from fer_core.scoring.scorer import ClipScorer
from fer_core.workspace import Workspace

BACKBONES = ("fer2013", "efficientnet-lite0")
FRAMES = (0, 8)  # most frames of a clip; 0: all of its second half
FOLDS, SUBJECTS = 5, 6


def main(*manifests: str) -> None:
    """Print a row per backbone, number of frames and manifest."""
    print("| backbone | frames | clips | verdicts | the same, tracked | right | right, tracked | largest difference |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "workspace")
        if not manifests:
            synthesize(Path(folder) / "drawn", SUBJECTS, seed=0)
            manifests = (str(Path(folder) / "drawn" / "manifest.csv"),)
        for backbone in BACKBONES:
            for frames in FRAMES:
                cfg = RunConfig(
                    manifest=manifests[0], split=SplitConfig(test=0), backbone=BackboneConfig(name=backbone),
                    preprocess=PreprocessConfig(max_frames=frames),
                )  # fmt: skip
                measure(cfg, manifests[1:], workspace, Path(folder))


def measure(cfg: RunConfig, others: tuple[str, ...], workspace: Workspace, folder: Path) -> None:
    manifest = load_dataset(cfg, workspace)
    rows = keep_usable(store_faces(manifest.clips, cfg.preprocess, cfg.limits, workspace.store), cfg.limits)
    dataset, backbone = Dataset.of(manifest, rows), load_backbone(cfg.backbone)
    table = training_table(dataset, backbone, cfg.preprocess, workspace, requirements_of(cfg.train))
    clips = {clip.id: clip for clip in manifest.clips}
    own: list[tuple[str, str, str, float]] = []
    elsewhere: dict[str, list[tuple[str, str, str, float]]] = {}
    for number, (train, held_out) in enumerate(grouped_folds(table.subjects, table.labels, FOLDS, cfg.search.seed)):
        side = hold_out(table, train, cfg.train.inner_share, cfg.search.seed, cfg.train.seed)
        facts = ModelFacts(classes=table.classes, preprocess=cfg.preprocess, synthetic=table.synthetic)
        fitted = Fits(table).fitted(model_of(cfg.train), side).classifier
        bundle = write_bundle(Path(tempfile.mkdtemp(dir=folder)), fitted, backbone, facts)
        own += verdicts(bundle, [Item(clips[table.clip_ids[i]]) for i in held_out], workspace)
        if number == 0:
            for other in others:
                items = [Item(clip) for clip in read_manifest(Path(other)).clips]
                elsewhere[Path(other).parent.name] = verdicts(bundle, items, workspace)
    for name, found in {f"{Path(cfg.manifest).parent.name}, out of fold": own, **elsewhere}.items():
        same = np.mean([one == other for _, one, other, _ in found])
        right, right_tracked = (np.mean([row[0] == row[at] for row in found]) for at in (1, 2))
        cells = f"{same:.1%} | {right:.1%} | {right_tracked:.1%} | {max(row[3] for row in found):.2f}"
        frames = cfg.preprocess.max_frames or "all"
        print(f"| {cfg.backbone.name} | {frames} | {name} | {len(found)} | {cells} |", flush=True)


def verdicts(bundle: ModelBundle, items: list[Item], workspace: Workspace) -> list[tuple[str, str, str, float]]:
    """Return label, verdict with the full search, verdict with the tracked one, and the largest difference of a
    probability, of every clip that has a verdict."""
    full, tracked = (
        list(ClipScorer(bundle, ScoreConfig(face_mode=mode), store_root=workspace.store).score_many(items))
        for mode in ("per_frame", "tracked")
    )
    return [
        (str(a.label), str(a.emotion), str(b.emotion), float(np.abs(a.probabilities - b.probabilities).max()))
        for a, b in zip(full, tracked, strict=True)
        if a.probabilities is not None and b.probabilities is not None
    ]


if __name__ == "__main__":
    main(*sys.argv[1:])
