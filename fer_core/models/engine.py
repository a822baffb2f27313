"""Put a model on an engine: the one that the settings name, or the fastest here of those that the model allows."""

from __future__ import annotations

from dataclasses import replace

from fer_core.config import EngineName, EngineSetting
from fer_core.errors import ConfigError
from fer_core.features.backbone import Backbone
from fer_core.features.engines.choice import agreeing, fastest
from fer_core.features.engines.engine import ENGINES, engine_named, installed
from fer_core.models.bundle import ModelBundle


def on_engine(bundle: ModelBundle, setting: EngineSetting = "auto") -> ModelBundle:
    """Return the model whose features are computed by an engine.

    An engine that computes in float32 may be used for every model; a coarser one only if the model's record says that
    its verdicts agree with torch's. On a GPU, `auto` is torch.

    Args:
        bundle: a model on torch.
    Raises:
        ConfigError: the engine is not installed, cannot be used for this model, or computes other features here.
    """
    backbone = bundle.backbone
    if backbone is None or setting == "torch":
        return bundle
    if setting == "auto":
        return replace(bundle, backbone=_fastest(bundle, backbone))
    engine_named(setting)
    if setting not in _allowed(bundle):
        raise ConfigError(
            f"score.engine is '{setting}', but the model's record does not say that its verdicts agree with torch's; "
            f"it allows {', '.join(['torch', *_allowed(bundle)])}"
        )
    changed = backbone.on_engine(setting, _graph(bundle, setting))
    if changed.engine != setting:  # an ONNX file's own
        return bundle
    if len(agreeing([backbone, changed], bundle.facts.preprocess.size)) < 2:
        raise ConfigError(f"score.engine '{setting}' computes other features than torch here; set score.engine=torch")
    return replace(bundle, backbone=changed)


def _fastest(bundle: ModelBundle, backbone: Backbone) -> Backbone:
    if backbone.device.type != "cpu":
        return backbone
    others = [backbone.on_engine(name, _graph(bundle, name)) for name in _allowed(bundle) if name in installed()]
    backbones = [backbone, *(other for other in others if other.engine != "torch")]
    return fastest(backbones, bundle.facts.preprocess.size) if len(backbones) > 1 else backbone


def _allowed(bundle: ModelBundle) -> list[EngineName]:
    agreed = {record.name for record in bundle.facts.engines if record.allowed}
    coarse = {name for name in agreed if ENGINES[name].precision != "int8" or bundle.int8}
    return [name for name, engine in ENGINES.items() if engine.precision == "float32" or name in coarse]


def _graph(bundle: ModelBundle, name: EngineName) -> bytes:
    return bundle.int8 if ENGINES[name].precision == "int8" else b""
