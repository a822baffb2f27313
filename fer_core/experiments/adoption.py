"""Make a model for the registry from pretrained emotion networks, and evaluate it on labelled clips if there are
any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fer_core.config import BackboneConfig, OnnxConfig, RunConfig
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.table import FeatureRequirements, FeatureTable
from fer_core.dataset.training_table import training_table
from fer_core.emotions import NAMED, Classes
from fer_core.errors import ConfigError
from fer_core.evaluation.calibration import Reliability, calibrated_apart, reliability
from fer_core.evaluation.gate import OutOfFoldRecord
from fer_core.evaluation.latency import measure_latency, ms_per_clip
from fer_core.evaluation.metrics import Evaluation, clip_verdicts, evaluate
from fer_core.features.backbone import Backbone
from fer_core.features.load_backbone import load_backbone
from fer_core.model_names import FACE_NETWORKS
from fer_core.models.adopted import AdoptedClassifier, AdoptedRecord
from fer_core.models.bundle import ModelBundle, subject_digest, write_bundle
from fer_core.models.record import ModelFacts
from fer_core.models.temperature import fit_temperature
from fer_core.runtime import describe_environment
from fer_core.store import cache_key
from fer_core.workspace import Workspace

Relative = Literal["none", "neutral"]


@dataclass(frozen=True)
class AdoptedEvaluation:
    """Evaluation of an adopted model on all labelled clips. The model was not trained on them.

    Args:
        table: the labelled clips.
        fingerprint: fingerprint of these clips.
        scores: (N, k) frame scores.
        evaluation: of the predictions by mean scores.
        ms_per_clip: latency in ms of CPU time per clip, from stored faces to scores.
        temperature: temperature of the clip scores.
        after: reliability of the clip scores, each calibrated on clips of other subjects.
        record: the record for the gate. It, `temperature` and `after` are None if all clips have one class or subject.
    """

    table: FeatureTable
    fingerprint: str
    scores: np.ndarray
    evaluation: Evaluation
    ms_per_clip: float
    temperature: float | None = None
    after: Reliability | None = None
    record: OutOfFoldRecord | None = None


def adopted_backbone(networks: str, onnx: OnnxConfig | None = None) -> Backbone:
    """Load networks with their own classifiers, by `NAME[+NAME...]` or `FILE.onnx`.

    Args:
        onnx: input and output settings of the network in an ONNX file.
    Raises:
        ConfigError: a name is unknown or given twice, or settings of the ONNX file are missing.
        WeightsError: the weights were not fetched, or the file cannot be used.
    """
    if networks.endswith(".onnx"):
        if onnx is None or not onnx.scores:
            raise ConfigError(
                f"an ONNX file does not contain its settings; for {networks} set backbone.onnx.size, mean, std, scores "
                "(name of the output) and classes (in the order of the output)"
            )
        return load_backbone(BackboneConfig(name="onnx", weights=networks, onnx=onnx), output="classes")
    names = tuple(networks.split("+"))
    if unknown := [name for name in names if name not in FACE_NETWORKS]:
        raise ConfigError(
            f"'{unknown[0]}' cannot be adopted; networks with classes of their own: {', '.join(FACE_NETWORKS)}; "
            "or name an .onnx file"
        )
    if len(set(names)) != len(names):
        raise ConfigError(f"'{networks}' names a network twice")
    cfg = BackboneConfig(names=names, mirror="none") if len(names) > 1 else BackboneConfig(name=names[0], mirror="none")
    return load_backbone(cfg, output="classes")


def adopted_classes(cfg: RunConfig) -> Classes:
    """Return the classes of the settings.

    Raises:
        ConfigError: the networks do not have these classes.
    """
    if not isinstance(cfg.classes, str) or cfg.classes not in NAMED:
        raise ConfigError(f"adopted networks predict the classes {' or '.join(NAMED)}; set classes to one of these")
    return NAMED[cfg.classes]


def adopted_classifier(backbone: Backbone, relative: Relative, cfg: RunConfig) -> AdoptedClassifier:
    """Build the classifier that combines the networks and predicts the classes of the settings."""
    record = AdoptedRecord(n_features=backbone.n_features, networks=len(backbone.parts), relative=relative)
    return AdoptedClassifier.build(record, {}, len(adopted_classes(cfg)))


def evaluate_adopted(
    classifier: AdoptedClassifier,
    backbone: Backbone,
    dataset: Dataset,
    cfg: RunConfig,
    workspace: Workspace,
) -> AdoptedEvaluation:
    """Evaluate the model on all labelled clips.

    Args:
        dataset: the clips; their faces are stored.
        cfg: all settings; `preprocess` must be what the faces were made with.
    """
    rows, fingerprint = dataset.usable, dataset.fingerprint
    table = training_table(dataset, backbone, cfg.preprocess, workspace, every_clip=True)
    clips = np.arange(table.n_clips)
    scores = classifier.frame_scores(table, clips)
    verdicts, shares = clip_verdicts(scores, table.offsets, clips, "mean_scores")
    evaluation = evaluate(verdicts, table.labels, table.subjects, table.classes)
    ms = ms_per_clip(classifier, table, clips, measure_latency(rows, (), workspace, backbone, FeatureRequirements()))
    evaluated = AdoptedEvaluation(table, fingerprint, scores, evaluation, ms)
    if len(set(table.labels.tolist())) < 2 or len(set(table.subjects)) < 2:
        return evaluated
    after = reliability(calibrated_apart(shares, table.labels, table.subjects), table.labels)
    digests = {row.clip: row.digest for row in rows}
    record = OutOfFoldRecord(
        fingerprint=fingerprint,
        classes=table.classes,
        clips=tuple(digests[c] for c in table.clip_ids),
        labels=tuple(table.labels.tolist()),
        subjects=tuple(map(subject_digest, table.subjects)),
        verdicts=tuple(verdicts.tolist()),
        calibration_error=after.expected_error,
        ms_per_clip=ms,
    )
    return replace(evaluated, temperature=fit_temperature(shares, table.labels), after=after, record=record)


def write_adopted(
    classifier: AdoptedClassifier,
    backbone: Backbone,
    evaluated: AdoptedEvaluation | None,
    cfg: RunConfig,
    workspace: Workspace,
) -> tuple[ModelBundle, Path]:
    """Write the model's two files; return the model and its folder.

    Args:
        evaluated: evaluation on labelled clips; None: the model is not calibrated.
    Raises:
        StoreError: the files cannot be written.
    """
    facts = ModelFacts(
        model="adopted",
        classes=adopted_classes(cfg),
        preprocess=cfg.preprocess,
        temperatures={"mean_scores": evaluated.temperature} if evaluated and evaluated.temperature else {},
        abstain_below=cfg.score.abstain_below,
        data_fingerprint=evaluated.fingerprint if evaluated else "",
        synthetic=False,
        versions=describe_environment(),
    )
    name = cache_key(facts=facts.model_dump(mode="json"), networks=backbone.identity, of=classifier.record.model_dump())
    folder = workspace.models / name[:12]
    return write_bundle(folder, classifier, backbone, facts), folder
