"""A candidate: the selected settings refitted on all training subjects, calibrated, saved, and tested once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fer_core.clips.manifest import Manifest
from fer_core.config import Rule, RunConfig
from fer_core.dataset.table import FeatureTable
from fer_core.evaluation.calibration import Reliability, calibrated_apart, reliability
from fer_core.evaluation.frame_budget import frame_budget
from fer_core.evaluation.gate import OutOfFoldRecord
from fer_core.evaluation.lockbox import Opening
from fer_core.evaluation.metrics import Evaluation, clip_verdicts, evaluate
from fer_core.experiments.engines import Measured, measure_engines
from fer_core.experiments.search.study import refit
from fer_core.experiments.search.trial import TrialResult, out_of_fold_scores, read_spec
from fer_core.experiments.test_set import evaluate_on_test_set
from fer_core.features.backbone import Backbone
from fer_core.features.store import FeatureStore
from fer_core.features.torch_backbone import one_network, tuned
from fer_core.models.base import Fitted
from fer_core.models.bundle import ModelBundle, subject_digest, training_subjects, write_bundle
from fer_core.models.record import FrameBudget, ModelFacts
from fer_core.models.registry import model_of
from fer_core.models.temperature import fit_temperature
from fer_core.preprocess.clip_rows import ClipRow, stored_faces
from fer_core.runtime import describe_environment
from fer_core.store import cache_key
from fer_core.workspace import Workspace

CLIP_RULE: Rule = "mean_scores"  # better than majority vote in all four implementations of the thesis (§4.3-4.6)


@dataclass(frozen=True)
class OutOfFold:
    """Out-of-fold results: each clip is predicted by a model that was not trained on its subject.

    Args:
        evaluations: rule -> evaluation.
        verdicts: (C,) predicted classes by mean scores, in the order of the table.
        temperatures: rule -> temperature of its clip scores.
        before: reliability of the uncalibrated clip scores by mean scores.
        after: reliability of these scores, each calibrated on clips of other subjects.
        budget: the frame budget of the frame scores by mean scores; None: all frames are needed.
    """

    evaluations: Mapping[Rule, Evaluation]
    verdicts: np.ndarray
    temperatures: Mapping[Rule, float]
    before: Reliability
    after: Reliability
    budget: FrameBudget | None


@dataclass(frozen=True)
class Candidate:
    """A model that could become champion.

    Args:
        folder: folder of the model's two files.
        bundle: the model, read from `folder` and checked.
        fitted: the refit.
        out_of_fold: out-of-fold results of the same settings.
        record: the out-of-fold record, which the gate compares.
        test: the test result; None if there is no test set.
    """

    folder: Path
    bundle: ModelBundle
    fitted: Fitted
    out_of_fold: OutOfFold
    record: OutOfFoldRecord
    test: Opening | None


def evaluate_out_of_fold(table: FeatureTable, trial_folder: Path) -> OutOfFold:
    """Evaluate and calibrate the out-of-fold scores of a complete trial."""
    scores, clips = out_of_fold_scores(trial_folder), np.arange(table.n_clips)
    evaluations: dict[Rule, Evaluation] = {}
    temperatures: dict[Rule, float] = {}
    for rule in read_spec(trial_folder).train.rules:
        verdicts, shares = clip_verdicts(scores, table.offsets, clips, rule)
        evaluations[rule] = evaluate(verdicts, table.labels, table.subjects, table.classes)
        temperatures[rule] = fit_temperature(shares, table.labels)
        if rule == CLIP_RULE:
            own, calibrated = verdicts, calibrated_apart(shares, table.labels, table.subjects)
            before, after = reliability(shares, table.labels), reliability(calibrated, table.labels)
    budget = frame_budget(scores, table.offsets, CLIP_RULE)
    return OutOfFold(evaluations, own, temperatures, before, after, budget)


def make_candidate(
    table: FeatureTable,
    trial: TrialResult,
    trial_folder: Path,
    backbone: Backbone | None,
    manifest: Manifest,
    rows: Sequence[ClipRow],
    cfg: RunConfig,
    workspace: Workspace,
    course: Sequence[ClipRow] = (),
) -> Candidate:
    """Refit a trial, calibrate it on out-of-fold scores, write the model's two files, and open the lockbox.

    Args:
        table: train and validation clips.
        trial: a complete trial on this table.
        backbone: required if the model reads features.
        rows: rows of the usable clips, with those of the test set.
        course: rows of the same clips' whole-course faces, if the model reads them.
    Raises:
        TrainingError: the refit diverged.
        StoreError: the files cannot be written.
        DataError: the table contains a subject or clip of the test set.
    """
    judged = evaluate_out_of_fold(table, trial_folder)
    name = cache_key(table=table.key, train=trial.train.model_dump(mode="json"), selected=list(trial.selected))[:12]
    folder = workspace.models / name
    fitted, bundle = refit_model(table, trial, judged, backbone, rows, cfg, folder, workspace)
    digests = {row.clip: row.digest for row in rows}
    record = OutOfFoldRecord(
        fingerprint=bundle.facts.data_fingerprint,
        classes=table.classes,
        clips=tuple(digests[c] for c in table.clip_ids),
        labels=tuple(table.labels.tolist()),
        subjects=tuple(map(subject_digest, table.subjects)),
        verdicts=tuple(judged.verdicts.tolist()),
        calibration_error=judged.after.expected_error,
        ms_per_clip=trial.ms_per_clip,
    )
    tested = evaluate_on_test_set(bundle, manifest, rows, cfg.preprocess, workspace, record.clips, course)
    return Candidate(folder, bundle, fitted, judged, record, tested)


def refit_model(
    table: FeatureTable,
    trial: TrialResult,
    judged: OutOfFold,
    backbone: Backbone | None,
    rows: Sequence[ClipRow],
    cfg: RunConfig,
    folder: Path,
    workspace: Workspace,
) -> tuple[Fitted, ModelBundle]:
    """Refit the trial's settings on all clips of the table, compare engines, and save the model in `folder`.

    Args:
        rows: rows of the usable clips.
    Raises:
        DataError: the faces of a clip are not in the store any more.
        TrainingError: the refit diverged.
        StoreError: the files cannot be written.
    """
    fc, block = FeatureStore(workspace.store).stored_layers(backbone, block=bool(table.maps))
    fitted = refit(table, trial, fc, block)
    if backbone is not None and fitted.classifier.block is not None:
        backbone = tuned(one_network(backbone), fitted.classifier.block.state_dict())
    measured = Measured()
    if backbone is not None and fitted.classifier.reads_features and cfg.score.engine != "torch":
        by_clip = {row.clip: row for row in rows}
        faces = [*stored_faces((by_clip[clip] for clip in table.clip_ids), workspace.store)]
        model, folds = model_of(trial.train, fc=fc, block=block), cfg.search
        measured = measure_engines(table, faces, backbone, fitted.classifier, model, trial.train, folds)
    facts = ModelFacts(
        model=trial.train.model,
        classes=table.classes,
        preprocess=cfg.preprocess,
        budget=judged.budget if fitted.classifier.scores_frames else None,
        engines=measured.records,
        rule=CLIP_RULE,
        temperatures=dict(judged.temperatures),
        abstain_below=cfg.score.abstain_below,
        subjects=training_subjects(table.subjects),
        data_fingerprint=table.note["fingerprint"],
        synthetic=table.synthetic,
        versions=describe_environment(),
    )
    return fitted, write_bundle(folder, fitted.classifier, backbone, facts, measured.int8)
