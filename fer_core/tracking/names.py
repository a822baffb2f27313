"""Names in MLflow, the same in every kind of run, so that runs can be compared in one table.

Metrics: `mean_recall`, `accuracy` (each with `_low` and `_high`, the ends of its 95 % interval), `weakest_recall`,
`recall/CLASS`, `ms_per_clip`, `parameters`, `seconds`. They are of the clips that the run is about, by mean scores:
out of fold for trials, models of a comparison, candidates and adopted networks; the given clips for an evaluation. A
prefix names other clips (`test/`, `external/`, `first_folds/`), another rule (`majority_vote/`) or one fold (`fold0/`).

Parameters: what was searched, what people look for first, and what differs from the defaults, without the name of the
section `train`. The whole settings are the artifact `config.yaml`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from fer_core.config import RECIPES, Rule, RunConfig, TrainConfig, widths_name
from fer_core.evaluation.metrics import Evaluation
from fer_core.model_names import FC_HEAD_MODELS

MAIN_RULE: Rule = "mean_scores"
_NOT_SHOWN = {"workspace", "manifest", "tracking", "runner"}  # where a run was made, not what was made
_IN_THE_LABEL = ("backbone.name", "backbone.names")
_SHORT = {"augment.views": "views"}
_UNNAMED = re.compile(r"[^\w .,:+=()@·-]")


def evaluation_metrics(evaluation: Evaluation, prefix: str = "", *, classes: bool = True) -> dict[str, float]:
    """Return name -> value of an evaluation's metrics.

    Args:
        prefix: clips or rule, such as `test/`; empty for those that the run is about.
        classes: with the recall of every class, and the smallest of them.
    """
    numbers = {
        f"{prefix}{name}{end}": getattr(interval, part)
        for name, interval in (("mean_recall", evaluation.mean_recall), ("accuracy", evaluation.accuracy))
        for end, part in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    if classes:
        numbers[f"{prefix}weakest_recall"] = evaluation.weakest[1].value
        for name, interval in zip(evaluation.classes, evaluation.recall, strict=True):
            numbers[f"{prefix}recall/{name}"] = interval.value
    return numbers


def rule_prefix(rule: str) -> str:
    """Return the prefix of a rule's metrics; empty for mean scores, by which runs are compared."""
    return "" if rule == MAIN_RULE else f"{rule}/"


def shown_settings(config: BaseModel, searched: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return name -> value of the settings to show as parameters.

    Args:
        config: a RunConfig, a TrainConfig, or another section.
        searched: parameters of a trial; all of them are shown.

    Example:
        >>> shown_settings(TrainConfig(lr=0.005, seed=3))["lr"], shown_settings(TrainConfig(lr=0.005, seed=3))["seed"]
        ('0.005', '3')
    """
    shown: dict[str, Any] = {}
    if isinstance(config, RunConfig):
        shown |= {"backbone": config.backbone.label, **_train_settings(config.train)}
        for name in type(config).model_fields:
            if name not in {"train", *_NOT_SHOWN}:
                shown |= _differing(name, getattr(config, name), type(config).model_fields[name].default)
        shown = {name: value for name, value in shown.items() if name not in _IN_THE_LABEL}
    elif isinstance(config, TrainConfig):
        shown |= _train_settings(config)
    else:
        for name, field in type(config).model_fields.items():
            shown |= _differing(name, getattr(config, name), field.default)
    shown |= {name: value for name, value in (searched or {}).items() if name not in shown}
    return {_SHORT.get(name, name): _text(name, value) for name, value in shown.items()}


def setting_title(train: TrainConfig, searched: Mapping[str, Any] | None = None) -> str:
    """Return a setting in a few words, for the name of a run.

    Example:
        >>> setting_title(TrainConfig(lr=0.0086, widths=(256,), class_weights="square_root"))
        'lr 8.6e-3 · batch 20 · 256 · square root'
    """
    parts = [] if train.model == "head" else [train.model]
    if train.model in FC_HEAD_MODELS or train.model in RECIPES:
        parts.append(f"lr {_short_number(train.lr)}")
    if train.model in FC_HEAD_MODELS:
        parts += [f"batch {train.batch_size}", widths_name(train.widths)]
    if train.class_weights != "none":
        parts.append(train.class_weights.replace("_", " "))
    if train.transfer != "frozen":
        parts.append(train.transfer.replace("_", " "))
    told = {"model", "lr", "batch_size", "widths", "class_weights", "transfer"}
    others = {name: value for name, value in (searched or {}).items() if name not in told}
    parts += [f"{name.replace('_', ' ')} {_short(value)}" for name, value in others.items()]
    return " · ".join(parts)


def run_name(*parts: str) -> str:
    """Return the name of a run; characters that a name may not have become `_`."""
    return _UNNAMED.sub("_", " · ".join(part for part in parts if part))[:200]


def _train_settings(train: TrainConfig) -> dict[str, Any]:
    first = ["model", "class_weights"]
    if train.model in FC_HEAD_MODELS:
        first += ["lr", "batch_size", "widths"]
    elif train.model in RECIPES:
        first += ["lr"]
    shown = {name: getattr(train, name) for name in first}
    defaults = type(train).model_fields
    for name, value in train.differing.items():
        shown |= {name: value} if name in shown else _differing(name, value, defaults[name].default)
    return shown


def _differing(name: str, value: Any, default: Any) -> dict[str, Any]:
    """Return the fields that differ from the default, with dotted names."""
    if not isinstance(value, BaseModel) or not isinstance(default, BaseModel):
        return {} if value == default else {name: value}
    found: dict[str, Any] = {}
    for field in type(value).model_fields:
        found |= _differing(f"{name}.{field}", getattr(value, field), getattr(default, field, None))
    return found


def _text(name: str, value: Any) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if name == "widths" and isinstance(value, tuple):
        return widths_name(value)
    if isinstance(value, float):
        return f"{value:.4g}"  # to be read; config.yaml has all digits
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _short(value: Any) -> str:
    return _short_number(value) if isinstance(value, float) else str(value).replace("_", " ")


def _short_number(value: float) -> str:
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits}e{int(exponent)}" if value < 0.01 else f"{value:.2g}"
