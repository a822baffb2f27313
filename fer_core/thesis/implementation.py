"""Run an implementation of the thesis like the thesis: train, stop early on the validation clips, and test once.

The result is not a candidate: nothing is searched, cross-validated, calibrated or registered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Split
from fer_core.config import PRESETS, RunConfig, load_config
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.table import FeatureTable
from fer_core.emotions import SIX
from fer_core.errors import ConfigError, RegistryError
from fer_core.evaluation.metrics import RULES, Evaluation
from fer_core.experiments.search.space import THESIS_SETTINGS
from fer_core.experiments.test_set import evaluate_on_test_set, test_clips
from fer_core.features.backbone import Backbone
from fer_core.features.store import FeatureStore
from fer_core.models.bundle import ModelBundle, read_bundle, training_subjects, write_bundle
from fer_core.models.fc_head import HeadClassifier
from fer_core.models.record import ModelFacts
from fer_core.runtime import describe_environment
from fer_core.thesis.holdout_fit import MODEL, HoldoutSplit, drop_head, fit_holdout, head_of, holdout_split
from fer_core.thesis.reproduction import DataFacts, Outcome, Reproduction
from fer_core.workspace import Workspace

log = logging.getLogger(__name__)

SETTINGS = tuple(THESIS_SETTINGS)
_NOT_ITS = ("epochs", "seed", "device", "threads")  # not defined by the thesis, or shown separately on the page
_OF_THE_RUN = ("workspace", "manifest", "preprocess", "limits", "search", "tracking")


def configure(
    number: int,
    base: RunConfig,
    setting: str = SETTINGS[0],
    *,
    fixed_epochs: bool = False,
    shrink: int = 1,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Return the settings of implementation `number`: the packaged file, then `setting`, then the overrides.

    Args:
        base: settings that the thesis does not define: workspace, manifest, preprocessing, limits, folds, tracking.
        setting: `table-4.1` or `section-4.2.2`.
        fixed_epochs: train for the thesis's number of epochs instead of stopping by its rule.
        shrink: divide the FC widths by this number, for machines that are too small for 4096.
        overrides: `train.…=…`, `backbone.…=…` and `split.…=…`, for all implementations.
    Raises:
        ConfigError: there is no such number or setting, or an override is invalid.
    """
    if f"thesis-{number}" not in PRESETS or setting not in THESIS_SETTINGS or shrink < 1:
        raise ConfigError(
            f"the thesis has implementations 1 to 4 and settings {', '.join(SETTINGS)}, and widths shrink by 1 or "
            f"more; got {number}, {setting}, {shrink}"
        )
    lines = [f"train.{name}={value}" for name, value in THESIS_SETTINGS[setting].items()]
    lines += ["train.stopping=never"] * fixed_epochs
    config = load_config(PRESETS[f"thesis-{number}"], [*lines, *overrides])
    if config.train.model != "head":
        raise ConfigError(f"train.model is '{config.train.model}'; the thesis's implementations are FC heads (§4.2)")
    if config.train.transfer != "frozen":
        raise ConfigError("train.transfer is not 'frozen'; the thesis trains FC layers only (§4.2.1)")
    if config.train.relative != "none":
        raise ConfigError("train.relative is not 'none'; the thesis's heads read each frame alone (§4.2)")
    widths = tuple(max(width // shrink, 1) for width in config.train.widths)
    train = config.train.model_copy(update={"widths": widths})
    return config.model_copy(update={"train": train} | {name: getattr(base, name) for name in _OF_THE_RUN})


def model_of(folder: Path, table: FeatureTable, backbone: Backbone, cfg: RunConfig) -> ModelBundle:
    """Write the model of a complete fit in two files, and remove its separate head file."""
    if (folder / MODEL).is_dir():
        try:
            return read_bundle(folder / MODEL, device=backbone.device)
        except RegistryError as exc:  # left by a killed run
            log.warning("the model is written again (%s)", exc)
    facts = ModelFacts(
        classes=table.classes,
        preprocess=cfg.preprocess,
        subjects=training_subjects(table.subjects),
        data_fingerprint=table.note["fingerprint"],
        synthetic=table.synthetic,
        versions=describe_environment(),
    )
    head = HeadClassifier(head_of(folder, table, cfg.train))
    bundle = write_bundle(folder / MODEL, head, backbone, facts)
    drop_head(folder)
    return bundle


def run_implementation(
    number: int,
    cfg: RunConfig,
    table: FeatureTable,
    dataset: Dataset,
    backbone: Backbone,
    workspace: Workspace,
    executor: Executor,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Outcome, ModelBundle | None]:
    """Train and test an implementation. If it cannot be trained, the outcome contains the reason.

    Args:
        cfg: see `configure`.
        table: train and validation clips.
        dataset: all clips, with those of the test set.
    Raises:
        DataError: the table contains a subject or clip of the test set.
        StoreError: the files cannot be written.
    """
    sides = holdout_split(table, dataset.manifest, cfg.train)
    parent, table_path = workspace.root / "implementations", FeatureStore(workspace.store).tables.path(table.key)
    fc = FeatureStore(workspace.store).store_fc(backbone)
    result, folder = fit_holdout(parent, table, table_path, sides, cfg.train, executor, fc, progress)
    outcome = Outcome(
        number=number, train=cfg.train, history=result.epochs, pretrained=result.pretrained,
        n_weights=result.n_weights, threads=result.threads, device=result.device, reason=result.reason,
    )  # fmt: skip
    if result.state == "failed":
        return outcome, None
    bundle = model_of(folder, table, backbone, cfg)
    digests = {row.clip: row.digest for row in dataset.usable}
    seen = {digests[c] for c in table.clip_ids}
    opening = evaluate_on_test_set(bundle, dataset.manifest, dataset.usable, cfg.preprocess, workspace, seen)
    if opening is None:
        return replace(outcome, reason="there are no test clips"), bundle
    _, chosen = test_clips(dataset.manifest, dataset.usable)
    given = {rule: opening.evaluations[rule]["verdicts"] for rule in RULES}
    return replace(
        outcome,
        tests={rule: Evaluation.from_json(opening.evaluations[rule]) for rule in RULES},
        verdicts={rule: np.array([given[rule][row.digest] for row in chosen]) for rule in RULES},
        opening=opening.number,
        openings=opening.openings,
    ), bundle


def reproduction_of(
    outcomes: Sequence[Outcome],
    cfg: RunConfig,
    table: FeatureTable,
    dataset: Dataset,
    backbone: Backbone,
    *,
    setting: str,
    fixed_epochs: bool,
    shrink: int,
    own_split: bool,
) -> Reproduction:
    """Combine the outcomes of implementations on the same clips with the facts that the page shows.

    Args:
        cfg: settings of any of them.
        own_split: True if the manifest has a split column.
    """
    test, _ = test_clips(dataset.manifest, dataset.usable)
    sides = holdout_split(table, dataset.manifest, cfg.train)
    own = [configure(o.number, cfg, setting, fixed_epochs=fixed_epochs, shrink=shrink).train for o in outcomes]
    return Reproduction(
        setting=setting,
        changed=tuple(
            name
            for name in type(cfg.train).model_fields
            if name not in _NOT_ITS
            and any(getattr(o.train, name) != getattr(t, name) for o, t in zip(outcomes, own, strict=True))
        ),
        fixed_epochs=fixed_epochs,
        shrink=shrink,
        outcomes=tuple(outcomes),
        labels=test.labels(),
        subjects=[clip.subject for clip in test.clips],
        data=_data_facts(dataset, table, sides, own_split),
        preprocess=cfg.preprocess,
        split=cfg.split,
        backbone=cfg.backbone,
        normalization=backbone.normalization,
        environment=describe_environment(),
    )


def _data_facts(dataset: Dataset, table: FeatureTable, sides: HoldoutSplit, own_split: bool) -> DataFacts:
    manifest, usable = dataset.manifest, {row.clip for row in dataset.usable}
    members = {side: [c for c in manifest.of(side).clips if c.id in usable] for side in Split}
    frames = np.bincount(table.frame_labels()[table.frames_of(sides.fit)], minlength=len(SIX))
    return DataFacts(
        fingerprint=table.note["fingerprint"],
        datasets=manifest.datasets,
        synthetic=manifest.synthetic,
        clips={side: tuple(sum(c.emotion == e for c in clips) for e in SIX) for side, clips in members.items()},
        people={side: len({c.subject for c in clips}) for side, clips in members.items()},
        frames=tuple(frames.tolist()),
        own_split=own_split,
        stopped_on=sides.stopped_on,
    )
