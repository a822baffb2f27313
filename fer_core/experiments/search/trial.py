"""One trial: cross-validation of some settings, grouped by subject, in its own process and folder.

The folder contains `trial.json` (specification), `progress.jsonl` (the value after each fold), `epochs.jsonl` (the
epochs, as they end), `fold-*.safetensors` (out-of-fold scores and histories), `result.json` and `scores.safetensors`. A
killed trial resumes from these files.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fer_core.clips.splits import grouped_folds
from fer_core.config import BackboneConfig, Rule, Settings, TrainConfig
from fer_core.dataset.table import FeatureTable, load_table
from fer_core.errors import ConfigError, StoreError, TrainingError
from fer_core.evaluation.cross_validation import Fold, FoldFile, fit_fold, hold_out
from fer_core.evaluation.metrics import clip_verdicts, evaluate, mean_recall, paired_difference
from fer_core.models.base import Fits
from fer_core.models.registry import model_of
from fer_core.store import publish, read_note, sweep, write_atomic
from fer_core.training.history import Epoch, History
from fer_core.workspace import TRIAL_SPEC

log = logging.getLogger(__name__)

Job = Callable[[Path], "TrialResult"]  # runs the trial in a folder
OBJECTIVE: Literal["mean_scores"] = "mean_scores"  # trials are compared by this rule; all rules are reported
AVERAGE_NUMBER = -1  # number of the average of a search's finalists, which is no trial of Optuna's
SINGLE = "single setting"  # name of the study of a setting that is cross-validated alone
EPOCHS = "epochs.jsonl"
PRUNED_FROM = 2  # folds; after only one, even the best trial is too often in the worse half


class TrialSpec(Settings):
    """Specification of a trial; the coordinator writes it, the child process reads it.

    `searched`: the drawn parameters, by Optuna's names. `best`: folder of the complete trial that this one is pruned
    against; None: it is not pruned. `backbone`: that of the features in `table`, if backbones are searched; None: that
    of the run.
    """

    number: int = Field(ge=AVERAGE_NUMBER)
    study: str
    preset: str = ""
    searched: dict[str, Any] = Field(default_factory=dict)
    train: TrainConfig
    table: Path
    fc: Path | None = None
    block: Path | None = None
    latency: dict[str, float] = Field(default_factory=dict)
    folds: int = Field(ge=2)
    seed: int = Field(ge=0)
    parent_run: str = ""
    best: Path | None = None
    backbone: BackboneConfig | None = None

    @property
    def backbone_label(self) -> str:
        return self.backbone.label if self.backbone else ""


class TrialResult(Settings):
    """Result of a trial.

    State `complete`: evaluated on all folds; `pruned`: stopped after some folds; `failed`: a fit failed. `reason`: why
    it was pruned or failed. `selected`: the values that each fold selected; see `models.base.Fitted`. `backbone`: label
    of its backbone, if backbones are searched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=True, ser_json_inf_nan="strings")

    number: int
    state: Literal["complete", "pruned", "failed"]
    train: TrainConfig
    preset: str = ""
    backbone: str = ""
    reason: str = ""
    value: float = float("nan")
    evaluations: dict[str, dict[str, Any]] = Field(default_factory=dict)
    selected: tuple[dict[str, float], ...] = ()
    best_epochs: tuple[int, ...] = ()
    n_weights: int = 0
    ms_per_clip: float = float("nan")
    pretrained: tuple[int, ...] = ()
    threads: int = 0
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """The trial's name in a sentence."""
        return f"the {self.preset}" if self.number == AVERAGE_NUMBER else f"trial {self.number}"


