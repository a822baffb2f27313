"""Backbones: frozen ImageNet convolutions, the normalisation their weights were trained with, and their identity."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fer_core.config import BackboneConfig
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.architectures import ARCHITECTURES, above
from fer_core.features.weights import (
    StateDict,
    read_checkpoint,
    tensors_digest,
    torchvision_checkpoint,
    wheel_checkpoint,
)
from fer_core.published import MEAN_3_5, STD_3_5

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
IMAGENET = Normalization("imagenet", MEAN_3_5, STD_3_5)
# The Oxford release that torchvision calls IMAGENET1K_FEATURES: mean-subtracted 0..255 input.
FEATURES = Normalization("features", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))
# [0, 1] as it is: the ResNet18 trained on FER+ of the appendix (Emotion-FAN) saw its faces so.
UNIT = Normalization("unit", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NORMALIZATIONS = {n.name: n for n in (IMAGENET, FEATURES, UNIT)}


class Backbone:
    """Frozen convolutions with their normalisation; faces in, one row of features per face out.

    They are two halves: what leaves the trunk, the maps at the cut, is rounded to float16, and so are the features that
    the block makes of them. Stored maps, stored features and fresh ones are therefore the same bytes, and a block that
    was fine-tuned on stored maps gives in scoring what it gave in training.

    Attributes:
        name: architecture.
        trunk, block: the halves, frozen.
        convolutions: their tensors as the checkpoint has them, float16 where that is what it holds.
        weights_digest: BLAKE2b-128 of names, shapes and values of `convolutions`; `trunk_digest`: of the trunk's.
        normalization: what is applied to faces scaled to [0, 1].
        n_features: columns of a feature row.
        fc: weight and bias of the checkpoint's own FC layers, first to last but one; empty when it has none.
    """

    def __init__(
        self,
        name: str,
        net: nn.Module,
        normalization: Normalization,
        convolutions: StateDict,
        fc: tuple[tuple[torch.Tensor, torch.Tensor], ...],
        device: torch.device,
    ) -> None:
        self.name = name
        # channels last: the layout oneDNN and cuDNN compute in, a quarter faster on two cores
        net = net.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        self.trunk, self.block = (half.eval() for half in ARCHITECTURES[name].split(net))
        self.normalization = normalization
        self.n_features = ARCHITECTURES[name].n_features
        self.convolutions = convolutions
        self.weights_digest = tensors_digest(convolutions)
        tunable = self.block.state_dict().keys()
        self.trunk_digest = tensors_digest({k: v for k, v in convolutions.items() if k not in tunable})
        self.fc = fc
        self.device = device
        shape = (1, 3, 1, 1)
        # One multiply-add: (x / 255 - mean) / std
        self._scale = (1 / (255 * torch.tensor(normalization.std))).view(shape).to(device)
        self._shift = (-torch.tensor(normalization.mean) / torch.tensor(normalization.std)).view(shape).to(device)

    @property
    def identity(self) -> dict[str, str]:
        """What the features depend on beside the faces; part of every feature key."""
        return self._identity(self.weights_digest, f"{ARCHITECTURES[self.name].cut}, features")

    @property
    def maps_identity(self) -> dict[str, str]:
        """What the maps depend on beside the faces: the trunk, whatever the block above it has been tuned to."""
        return self._identity(self.trunk_digest, ARCHITECTURES[self.name].cut)

    def _identity(self, weights: str, rounded_at: str) -> dict[str, str]:
        return {
            "backbone": self.name,
            "weights": weights,
            "normalize": self.normalization.name,
            "cut": rounded_at,
        }

    def normalize(self, pixels: np.ndarray) -> torch.Tensor:
        """(n, 3, h, w) float32 input of the convolutions: scaled to [0, 1], grey copied to three channels, eq. 3.5.

        Args:
            pixels: (n, h, w) uint8 grey faces.
        """
        grey = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).unsqueeze(1)
        return grey.float() * self._scale + self._shift

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(n, n_features) float16 features of (n, h, w) uint8 faces.

        Raises:
            WeightsError: a number is beyond float16.
        """
        return self._batched(pixels, lambda faces: above(self.block, self._below(faces)))

    def maps(self, pixels: np.ndarray) -> np.ndarray:
        """(n, c, h', w') float16 maps at the cut of (n, h, w) uint8 faces; errors as of `features`."""
        return self._batched(pixels, self._below)

    def above(self, maps: np.ndarray) -> np.ndarray:
        """The features of some maps: `above(maps(pixels))` is `features(pixels)`, byte for byte."""
        return features_above(self.block, torch.from_numpy(maps), self.device)

    @torch.inference_mode()
    def _below(self, pixels: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.trunk(self.normalize(pixels.numpy()))
        return maps.half()

    def _batched(self, pixels: np.ndarray, run: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        out = in_batches(run, torch.from_numpy(np.ascontiguousarray(pixels)))
        if not np.isfinite(out).all():
            raise WeightsError(
                f"{self.name} gives features beyond float16; its weights are damaged or of another input"
            )
        return out


def features_above(block: nn.Module, maps: torch.Tensor, device: torch.device | None = None) -> np.ndarray:
    """(n, d) float16 features that a block gives of (n, c, h, w) float16 maps at the cut."""
    place = device or torch.device("cpu")
    return in_batches(lambda rows: above(block, rows.to(place)), maps)


def in_batches(run: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> np.ndarray:
    """`run` over (n, ...) rows, always in batches of 8, the last one padded with zeros."""
    parts = []
    for start in range(0, max(len(rows), 1), BATCH):  # no rows: one batch of padding tells the shape
        chunk = rows[start : start + BATCH]
        padded = torch.zeros((BATCH, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(chunk)] = chunk
        parts.append(run(padded)[: len(chunk)].cpu().contiguous().numpy())
    return np.concatenate(parts)


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
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]  # older checkpoints have none
    if missing or unexpected:
        raise WeightsError(
            f"{source}: no {name} checkpoint ({len(missing)} layers missing, e.g. {(missing or ['none'])[0]}; "
            f"{len(unexpected)} unknown, e.g. {(unexpected or ['none'])[0]})"
        )
    return Backbone(
        name=name,
        net=net,
        normalization=normalization,
        convolutions=convolutions,
        fc=tuple(
            (state[f"{layer}.weight"].float(), state[f"{layer}.bias"].float())
            for layer in architecture.fc_layers
            if f"{layer}.weight" in state
        ),
        device=device or torch.device("cpu"),
    )


def tuned(backbone: Backbone, block: StateDict) -> Backbone:
    """The backbone with other tensors above the cut: what `transfer: last_block` made of them.

    Args:
        block: by the names of the checkpoint; those it does not have are left out.
    """
    changed = {key: value for key, value in block.items() if key in backbone.convolutions}
    state = {**backbone.convolutions, **changed}
    return backbone_from_state(backbone.name, state, backbone.normalization, "fine-tuned block", backbone.device)


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
    last = [value for key, value in state.items() if key.startswith(ARCHITECTURES[cfg.name].fc_prefix)]
    if not last:  # convolutions alone: vgg16's are about in two kinds
        return state, None if cfg.name == "vgg16" else IMAGENET
    # The usual whole checkpoint ends in ImageNet's 1000 classes; other classes mean that it was trained on by someone.
    return state, IMAGENET if last[-1].shape[:1] == (1000,) else None


def _torchvision_weights(name: str, member: str) -> WeightsEnum:
    from torchvision.models import get_model_weights

    found: WeightsEnum = get_model_weights(name)[member]
    return found


def _choose_normalization(cfg: BackboneConfig, trained_with: Normalization | None) -> Normalization:
    asked = NORMALIZATIONS.get(cfg.normalize, trained_with)
    if asked is None:
        raise ConfigError(
            f"{cfg.weights}: the file does not say what input its weights were trained with; set backbone.normalize to "
            "'imagenet' (eq. 3.5), 'features' (std 1/255) or 'unit' ([0, 1] as it is)"
        )
    if trained_with is not None and asked is not trained_with and not cfg.force_normalize:
        raise ConfigError(
            f"backbone.normalize is '{asked.name}', but the weights were trained with '{trained_with.name}' and expect "
            "other input; use 'auto', or set backbone.force_normalize=true to do it all the same"
        )
    if trained_with is not None and asked is not trained_with:
        log.warning("%s normalised as '%s', against its weights' '%s'", cfg.name, asked.name, trained_with.name)
    return asked
