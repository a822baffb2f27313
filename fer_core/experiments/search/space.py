"""The search space: turn Optuna's parameters into a TrainConfig, and list the thesis's settings to try first."""

from __future__ import annotations

from typing import Any

import optuna

from fer_core.config import RECIPES, SearchConfig, TrainConfig, WeightScheme, widths_name
from fer_core.errors import ConfigError
from fer_core.model_names import FC_HEAD_MODELS
from fer_core.models.registry import model_of
from fer_core.published import FC_WIDTHS, SECTION_4_2_2, TABLE_4_1

# Table 4.1 and §4.2.2 contradict each other, so both are tried. The optimiser is not taken from them.
THESIS_SETTINGS: dict[str, dict[str, Any]] = {
    name: {key: setting[key] for key in ("lr", "batch_size")}
    for name, setting in (("table-4.1", TABLE_4_1), ("section-4.2.2", SECTION_4_2_2))
}


def searched_names(cfg: SearchConfig) -> tuple[str, ...]:
    """Return the names of the parameters that a space draws, in the order of a table's columns."""
    first = (("model", cfg.models), ("backbone", cfg.backbones))
    others = (("sampling", cfg.sampling), ("transfer", cfg.transfer), ("views", cfg.views), ("relative", cfg.relative))
    drawn = [[name for name, values in group if values] for group in (first, others)]
    full = ("optimizer", "dropout", "weight_decay") if cfg.full else ()
    return (*drawn[0], "lr", "batch_size", "widths", "class_weights", *drawn[1], *full)


def suggest(trial: optuna.Trial, cfg: SearchConfig, base: TrainConfig) -> TrainConfig:
    """Return the settings of one trial: drawn parameters, and the rest from `base` or the recipe of the drawn model.

    For a model with FC layers, all parameters of the space are drawn, but `relative` only for a frozen block and
    unaugmented faces; for a network over clips, the learning rate and
    the class weights; for a classical model, only the class weights.
    """
    model: Any = trial.suggest_categorical("model", cfg.models) if cfg.models else base.model
    base = base.with_model(model)
    scheme = trial.suggest_categorical("class_weights", cfg.class_weights)
    if model not in FC_HEAD_MODELS:
        rate = {"lr": trial.suggest_float("lr", *cfg.lr, log=True)} if model in RECIPES else {}
        return base.with_model(model, class_weights=scheme, **rate)
    by_name = {widths_name(w): w for w in cfg.widths}
    drawn: dict[str, Any] = {
        "class_weights": scheme,
        "lr": trial.suggest_float("lr", *cfg.lr, log=True),
        "batch_size": trial.suggest_categorical("batch_size", cfg.batch_sizes),
        "widths": by_name[trial.suggest_categorical("widths", tuple(by_name))],
    }
    if cfg.sampling:
        drawn["sampling"] = trial.suggest_categorical("sampling", cfg.sampling)
    if cfg.transfer:
        drawn["transfer"] = trial.suggest_categorical("transfer", cfg.transfer)
    if cfg.views:
        drawn["augment"] = base.augment.model_dump() | {"views": trial.suggest_categorical("views", cfg.views)}
    if not base.with_model(model, **{**drawn, "relative": "none"}).compares:
        drawn["relative"] = "none"
    elif cfg.relative:
        drawn["relative"] = trial.suggest_categorical("relative", cfg.relative)
    if cfg.full:
        drawn["optimizer"] = trial.suggest_categorical("optimizer", ("adam", "sgd"))
        drawn["dropout"] = trial.suggest_float("dropout", 0.0, 0.7)
        drawn["weight_decay"] = trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    return base.with_model(model, **drawn)


def suggest_backbone(trial: optuna.Trial, cfg: SearchConfig, train: TrainConfig) -> str:
    """Return the label of the trial's backbone; empty if none is searched, or if the trial's model reads no features.

    Args:
        train: the settings that `suggest` returned for the trial.
    """
    if not cfg.backbones or not model_of(train).reads_features:
        return ""
    found: str = trial.suggest_categorical("backbone", cfg.backbones)
    return found


