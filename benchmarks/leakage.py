"""What a leaking split pretends: accuracy on held-out frames, clips and people, and with labels drawn by lot.

The faces are drawn, so the numbers say nothing about people; the differences between the rows are the result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold

from fer_core.clips.splits import grouped_folds
from fer_core.clips.synthetic import synthesize
from fer_core.config import BackboneConfig, LimitsConfig, PreprocessConfig, TrainConfig
from fer_core.dataset.table import FeatureTable, build_table
from fer_core.dataset.training_table import store_features
from fer_core.evaluation.metrics import Interval, evaluate
from fer_core.features.backbone import Backbone
from fer_core.features.load_backbone import load_backbone
from fer_core.features.store import FeatureStore, feature_key
from fer_core.models.fc_head import fit_head
from fer_core.preprocess.clip_rows import store_faces, stored_faces
from fer_core.workspace import Workspace

PEOPLE, FOLDS, SEED = 24, 5, 0
PREPROCESS = PreprocessConfig(max_frames=8)
TRAIN = TrainConfig(widths=(256,), epochs=15, stopping="never")

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def main() -> None:
    """Print accuracy per frame of one head under three splits, on true labels and on random labels."""
    with tempfile.TemporaryDirectory() as folder:
        table = draw(Path(folder))
    frames = as_clips(table)
    labels, clips = frames.labels, np.repeat(np.arange(table.n_clips), np.diff(table.offsets))
    lots = np.random.default_rng(SEED).permutation(table.labels)[clips]
    print(
        f"{table.n_clips} drawn clips of {PEOPLE} people, {len(labels)} frames, efficientnet-lite0 features, FC "
        f"{'-'.join(map(str, TRAIN.widths))}, {TRAIN.epochs} epochs, {FOLDS} folds. Accuracy per held-out frame in %, "
        "with its 95 % interval by subject; chance is 16.7. By lot: every clip gets another's label, so there is "
        "nothing to learn. Twin: share of held-out frames, in %, whose most similar training frame shows the same "
        "person\n"
    )
    print("| held out | shared with training | true labels | labels by lot | twin |")
    print("| --- | --- | --- | --- | --- |")
    for name, shared, split in splits(frames, clips):
        cells = [str(held_out_accuracy(replace(frames, labels=given), split(given))) for given in (labels, lots)]
        print(f"| {name} | {shared} | {' | '.join(cells)} | {100 * twins(frames, split(labels)):.0f} |")


def draw(folder: Path) -> FeatureTable:
    """Return a table of the features of the selected frames of drawn clips."""
    workspace, limits = Workspace(folder), LimitsConfig()
    manifest = synthesize(folder / "clips", PEOPLE, SEED)
    rows = [row for row in store_faces(manifest.clips, PREPROCESS, limits, workspace.store) if row.status.scored]
    backbone: Backbone = load_backbone(BackboneConfig(name="efficientnet-lite0"))
    store_features(rows, backbone, workspace)
    used = {row.clip for row in rows}
    features = [FeatureStore(workspace.store).extract(faces, backbone) for faces in stored_faces(rows, workspace.store)]
    keys = [feature_key(row.key, backbone) for row in rows]
    table = build_table([c for c in manifest.clips if c.id in used], features, keys, FeatureStore(workspace.store), {})
    return replace(table, features=table.features.clone())  # copied, because the mapped file is deleted with the folder


def as_clips(table: FeatureTable) -> FeatureTable:
    """Return the table with every frame as its own clip, so that any frame can be on any side."""
    repeats = np.diff(table.offsets)

    def spread(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(np.repeat(np.array(names), repeats).tolist())

    return replace(
        table,
        offsets=np.arange(len(table.features) + 1),
        labels=table.frame_labels(),
        clip_ids=tuple(map(str, range(len(table.features)))),
        subjects=spread(table.subjects),
        datasets=spread(table.datasets),
        groups={},
    )


def splits(frames: FeatureTable, clips: np.ndarray) -> list[tuple[str, str, Callable[[np.ndarray], Folds]]]:
    """Return (what is held out, what both sides share, function from labels to folds over the frames) of each split."""
    first = np.unique(clips, return_index=True)[1]

    def by_frame(labels: np.ndarray) -> Folds:
        return list(_shuffled().split(labels, labels))

    def by_clip(labels: np.ndarray) -> Folds:
        cut = _shuffled().split(first, labels[first])
        return [(np.flatnonzero(np.isin(clips, a)), np.flatnonzero(np.isin(clips, b))) for a, b in cut]

    def by_person(labels: np.ndarray) -> Folds:
        return grouped_folds(frames.subjects, labels, FOLDS, SEED)

    return [
        ("frames", "clips and people", by_frame),
        ("clips", "people", by_clip),
        ("people", "nothing", by_person),
    ]


def held_out_accuracy(frames: FeatureTable, folds: Folds) -> Interval:
    """Return the share of frames that the head classifies correctly when it was not trained on them."""
    verdicts = np.zeros(len(frames.labels), dtype=np.int64)
    for train, test in folds:
        head = fit_head(frames, train, np.empty(0, dtype=np.int64), TRAIN).head
        verdicts[test] = head(frames.features[test].float()).detach().argmax(dim=1).numpy()
    return evaluate(verdicts, frames.labels, frames.subjects).accuracy


def twins(frames: FeatureTable, folds: Folds) -> float:
    """Return the share of held-out frames whose nearest training frame, by cosine similarity, shows the same person."""
    features = torch.nn.functional.normalize(frames.features.float())
    people = np.array(frames.subjects)
    same = [people[train][(features[test] @ features[train].T).argmax(1)] == people[test] for train, test in folds]
    return float(np.concatenate(same).mean())


def _shuffled() -> StratifiedKFold:
    return StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)


if __name__ == "__main__":
    main()
