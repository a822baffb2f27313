"""Backbones: frozen ImageNet convolutions, the normalisation their weights were trained with, and their identity."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fer_core.config import BackboneConfig
from fer_core.errors import ConfigError, WeightsError
from fer_core.model.weights import StateDict, read_checkpoint, torchvision_checkpoint, wheel_checkpoint

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

log = logging.getLogger(__name__)

BATCH = 8  # features are always taken in padded batches of 8: a row's bytes must not depend on its neighbours


@dataclass(frozen=True)
class Normalization:
    """Eq. 3.5: (input - mean) / std per channel, input in [0, 1]."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# The thesis's figures (§3.5.5); torchvision's own (.485 .456 .406, .229 .224 .225) differ by at most 0.001.
IMAGENET = Normalization("imagenet", (0.484, 0.455, 0.405), (0.228, 0.223, 0.224))
# The Oxford release that torchvision calls IMAGENET1K_FEATURES: mean-subtracted 0..255 input.
FEATURES = Normalization("features", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))
NORMALIZATIONS = {n.name: n for n in (IMAGENET, FEATURES)}


@dataclass(frozen=True)
class _Architecture:
    """How to build a backbone's convolutions, and what they give per frame."""

    build: Callable[[], nn.Module]
    cut: Callable[[nn.Module], nn.Module]
    n_features: int
    fc_prefix: str  # parameters under it are the fully connected layers, which a backbone does without
    fc_layers: tuple[str, ...] = ()  # those a head may start from, first to last but one


def _torchvision(name: str, **kwargs: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision.models

        model: nn.Module = getattr(torchvision.models, name)(weights=None, **kwargs)
        return model

    return build


def _lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):
        net: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return net


def _convolutions_then_pool(net: Any) -> nn.Module:
    return nn.Sequential(net.features, net.avgpool, nn.Flatten())


def _without(layer: str) -> Callable[[nn.Module], nn.Module]:
    def cut(net: nn.Module) -> nn.Module:
        setattr(net, layer, nn.Identity())
        return net

    return cut