def write_spec(folder: Path, spec: TrialSpec) -> None:
    """Write the specification of the trial in `folder`.

    Half-written files of a killed process are removed. If the folder holds a trial with other settings or folds, all of
    its files are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    before = read_note(folder / TRIAL_SPEC, TrialSpec)
    if before and _decides(before) != _decides(spec):
        log.warning("%s holds a trial with other settings; its files are removed", folder)
        shutil.rmtree(folder)
    write_atomic(folder / TRIAL_SPEC, spec.model_dump_json(indent=1).encode())


def _decides(spec: TrialSpec) -> tuple[Any, ...]:
    return spec.train.model_dump(exclude={"device"}), spec.folds, spec.seed, spec.backbone


def read_spec(folder: Path) -> TrialSpec:
    """Read the specification of the trial in `folder`.

    Raises:
        StoreError: there is no specification, or it cannot be read.
    """
    spec = read_note(folder / TRIAL_SPEC, TrialSpec)
    if spec is None:
        raise StoreError(f"{folder} holds no readable trial.json; run the same search again, which writes it")
    return spec


def read_result(folder: Path) -> TrialResult | None:
    """Read the trial's result; None if there is none or it cannot be read."""
    return read_note(folder / "result.json", TrialResult)


def whole_result(folder: Path) -> TrialResult | None:
    """Read the trial's result; None if it, its setting or its scores cannot be read, so that it must run again."""
    result = read_result(folder)
    if result is None or result.state == "failed":
        return result
    try:
        read_spec(folder)
        out_of_fold_scores(folder)
    except StoreError as exc:
        log.warning("%s", exc)
        return None
    return result


def complete_result(folder: Path) -> TrialResult:
    """Read the result of a complete trial.

    Raises:
        ConfigError: the trial has not ended, was pruned or failed, or the folder is not that of a trial.
    """
    result = read_result(folder)
    if result is None or result.state != "complete":
        state = "holds no finished trial" if result is None else f"is of a trial that is {result.state}"
        raise ConfigError(f"{folder} {state}; name the folder of a complete one, or none to use the train settings")
    return result


def fold_values(folder: Path) -> list[float]:
    """Return the objective after each finished fold, computed on the clips of all folds up to this one."""
    path = folder / "progress.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]  # the last line may be half written
    return list({row["fold"]: row["value"] for row in rows if "value" in row}.values())


def note_epoch(folder: Path, fold: int, epoch: Epoch) -> None:
    """Add an epoch to those that `epochs_of` returns."""
    _append(folder / EPOCHS, {"fold": fold, **asdict(epoch)})


def epochs_of(folder: Path) -> dict[tuple[int, int], Epoch]:
    """Return (fold, number) -> epoch of all epochs that have ended.

    A killed trial repeats the epochs after its last checkpoint; those that ended first are returned, with their times.
    """
    path = folder / EPOCHS
    found: dict[tuple[int, int], Epoch] = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:  # an empty line, or one that was half written when its process was killed
            continue
        fold, epoch = row.pop("fold"), Epoch(**row)
        found.setdefault((fold, epoch.number), epoch)
    return found


def run_trial(folder: Path) -> TrialResult:
    """Run the trial in `folder`: cross-validate its settings and write the result there. A child process calls this.

    In each fold, early stopping uses some of the training subjects, never the held-out clips.
    """
    started = time.monotonic()
    spec = read_spec(folder)
    table = load_table(spec.table)
    progress = folder / "progress.jsonl"
    progress.unlink(missing_ok=True)
    scores = np.full((len(table.features), len(table.classes)), np.nan, dtype=np.float32)
    judged: list[int] = []
    details: list[dict[str, Any]] = []
    behind = ""
    try:
        folds = grouped_folds(table.subjects, table.labels, spec.folds, spec.seed)
        for fold, (train, held_out) in enumerate(folds):
            rows = table.frames_of(held_out)
            scores[rows], detail = _fold(folder, spec, table, fold, train, held_out)
            details.append(detail)
            judged += held_out.tolist()
            verdicts, _ = clip_verdicts(scores, table.offsets, np.array(judged), OBJECTIVE)
            value = mean_recall(verdicts, table.labels[judged], len(table.classes))
            _append(progress, {"fold": fold, "value": value})
            if spec.best and PRUNED_FROM <= fold + 1 < len(folds):
                behind = _behind(spec.best, verdicts, np.array(judged), table)
                if behind:
                    break
    except (TrainingError, torch.OutOfMemoryError) as exc:
        result = TrialResult(
            number=spec.number, state="failed", train=spec.train, preset=spec.preset, backbone=spec.backbone_label,
            reason=str(exc), seconds=time.monotonic() - started,
        )  # fmt: skip
    else:
        result = TrialResult(
            number=spec.number,
            state="pruned" if behind else "complete",
            train=spec.train,
            preset=spec.preset,
            backbone=spec.backbone_label,
            reason=behind,
            value=value,
            evaluations=evaluations_of(table, scores, sorted(judged), spec.train.rules),
            selected=tuple(d["selected"] for d in details),
            best_epochs=tuple(d["best_epoch"] for d in details),
            n_weights=details[0]["n_weights"],
            ms_per_clip=float(np.median([d["ms"] for d in details])),
            pretrained=tuple(details[0]["pretrained"]),
            threads=details[0]["threads"],
            seconds=time.monotonic() - started,
        )
        write_scores(folder, scores)
    write_atomic(folder / "result.json", result.model_dump_json(indent=1).encode())
    return result


