"""Compare a model's verdicts on each engine with those on torch, and allow the engines whose verdicts agree."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fer_core.clips.splits import grouped_folds
from fer_core.config import EngineName, SearchConfig, TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.evaluation.cross_validation import fit_fold, hold_out
from fer_core.evaluation.metrics import clip_verdicts, mean_recall
from fer_core.features.backbone import BATCH, Backbone, Mirrored
from fer_core.features.engines.choice import ms_per_face
from fer_core.features.engines.engine import ENGINES, installed
from fer_core.features.engines.quantize import quantized
from fer_core.features.torch_backbone import TorchBackbone
from fer_core.models.base import ClipClassifier, ClipModel, Fits
from fer_core.models.record import EngineRecord
from fer_core.preprocess.faces import Faces

log = logging.getLogger(__name__)

SAMPLE = 64  # faces that float32 engines are compared on, and that int8's ranges are measured on
SLOW_MS = 20.0  # a face; below it, coarser numbers save less than decoding and face detection cost


@dataclass(frozen=True)
class Measured:
    """What was measured of the engines.

    Args:
        records: the engines whose verdicts agree with torch's.
        int8: the int8 graph, if one of them computes it; else empty.
    """

    records: tuple[EngineRecord, ...] = ()
    int8: bytes = b""


def measure_engines(
    table: FeatureTable,
    faces: Sequence[Faces],
    backbone: Backbone,
    classifier: ClipClassifier,
    model: ClipModel,
    train: TrainConfig,
    folds: SearchConfig,
) -> Measured:
    """Compare the verdicts of all installed engines with those of torch.

    Engines that compute in float32 are compared on some training clips by the fitted model. Coarser ones are compared
    only if a face takes 20 ms or more, on all clips and out of fold: models of the same setting are fitted to the
    folds again, and each predicts the clips of its held-out subjects from both kinds of features.

    Args:
        table: the training clips; its features are torch's.
        faces: faces of these clips, in order.
        classifier: the model that was fitted to all clips.
        model, train: its setting.
        folds: number and seed of the folds.
    Raises:
        TrainingError: a fit diverged.
    """
    backbone, names = backbone.on_cpu(), installed()
    exact: list[EngineName] = [name for name in names if ENGINES[name].precision == "float32"]
    if not exact or table.maps or classifier.reads_neutral:
        return Measured()
    records = [_exact(name, table, faces, backbone, classifier) for name in exact]
    size = faces[0].pixels.shape[1]
    ms = min(ms_per_face(backbone.on_engine(name), size) for name in exact)
    found = Measured(tuple(r for r in records if r.allowed))
    network = backbone.network if isinstance(backbone, Mirrored) else backbone
    if ms < SLOW_MS or not isinstance(network, TorchBackbone):
        return found
    return _coarser(found, table, faces, backbone, network, model, train, folds)


def _exact(
    name: EngineName, table: FeatureTable, faces: Sequence[Faces], backbone: Backbone, classifier: ClipClassifier
) -> EngineRecord:
    clips = _some(faces)
    other = _with_features(table, [(int(c), faces[c]) for c in clips], backbone.on_engine(name))
    mine, theirs = (_verdicts(classifier.frame_scores(t, clips), t, clips) for t in (table, other))
    return EngineRecord(name=name, agreement=float((mine == theirs).mean()), clips=len(clips))


def _coarser(
    found: Measured, table: FeatureTable, faces: Sequence[Faces], backbone: Backbone, network: TorchBackbone,
    model: ClipModel, train: TrainConfig, folds: SearchConfig,
) -> Measured:  # fmt: skip
    pixels = np.concatenate([faces[c].pixels for c in _some(faces)])[:SAMPLE]
    batches = [network.normalize(rows).contiguous().numpy() for rows in _batches(pixels)]
    graph = b""
    if "onnxruntime" in installed():
        graph = quantized(network.graph(torch.from_numpy(batches[0])), batches)
    fits, clips = Fits(table), np.arange(table.n_clips)
    records, used = [*found.records], False
    for name in installed():
        precision = ENGINES[name].precision
        if precision == "float32" or (precision == "int8" and not graph):
            continue
        changed = backbone.on_engine(name, graph if precision == "int8" else b"")
        other = _with_features(table, enumerate(faces), changed)
        scores = [np.full((len(table.features), len(table.classes)), np.nan, np.float32) for _ in range(2)]
        for fitted_to, held_out in grouped_folds(table.subjects, table.labels, folds.folds, folds.seed):
            side = hold_out(table, fitted_to, train.inner_share, folds.seed, train.seed)
            for of, on in zip(scores, (table, other), strict=True):
                of[table.frames_of(held_out)] = fit_fold(model, fits, side, held_out, on=on, frames=True)[0]
        mine, theirs = (_verdicts(of, table, clips) for of in scores)
        recalls = [mean_recall(v, table.labels, len(table.classes)) for v in (mine, theirs)]
        record = EngineRecord(
            name=name, agreement=float((mine == theirs).mean()), clips=len(clips), recall_loss=recalls[0] - recalls[1]
        )
        log.info("%s", record.words)
        if record.allowed:
            records.append(record)
            used |= precision == "int8"
    return Measured(tuple(records), graph if used else b"")


def _some(faces: Sequence[Faces]) -> np.ndarray:
    """Return positions of clips, evenly spaced, that have about `SAMPLE` faces together."""
    mean = sum(len(of.pixels) for of in faces) / len(faces)
    n = min(len(faces), max(1, round(SAMPLE / mean)))
    return np.unique(np.linspace(0, len(faces) - 1, n).astype(int))


def _batches(pixels: np.ndarray) -> Iterable[np.ndarray]:
    """Yield full batches of faces; the last one begins earlier if it would not be full."""
    for start in range(0, len(pixels), BATCH):
        rows = pixels[start : start + BATCH]
        yield np.concatenate([rows, pixels[: BATCH - len(rows)]]) if len(rows) < BATCH else rows


def _with_features(table: FeatureTable, faces: Iterable[tuple[int, Faces]], backbone: Backbone) -> FeatureTable:
    """Return the table with the features of some clips computed by another backbone."""
    features = table.features.clone()
    for clip, of in faces:
        features[table.offsets[clip] : table.offsets[clip + 1]] = torch.from_numpy(backbone.features(of.pixels))
    return replace(table, features=features)


def _verdicts(scores: np.ndarray, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
    offsets = np.concatenate([[0], np.cumsum(table.lengths[clips])])
    return clip_verdicts(scores, offsets, np.arange(len(clips)), "mean_scores")[0]