class _LitePooled(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.net.extract_features(images)
        return features.mean(dim=(2, 3))


ARCHITECTURES: dict[str, _Architecture] = {
    "efficientnet-lite0": _Architecture(_lite0, _LitePooled, 1280, "_fc."),
    "vgg16": _Architecture(
        _torchvision("vgg16", init_weights=False), _convolutions_then_pool, 25088, "classifier.",
        ("classifier.0", "classifier.3"),
    ),
    "alexnet": _Architecture(
        _torchvision("alexnet"), _convolutions_then_pool, 9216, "classifier.", ("classifier.1", "classifier.4")
    ),
    "googlenet": _Architecture(
        _torchvision("googlenet", aux_logits=False, init_weights=False, transform_input=False), _without("fc"), 1024,
        "fc.",
    ),
    "resnet18": _Architecture(_torchvision("resnet18"), _without("fc"), 512, "fc."),
    "resnet50": _Architecture(_torchvision("resnet50"), _without("fc"), 2048, "fc."),
}  # fmt: skip


class Backbone:
    """Frozen convolutions with their normalisation; faces in, one row of features per face out.

    Attributes:
        name: architecture.
        convolutions: their tensors as the checkpoint has them, float16 where that is what it holds.
        weights_digest: BLAKE2b-128 of names, shapes and values of `convolutions`.
        normalization: what `features` applies to faces scaled to [0, 1].
        n_features: columns of a feature row.
        fc: weight and bias of the checkpoint's own FC layers, first to last but one; empty when it has none.
    """

    def __init__(
        self,
        name: str,
        net: nn.Module,
        normalization: Normalization,
        n_features: int,
        convolutions: StateDict,
        fc: tuple[tuple[torch.Tensor, torch.Tensor], ...],
        device: torch.device,
    ) -> None:
        self.name = name
        # channels last: the layout oneDNN and cuDNN compute in, a quarter faster on two cores
        self.net = net.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        self.normalization = normalization
        self.n_features = n_features
        self.convolutions = convolutions
        self.weights_digest = tensors_digest(convolutions)
        self.fc = fc
        self.device = device
        shape = (1, 3, 1, 1)
        # One multiply-add: (x / 255 - mean) / std
        self._scale = (1 / (255 * torch.tensor(normalization.std))).view(shape).to(device)
        self._shift = (-torch.tensor(normalization.mean) / torch.tensor(normalization.std)).view(shape).to(device)

    @property
    def identity(self) -> dict[str, str]:
        """What the features depend on beside the faces; part of every feature key."""
        return {
            "backbone": self.name,
            "weights": self.weights_digest,
            "normalize": self.normalization.name,
            "cut": "features",
        }

    def normalize(self, pixels: np.ndarray) -> torch.Tensor:
        """(n, 3, h, w) float32 input of the convolutions: scaled to [0, 1], grey copied to three channels, eq. 3.5.

        Args:
            pixels: (n, h, w) uint8 grey faces.
        """
        grey = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).unsqueeze(1)
        return grey.float() * self._scale + self._shift

    @torch.inference_mode()
    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(n, n_features) float16 features of (n, h, w) uint8 faces; the only place they are computed.

        Rounded to float16 here, before anyone sees them, so that stored and fresh features are the same bytes.
        """
        out = np.empty((len(pixels), self.n_features), dtype=np.float16)
        for start in range(0, len(pixels), BATCH):
            chunk = pixels[start : start + BATCH]
            padded = np.zeros((BATCH, *chunk.shape[1:]), dtype=np.uint8)
            padded[: len(chunk)] = chunk
            rows = self.net(self.normalize(padded))[: len(chunk)]
            out[start : start + len(chunk)] = rows.half().cpu().numpy()
        if not np.isfinite(out).all():
            raise WeightsError(
                f"{self.name} gives features beyond float16; its weights are damaged or of another input"
            )
        return out


def load_backbone(cfg: BackboneConfig, device: torch.device | None = None) -> Backbone:
    """The backbone of `cfg`, its weights read, checked and frozen.

    Raises:
        WeightsError: the weights are missing (the message names the file and where to put it) or do not fit.
        ConfigError: the normalisation asked for is not the one the weights were trained with.
    """
    state, trained_with = _read_weights(cfg)
    return backbone_from_state(cfg.name, state, _choose_normalization(cfg, trained_with), cfg.weights, device)


def backbone_from_state(
    name: str, state: StateDict, normalization: Normalization, source: str, device: torch.device | None = None
) -> Backbone:
    """A backbone built here and filled with the tensors of a checkpoint, its FC layers set apart.

    Args:
        name: architecture, one of `ARCHITECTURES`.
        source: where the tensors are from, for messages.
    Raises:
        WeightsError: they are not this architecture's.
    """
    architecture = ARCHITECTURES[name]
    convolutions = {key: value for key, value in state.items() if not key.startswith((architecture.fc_prefix, "aux"))}
    net = architecture.build()
    try:
        missing, unexpected = net.load_state_dict(convolutions, strict=False)
    except RuntimeError as exc:  # shapes differ
        raise WeightsError(f"{source}: no {name} checkpoint ({' '.join(str(exc).split())[:200]})") from exc
    missing = [key for key in missing if not key.startswith(architecture.fc_prefix)]
    if missing or unexpected:
        raise WeightsError(
            f"{source}: no {name} checkpoint ({len(missing)} layers missing, e.g. {(missing or ['none'])[0]}; "
            f"{len(unexpected)} unknown, e.g. {(unexpected or ['none'])[0]})"
        )
    return Backbone(
        name=name,
        net=architecture.cut(net),
        normalization=normalization,
        n_features=architecture.n_features,
        convolutions=convolutions,
        fc=tuple(
            (state[f"{layer}.weight"].float(), state[f"{layer}.bias"].float())
            for layer in architecture.fc_layers
            if f"{layer}.weight" in state
        ),
        device=device or torch.device("cpu"),
    )


def _read_weights(cfg: BackboneConfig) -> tuple[StateDict, Normalization | None]:
    """A checkpoint and the normalisation it is known to have been trained with; None where nobody says."""
    if cfg.weights == "features":
        if cfg.name != "vgg16":
            raise ConfigError(f"backbone.weights 'features' is a checkpoint of vgg16; {cfg.name} has none")
        return torchvision_checkpoint(_torchvision_weights(cfg.name, "IMAGENET1K_FEATURES")), FEATURES
    if cfg.weights == "imagenet":
        if cfg.name == "efficientnet-lite0":
            return wheel_checkpoint(), IMAGENET
        return torchvision_checkpoint(_torchvision_weights(cfg.name, "IMAGENET1K_V1")), IMAGENET
    state, metadata = read_checkpoint(Path(cfg.weights).expanduser())
    if "std 1/255" in metadata.get("input", ""):
        return state, FEATURES
    # A whole checkpoint, FC layers included, is one of the usual kind; convolutions alone may be of either.
    whole = any(key.startswith(ARCHITECTURES[cfg.name].fc_prefix) for key in state)
    return state, IMAGENET if whole or cfg.name != "vgg16" else None


def _torchvision_weights(name: str, member: str) -> WeightsEnum:
    from torchvision.models import get_model_weights

    found: WeightsEnum = get_model_weights(name)[member]
    return found


def _choose_normalization(cfg: BackboneConfig, trained_with: Normalization | None) -> Normalization:
    asked = NORMALIZATIONS.get(cfg.normalize, trained_with)
    if asked is None:
        raise ConfigError(
            f"{cfg.weights}: the file does not say what input its weights were trained with; set backbone.normalize to "
            "'imagenet' (eq. 3.5) or 'features' (std 1/255)"
        )
    if trained_with is not None and asked is not trained_with and not cfg.force_normalize:
        raise ConfigError(
            f"backbone.normalize is '{asked.name}', but the weights were trained with '{trained_with.name}' and expect "
            "other input; use 'auto', or set backbone.force_normalize=true to do it all the same"
        )
    if trained_with is not None and asked is not trained_with:
        log.warning("%s normalised as '%s', against its weights' '%s'", cfg.name, asked.name, trained_with.name)
    return asked


def tensors_digest(state: StateDict) -> str:
    """BLAKE2b-128 of names, shapes, types and values of some tensors."""
    whole = hashlib.blake2b(digest_size=16)
    for key in sorted(state):
        value = state[key].contiguous()
        whole.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        whole.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return whole.hexdigest()
