"""The gate: checks that a new model must pass before it replaces the champion.

It checks minimum values, and compares both models on the same clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from fer_core.config import PromoteConfig
from fer_core.emotions import Classes
from fer_core.errors import DataError
from fer_core.evaluation.metrics import Difference, Evaluation, evaluate, paired_difference

FEWEST_SUBJECTS = 20  # minimum for a comparison if only part of the clips is shared


@dataclass(frozen=True)
class OutOfFoldRecord:
    """Out-of-fold predictions of a model for every clip, which the gate compares.

    Each clip is predicted by a fit without the clip's subject.

    Args:
        fingerprint: fingerprint of the data.
        classes: emotions, in column order.
        clips: content digest of each clip.
        labels, verdicts: true and predicted class of each clip, as indices in `classes`.
        subjects: digest of each clip's subject.
        calibration_error: expected calibration error of the calibrated scores.
        ms_per_clip: latency in ms of CPU time per clip, from stored faces to scores; NaN if unknown.
    Raises:
        DataError: the lists differ in length, or are empty.
    """

    fingerprint: str
    classes: Classes
    clips: tuple[str, ...]
    labels: tuple[int, ...]
    subjects: tuple[str, ...]
    verdicts: tuple[int, ...]
    calibration_error: float
    ms_per_clip: float = float("nan")

    def __post_init__(self) -> None:
        lengths = {len(self.clips), len(self.labels), len(self.subjects), len(self.verdicts)}
        if len(lengths) != 1 or not self.clips:
            raise DataError(f"out-of-fold lists have lengths {sorted(lengths)}; they need one equal length, at least 1")

    def evaluation(self) -> Evaluation:
        """Evaluate the predictions on all clips."""
        return evaluate(np.array(self.verdicts), np.array(self.labels), self.subjects, self.classes)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able values; NaN becomes None."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["classes"] = [str(c) for c in self.classes]
        values["ms_per_clip"] = None if np.isnan(self.ms_per_clip) else self.ms_per_clip
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> OutOfFoldRecord:
        """Read the data of `to_json`. Raises DataError if it is not an out-of-fold record."""
        try:
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
            values["classes"] = tuple(data["classes"])
            values["ms_per_clip"] = float("nan") if data["ms_per_clip"] is None else float(data["ms_per_clip"])
            return cls(**values)
        except (KeyError, TypeError, ValueError) as exc:
            raise DataError(f"not an out-of-fold record ({exc})") from exc


@dataclass(frozen=True)
class Adopted:
    """An adopted version and its record; None if it was adopted without labelled clips."""

    version: int
    record: OutOfFoldRecord | None


@dataclass(frozen=True)
class Check:
    """One check of the gate: its name and result, the value of the candidate and the required value."""

    name: str
    passed: bool
    had: str
    needs: str


@dataclass(frozen=True)
class GateVerdict:
    """Decision of the gate.

    Args:
        checks: all checks.
        difference: mean recall of the candidate minus the champion's; None when there is no champion.
        compared: a sentence about the clips on which both models were compared.
        untrained: a sentence about what a network without training does on the same clips; empty if there is none.
        warning: a sentence if the candidate is not better than that network; else empty.
    """

    checks: tuple[Check, ...]
    difference: Difference | None
    compared: str
    untrained: str = ""
    warning: str = ""

    @property
    def passed(self) -> bool:
        """True if every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The failed checks in one line; empty if all passed."""
        return "; ".join(f"{c.name}: {c.had}, needs {c.needs}" for c in self.checks if not c.passed)

    def to_markdown(self) -> str:
        """Return the decision as Markdown, for the description in the registry."""
        lines = [f"## Gate: {'passed' if self.passed else 'not passed'}", "", self.compared, ""]
        lines += ["| check | had | needs | |", "| --- | --- | --- | --- |"]
        lines += [f"| {c.name} | {c.had} | {c.needs} | {'yes' if c.passed else '**no**'} |" for c in self.checks]
        if self.untrained:
            lines += ["", self.untrained]
        if self.warning:
            lines += ["", f"**{self.warning}**"]
        return "\n".join([*lines, ""])


def gate(
    candidate: OutOfFoldRecord, champion: OutOfFoldRecord | None, cfg: PromoteConfig, stays: float = float("nan")
) -> GateVerdict:
    """Decide whether the candidate may replace the champion.

    The candidate must satisfy the limits of `cfg`. Independent of the settings, the whole interval of its mean recall
    must be above chance, and no class may have recall 0. If there is a champion, the candidate must not be worse by
    more than `cfg.margin` on the clips for which both have out-of-fold predictions (each may have been trained on other
    clips too): the 95 % interval of the difference, by subject, must lie above minus the margin (non-inferiority).

    Args:
        stays: the smallest share of the candidate's verdicts that stay when clips are changed; NaN: never measured.
    """
    checks = _floors(candidate, cfg)
    if cfg.min_stays:
        had = "not measured: ferflow evaluate --stress" if np.isnan(stays) else f"{100 * stays:.1f} %"
        needs = f"{100 * cfg.min_stays:.1f} % under each change"
        checks.append(Check("verdicts that stay", stays >= cfg.min_stays, had, needs))
    if champion is None:
        return GateVerdict(tuple(checks), None, "There is no champion to compare with.")
    shared, subjects = _shared(candidate, champion)
    same = candidate.fingerprint == champion.fingerprint
    if candidate.classes != champion.classes or (not same and len(subjects) < FEWEST_SUBJECTS):
        had = "other classes" if candidate.classes != champion.classes else f"{len(subjects)} subjects in common"
        checks.append(
            Check("comparable with the champion", False, had, f"the same classes, {FEWEST_SUBJECTS} subjects")
        )
        return GateVerdict(tuple(checks), None, "Champion and candidate were evaluated on different data.")
    ours, theirs, labels, names = shared
    difference = paired_difference(ours, theirs, labels, names, len(candidate.classes))
    checks.append(
        Check(
            "mean recall against the champion",
            difference.low >= -cfg.margin,
            f"{_points(difference.value)} [{_points(difference.low)}, {_points(difference.high)}] points",
            f"an interval above {_points(-cfg.margin)} points",
        )
    )
    where = "the same data" if same else "the clips that both predicted"
    compared = f"Compared on {where}: {len(labels)} clips of {len(subjects)} subjects, each out of fold."
    return GateVerdict(tuple(checks), difference, compared)


def beside_adopted(
    verdict: GateVerdict, candidate: OutOfFoldRecord, adopted: Adopted, cfg: PromoteConfig
) -> GateVerdict:
    """Add to a decision what an adopted network, of which nothing was trained, does on the candidate's clips.

    If the candidate's mean recall there is not higher, the decision carries a warning; with `cfg.beat_adopted`, the
    candidate also fails.

    Args:
        adopted: the newest adopted version.
    """
    network = f"adopted version {adopted.version}, of which nothing was trained"
    check, untrained, warning = "mean recall against the adopted version", "", ""
    record = adopted.record
    if record is None or record.classes != candidate.classes or not (found := _shared(candidate, record))[1]:
        untrained = (
            f"What {network}, does on these clips is not known; evaluate it by 'ferflow adopt' on the same manifest."
        )
        passed, had = False, "not known"
    else:
        (ours, theirs, labels, names), subjects = found
        difference = paired_difference(ours, theirs, labels, names, len(candidate.classes))
        recall = [evaluate(side, labels, names, candidate.classes).mean_recall for side in (ours, theirs)]
        had = f"{_points(difference.value)} [{_points(difference.low)}, {_points(difference.high)}] points"
        passed = difference.value > 0
        untrained = (
            f"On the same {len(labels)} clips of {len(subjects)} subjects, {network}, has mean recall {recall[1]} %, "
            f"the candidate {recall[0]} %: {had}."
        )
        if not passed:
            warning = f"The candidate is not better than {network}: its training has gained nothing."
    checks = (*verdict.checks, Check(check, passed, had, "more than 0")) if cfg.beat_adopted else verdict.checks
    return replace(verdict, checks=checks, untrained=untrained, warning=warning)


def _floors(candidate: OutOfFoldRecord, cfg: PromoteConfig) -> list[Check]:
    numbers = candidate.evaluation()
    weakest = min(
        ((r.value, c) for r, c in zip(numbers.recall, numbers.classes, strict=True) if not np.isnan(r.value)),
    )
    error = candidate.calibration_error
    checks = [
        Check("above chance", numbers.above_chance, f"{numbers.mean_recall} %",
              f"an interval above {100 * numbers.chance:.1f} %"),
        Check("mean recall", numbers.mean_recall.value >= cfg.min_mean_recall, f"{numbers.mean_recall} %",
              f"{100 * cfg.min_mean_recall:.1f} %"),
        Check("weakest class", weakest[0] > 0 and weakest[0] >= cfg.min_class_recall,
              f"{weakest[1]} {100 * weakest[0]:.1f} %",
              f"{100 * cfg.min_class_recall:.1f} %" if cfg.min_class_recall else "more than 0 %"),
        Check("calibration error", error <= cfg.max_calibration_error, f"{100 * error:.1f} %",
              f"at most {100 * cfg.max_calibration_error:.1f} %"),
    ]  # fmt: skip
    if cfg.max_ms_per_clip:
        known = candidate.ms_per_clip <= cfg.max_ms_per_clip  # unknown (NaN) does not pass
        checks.append(
            Check("time per clip", known, f"{candidate.ms_per_clip:.1f} ms", f"at most {cfg.max_ms_per_clip:g} ms")
        )
    return checks


def _shared(
    candidate: OutOfFoldRecord, champion: OutOfFoldRecord
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, Sequence[str]], set[str]]:
    """Return both models' predictions for the clips they share (same content, label and subject), and these
    subjects."""
    theirs = dict(zip(_keys(champion), champion.verdicts, strict=True))
    rows = [
        (verdict, theirs[key], key)
        for key, verdict in zip(_keys(candidate), candidate.verdicts, strict=True)
        if key in theirs
    ]
    ours = np.array([row[0] for row in rows], dtype=np.int64)
    other = np.array([row[1] for row in rows], dtype=np.int64)
    labels = np.array([key[1] for *_, key in rows], dtype=np.int64)
    names = [key[2] for *_, key in rows]
    return (ours, other, labels, names), set(names)


def _keys(record: OutOfFoldRecord) -> list[tuple[str, int, str]]:
    return list(zip(record.clips, record.labels, record.subjects, strict=True))


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