def _behind(best: Path, verdicts: np.ndarray, judged: np.ndarray, table: FeatureTable) -> str:
    """Return the reason to prune the trial; empty if it may still be the best.

    A trial is pruned if it is worse than the best trial on the clips evaluated so far: the whole 95 % interval of their
    paired difference is below 0.

    Args:
        best: folder of the best trial.
        verdicts: (n,) predicted classes of the clips evaluated so far.
        judged: (n,) positions of these clips in the table.
    """
    theirs, _ = clip_verdicts(out_of_fold_scores(best), table.offsets, judged, OBJECTIVE)
    subjects = [table.subjects[c] for c in judged]
    d = paired_difference(verdicts, theirs, table.labels[judged], subjects, len(table.classes))
    if d.high >= 0:
        return ""
    return (
        f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}] against {best.name} on the "
        f"{len(set(subjects))} people evaluated so far"
    )


def out_of_fold_scores(folder: Path) -> np.ndarray:
    """Read the (N, k) float32 out-of-fold frame scores of a finished trial.

    Raises:
        StoreError: the file is missing or damaged.
    """
    path = folder / "scores.safetensors"
    try:
        return load_file(path)["scores"]
    except (OSError, SafetensorError, KeyError) as exc:
        raise StoreError(f"cannot read {path} ({exc}); run the same search or training again") from exc


def histories(folder: Path) -> list[History]:
    """Read the histories of the trial's finished folds, in order."""
    found = [FoldFile(path).get() for path in sorted(folder.glob("fold-*.safetensors"))]
    return [History.from_rows(fold[1]["history"]) for fold in found if fold]


def _fold(
    folder: Path, spec: TrialSpec, table: FeatureTable, fold: int, train: np.ndarray, held_out: np.ndarray
) -> Fold:
    """Return the frame scores of the held-out clips and the note of the fit; a finished fold is read from its file."""

    def on_epoch(epoch: Epoch) -> bool:
        note_epoch(folder, fold, epoch)
        return False

    return fit_fold(
        model_of(spec.train, fc=spec.fc, block=spec.block),
        Fits(table, checkpoint=folder / f"checkpoint-{fold:02d}", on_epoch=on_epoch),
        hold_out(table, train, spec.train.inner_share, spec.seed, spec.train.seed),
        held_out, frames=True, latency=spec.latency, kept=FoldFile(folder / f"fold-{fold:02d}.safetensors"),
    )  # fmt: skip


def evaluations_of(
    table: FeatureTable, scores: np.ndarray, clips: Sequence[int] | np.ndarray, rules: Sequence[Rule]
) -> dict[str, dict[str, Any]]:
    """Return rule -> evaluation of the out-of-fold scores of some clips, as JSON-able values."""
    places = np.array(clips)
    subjects = [table.subjects[c] for c in clips]
    found: dict[str, dict[str, Any]] = {}
    for rule in rules:
        verdicts, _ = clip_verdicts(scores, table.offsets, places, rule)
        found[rule] = evaluate(verdicts, table.labels[places], subjects, table.classes).to_json()
    return found


def write_scores(folder: Path, scores: np.ndarray) -> None:
    """Write the (N, k) out-of-fold frame scores of a trial, which `out_of_fold_scores` reads."""
    with publish(folder / "scores.safetensors") as temporary:
        save_file({"scores": scores}, temporary)


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(f"\n{json.dumps(row)}")  # the line before may be half written
