"""Read the settings, data and results of recorded runs, and compare two runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fer_core.config import RunConfig, load_config
from fer_core.errors import ConfigError, TrackingError
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.run import CURVES

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

Kind = Literal["trial", "candidate", "implementation"]
DIGESTS = ("scores_digest", "weights_sha256")  # tags; equal digests mean equal bytes
_TIMES = ("seconds", "ms_per_clip")
_LARGEST_CONFIG = 1024**2


@dataclass(frozen=True)
class Recorded:
    """A recorded run that can be repeated.

    Args:
        id, name: id and name of the run.
        kind: kind of run.
        config: its settings, with its `workspace` and `tracking`.
        fingerprint: fingerprint of its data.
        threads: number of torch threads of its fit; 0: not recorded.
        environment: versions, hardware and commit.
    """

    id: str
    name: str
    kind: Kind
    config: RunConfig
    fingerprint: str
    threads: int
    environment: Mapping[str, str]


def read_recorded(tracking: Tracking, run_id: str) -> Recorded:
    """Read the run of a trial, a candidate or an implementation of the thesis.

    Raises:
        TrackingError: there is no such run, it has another kind, or its settings or data were not recorded.
        ConfigError: this version cannot read its settings.
    """
    run = _get(tracking, run_id)
    tags = run.data.tags
    kind = _kind(run)
    if tags.get("state") == "pruned":
        raise TrackingError(f"run {run_id} is a trial that was pruned after its first folds; name a complete one")
    config = _config(tracking, run, kind)
    if not tags.get("data_fingerprint"):
        raise TrackingError(f"run {run_id} has no data fingerprint; it ended before its data were recorded")
    return Recorded(
        id=run_id,
        name=str(run.info.run_name),
        kind=kind,
        config=config,
        fingerprint=tags["data_fingerprint"],
        threads=int(tags.get("threads", 0)),
        environment=_environment(tags),
    )


@dataclass(frozen=True)
class Compared:
    """One metric, or the values of one curve, in both runs.

    Args:
        name: name of the metric.
        then, now: last value in each run.
        worst: largest difference of all values; NaN if a value is missing in one run.
        n: number of values compared.
    """

    name: str
    then: float
    now: float
    worst: float
    n: int

    @property
    def identical(self) -> bool:
        return self.worst == 0


@dataclass(frozen=True)
class Comparison:
    """Comparison of all metrics of two runs, without times and without settings of only one run.

    Args:
        numbers: the metrics.
        digests: name of a digest -> True if it is equal in both runs.
        environment: differences between the environments: name -> (then, now).
    """

    numbers: tuple[Compared, ...]
    digests: Mapping[str, bool]
    environment: Mapping[str, tuple[str, str]]

    @property
    def identical(self) -> bool:
        """True if all values are exactly equal."""
        return bool(self.numbers) and all(c.identical for c in self.numbers) and all(self.digests.values())

    @property
    def worst(self) -> Compared:
        """The metric with the largest difference; NaN counts as larger than any number."""
        return max(self.numbers, key=lambda c: (c.worst != c.worst, c.worst))

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        n = sum(c.n for c in self.numbers)
        if self.identical:
            proof = f", and by its {', '.join(self.digests)}" if self.digests else ""
            return f"Bit-identical in {n} values of {len(self.numbers)} numbers{proof}."
        differing = [c for c in self.numbers if not c.identical]
        altered = [name for name, same in self.digests.items() if not same]
        if not differing:
            return f"The same {n} values, but another {' and '.join(altered)}."
        worst = self.worst
        return (
            f"{len(differing)} of {len(self.numbers)} numbers differ, most of all {worst.name}: {worst.then:.6g} then, "
            f"{worst.now:.6g} now."
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {
            "identical": self.identical,
            "sentence": self.sentence,
            "numbers": {c.name: {"then": c.then, "now": c.now, "same": c.identical} for c in self.numbers},
            "digests": dict(self.digests),
            "environment": {name: list(pair) for name, pair in self.environment.items()},
        }


def compare_runs(tracking: Tracking, then: str, now: str) -> Comparison:
    """Compare a run with another run that repeats it.

    Raises:
        TrackingError: a run is missing, or they have no common metric.
    """
    first, second = _get(tracking, then), _get(tracking, now)
    shared = sorted(first.data.metrics.keys() & second.data.metrics.keys())
    numbers = tuple(_compared(tracking, name, first, second) for name in shared if name not in _TIMES)
    if not numbers:
        raise TrackingError(f"runs {then} and {now} have no number in common")
    tags, others = first.data.tags, second.data.tags
    digests = {name: tags[name] == others[name] for name in DIGESTS if name in tags and name in others}
    was, became = _environment(tags), _environment(others)
    differing = {
        name: (was.get(name, "–"), became.get(name, "–"))
        for name in sorted(was.keys() | became.keys())
        if was.get(name) != became.get(name)
    }
    return Comparison(numbers, digests, differing)


def _compared(tracking: Tracking, name: str, first: MlflowRun, second: MlflowRun) -> Compared:
    if name.rpartition("/")[2] not in CURVES:
        a, b = ([run.data.metrics[name]] for run in (first, second))
    else:
        a, b = (_curve(tracking, run.info.run_id, name) for run in (first, second))
    worst = max(abs(x - y) for x, y in zip(a, b, strict=True)) if len(a) == len(b) else float("nan")
    return Compared(name, a[-1], b[-1], worst, max(len(a), len(b)))


def _curve(tracking: Tracking, run_id: str, name: str) -> list[float]:
    with mlflow_errors(f"run {run_id}"):
        history = tracking.client.get_metric_history(run_id, name)
    return [metric.value for metric in sorted(history, key=lambda m: m.step)]


def _get(tracking: Tracking, run_id: str) -> MlflowRun:
    from mlflow.exceptions import MlflowException

    shown = f"run '{run_id[:64]}' cannot be read"
    with mlflow_errors(shown):
        try:
            return tracking.client.get_run(run_id)
        except MlflowException as exc:
            if exc.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise TrackingError(
                f"{shown}: there is none of this id at {tracking.shown_uri}; take the id from what the command said or "
                "from MLflow's pages ('ferflow up'), or say 'ferflow reproduce thesis' for the thesis"
            ) from exc


def _kind(run: MlflowRun) -> Kind:
    if "trial" in run.data.tags:
        return "trial"
    if "implementation" in run.data.tags:
        return "implementation"
    if run.data.tags.get("kind") == "candidate" or run.info.run_name == "candidate":
        return "candidate"
    tags = run.data.tags
    if repeated := tags.get("reproduces"):
        remedy = f"name the run that it repeats, {repeated}"
    else:
        part = "one of its trials" if "study" in tags else "one of its implementations" if "setting" in tags else ""
        remedy = f"{f'name {part}, or ' if part else ''}give the command that made it again, in a new --workspace"
    raise TrackingError(
        f"run {run.info.run_id} ('{run.info.run_name}') is no trial, candidate or implementation of the thesis, the "
        f"kinds that can be run again; {remedy}"
    )


def _config(tracking: Tracking, run: MlflowRun, kind: Kind) -> RunConfig:
    """Return all settings of a run; for a trial, `train` and a searched backbone are its own, the rest is from its
    parent run."""
    run_id = run.info.run_id
    if kind != "trial":
        return load_from(tracking, run_id)
    parent = run.data.tags.get("mlflow.parentRunId", "")
    if not parent:
        raise TrackingError(f"run {run_id} is a trial without a parent run, which would know the rest of its settings")
    whole = load_from(tracking, parent)
    own: dict[str, Any] = {"train": load_from(tracking, run_id, under="train").train}
    if label := run.data.tags.get("backbone"):
        own["backbone"] = whole.searched_backbones[label]
    return whole.model_copy(update=own)


def load_from(tracking: Tracking, run_id: str, under: str = "") -> RunConfig:
    """Load the settings in a run's config.yaml.

    Args:
        under: name of the section, if the file contains only one section.
    """
    with tempfile.TemporaryDirectory(prefix="ferflow-config-") as folder:
        with mlflow_errors(f"settings of run {run_id}"):
            file = Path(tracking.client.download_artifacts(run_id, "config.yaml", folder))
        if file.stat().st_size > _LARGEST_CONFIG:
            raise ConfigError(f"run {run_id}: its config.yaml is no settings file ({file.stat().st_size} bytes)")
        if under:
            lines = file.read_text(encoding="utf-8").splitlines()
            file.write_text(f"{under}:\n" + "\n".join(f"  {line}" for line in lines), encoding="utf-8")
        return load_config(file)


def _environment(tags: Mapping[str, str]) -> dict[str, str]:
    known = {name.removeprefix("env."): value for name, value in tags.items() if name.startswith("env.")}
    if commit := tags.get("mlflow.source.git.commit"):
        known["commit"] = commit
    return known