def is_conditional(cfg: SearchConfig) -> bool:
    """True if some parameters are drawn for some trials only, so that they are sampled in groups."""
    return len(cfg.models) > 1 or (bool(cfg.relative) and bool(cfg.transfer or cfg.views))


def presets(cfg: SearchConfig, base: TrainConfig) -> dict[str, dict[str, Any]]:
    """Return name -> Optuna parameters to try first: the thesis's settings for the head, the recipe for other models.

    First come the thesis's two settings of learning rate and batch size, with the widest head of the space. If the
    space contains the widths 4096-4096, its four implementations follow: full and narrowed second layer, plain and
    weighted cross-entropy (§4.3-4.6). If backbones are searched, each setting is tried with every one of them.

    Args:
        base: settings that are not searched; if `cfg.models` is empty, its model is the only one.
    Raises:
        ConfigError: the space excludes a learning rate or batch size of the thesis.
    """
    plain: WeightScheme = "none" if "none" in cfg.class_weights else cfg.class_weights[0]
    found: dict[str, dict[str, Any]] = {}
    for model in cfg.models or (base.model,):
        if model == "head":
            own = _of_the_thesis(cfg, plain)
        elif model in FC_HEAD_MODELS:
            own = {f"{model}, {name}": _of_the_thesis(cfg, plain)[name] for name in THESIS_SETTINGS}
        else:
            rate = {"lr": RECIPES[model]["lr"]} if model in RECIPES else {}
            own = {model: {"class_weights": plain, **rate}}
        if cfg.backbones and model_of(base.with_model(model)).reads_features:
            own = {f"{name}, {b}": {**params, "backbone": b} for name, params in own.items() for b in cfg.backbones}
        found |= {name: {**({"model": model} if cfg.models else {}), **params} for name, params in own.items()}
    return found


def _of_the_thesis(cfg: SearchConfig, plain: WeightScheme) -> dict[str, dict[str, Any]]:
    """Return name -> parameters of the thesis's FC layers."""
    for name, setting in THESIS_SETTINGS.items():
        if not cfg.lr[0] <= setting["lr"] <= cfg.lr[1] or setting["batch_size"] not in cfg.batch_sizes:
            raise ConfigError(
                f"search: the thesis's setting {name} (lr {setting['lr']}, batch {setting['batch_size']}) is outside "
                "the space; widen search.lr and search.batch_sizes, or set search.presets=false"
            )
    widest = max(cfg.widths, key=lambda w: (w[:1], sum(w)))
    found = {
        name: {**setting, "widths": widths_name(widest), "class_weights": plain}
        for name, setting in THESIS_SETTINGS.items()
    }
    narrowed = [w for w in cfg.widths if len(w) == 2 and w[0] == FC_WIDTHS[0] and w[1] < w[0]]
    if FC_WIDTHS in cfg.widths and narrowed:
        weighted = "inverse_frequency" if "inverse_frequency" in cfg.class_weights else plain
        shapes = (FC_WIDTHS, max(narrowed))
        for i, (scheme, shape) in enumerate([(s, w) for s in (plain, weighted) for w in shapes], start=1):
            found[f"thesis-{i}"] = {
                **THESIS_SETTINGS["table-4.1"],
                "widths": widths_name(shape),
                "class_weights": scheme,
            }
    if cfg.full:
        found = {n: {**p, "optimizer": "adam", "dropout": 0.5, "weight_decay": 1e-6} for n, p in found.items()}
    extra: dict[str, Any] = {}
    if cfg.sampling:  # the thesis did no resampling (§4.5), froze the convolutions and did not augment (§4.2)
        extra["sampling"] = "none" if "none" in cfg.sampling else cfg.sampling[0]
    if cfg.transfer:
        extra["transfer"] = "frozen" if "frozen" in cfg.transfer else cfg.transfer[0]
    if cfg.views:
        extra["views"] = min(cfg.views)
    if cfg.relative:
        extra["relative"] = "none" if "none" in cfg.relative else cfg.relative[0]
    found = {name: {**params, **extra} for name, params in found.items()}
    distinct: dict[str, dict[str, Any]] = {}
    for name, params in found.items():
        if params not in distinct.values():
            distinct[name] = params
    return distinct
