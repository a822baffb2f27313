"""Load the backbone of the settings: find, check and freeze its weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fer_core.config import BackboneConfig
from fer_core.errors import ConfigError
from fer_core.features.architectures import (
    ARCHITECTURES,
    Normalization,
)
from fer_core.features.known_weights import KNOWN, known_path
from fer_core.features.weights import (
    StateDict,
    read_checkpoint,
    torchvision_checkpoint,
    wheel_checkpoint,
)

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum
from fer_core.features.backbone import Backbone, JoinedBackbone, Mirrored, Output
from fer_core.features.torch_backbone import FEATURES, IMAGENET, NORMALIZATIONS, backbone_from_state

log = logging.getLogger(__name__)


def load_backbone(cfg: BackboneConfig, device: torch.device | None = None, output: Output = "features") -> Backbone:
    """Load the backbone of `cfg`: read, check and freeze its weights; several networks are joined.

    Args:
        output: `classes`: the networks return the log probabilities of their own classes instead of features.
    Raises:
        WeightsError: the weights are missing (the message names the file and where to put it) or do not fit.
        ConfigError: the requested normalisation is not the one that the weights were trained with, or a network has no
            classes of its own.
    """
    networks = [(one, _load_one(one, device, output)) for one in cfg.parts]
    parts = [Mirrored(network) if one.mirrored else network for one, network in networks]
    return parts[0] if len(parts) == 1 else JoinedBackbone(parts)


def _load_one(cfg: BackboneConfig, device: torch.device | None, output: Output) -> Backbone:
    if cfg.onnx is not None and cfg.name == "onnx":
        from fer_core.features.onnx_network import OnnxBackbone, read_onnx

        path = Path(cfg.weights).expanduser()
        return OnnxBackbone(read_onnx(path), cfg.onnx, path.name, output)
    if output == "classes" and not ARCHITECTURES[cfg.name].classes:
        own = ", ".join(name for name, a in ARCHITECTURES.items() if a.classes)
        raise ConfigError(f"{cfg.name} tells no emotions apart by itself; networks that do are {own}")
    state, trained_with, source = _read_weights(cfg)
    return backbone_from_state(cfg.name, state, _choose_normalization(cfg, trained_with), source, device, output)


def _read_weights(cfg: BackboneConfig) -> tuple[StateDict, Normalization | None, str]:
    """Return a checkpoint, the normalisation that it was trained with (None if unknown), and its source."""
    own = ARCHITECTURES[cfg.name].normalization
    if own is not None:
        if cfg.weights in ("imagenet", "features"):
            raise ConfigError(f"backbone.weights '{cfg.weights}' is no checkpoint of {cfg.name}; leave it at auto")
        path = known_path(cfg.name) if cfg.weights == "auto" else Path(cfg.weights).expanduser()
        source = KNOWN[cfg.name].package.label if cfg.weights == "auto" else path.name
        return read_checkpoint(path)[0], own, source
    if cfg.weights == "features":
        if cfg.name != "vgg16":
            raise ConfigError(f"backbone.weights 'features' is a checkpoint of vgg16; {cfg.name} has none")
        return torchvision_checkpoint(_torchvision_weights(cfg.name, "IMAGENET1K_FEATURES")), FEATURES, "features"
    if cfg.weights in ("auto", "imagenet"):
        if cfg.name == "efficientnet-lite0":
            return wheel_checkpoint(), IMAGENET, "imagenet"
        return torchvision_checkpoint(_torchvision_weights(cfg.name, "IMAGENET1K_V1")), IMAGENET, "imagenet"
    path = Path(cfg.weights).expanduser()
    state, metadata = read_checkpoint(path)
    if "std 1/255" in metadata.get("input", ""):
        return state, FEATURES, path.name
    last = [value for key, value in state.items() if key.startswith(ARCHITECTURES[cfg.name].fc_prefix)]
    if not last:  # without FC layers, the two published kinds of vgg16 weights cannot be distinguished
        return state, None if cfg.name == "vgg16" else IMAGENET, path.name
    # A published checkpoint has ImageNet's 1000 classes; with other classes, it was trained further by someone else.
    return state, IMAGENET if last[-1].shape[:1] == (1000,) else None, path.name


def _torchvision_weights(name: str, member: str) -> WeightsEnum:
    from torchvision.models import get_model_weights

    found: WeightsEnum = get_model_weights(name)[member]
    return found


def _choose_normalization(cfg: BackboneConfig, trained_with: Normalization | None) -> Normalization:
    asked = trained_with if cfg.normalize == "auto" else NORMALIZATIONS[cfg.normalize]
    if asked is None:
        raise ConfigError(
            f"{cfg.weights}: the file does not say what input its weights were trained with; set backbone.normalize to "
            "'imagenet' (eq. 3.5), 'features' (std 1/255) or 'unit' ([0, 1] as it is)"
        )
    if trained_with is not None and asked is not trained_with and (trained_with.size or not cfg.force_normalize):
        raise ConfigError(
            f"backbone.normalize is '{asked.name}', but the weights were trained with '{trained_with.name}' and expect "
            "other input; use 'auto', or set backbone.force_normalize=true to do it all the same"
        )
    if trained_with is not None and asked is not trained_with:
        log.warning("%s normalised as '%s', against its weights' '%s'", cfg.name, asked.name, trained_with.name)
    return asked
