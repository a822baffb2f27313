"""Backbones: frozen networks, the input their weights were trained with, and their identity."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from fer_core.config import BackboneConfig, OnnxConfig
from fer_core.emotions import Classes, ordered
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.architectures import (
    ARCHITECTURES,
    LogProbabilities,
    Normalization,
    above,
)
from fer_core.features.known_weights import KNOWN, known_path
from fer_core.features.weights import (
    StateDict,
    read_checkpoint,
    tensors_digest,
    torchvision_checkpoint,
    wheel_checkpoint,
)
from fer_core.preprocess.face import resize
from fer_core.published import MEAN_3_5, STD_3_5

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

log = logging.getLogger(__name__)

BATCH = 8  # features are always taken in padded batches of 8: a row's bytes must not depend on its neighbours


# The thesis's figures (§3.5.5); torchvision's own (.485 .456 .406, .229 .224 .225) differ by at most 0.001.
IMAGENET = Normalization("imagenet", MEAN_3_5, STD_3_5)
# The Oxford release that torchvision calls IMAGENET1K_FEATURES: mean-subtracted 0..255 input.
FEATURES = Normalization("features", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))
# [0, 1] as it is: the ResNet18 trained on FER+ of the appendix (Emotion-FAN) saw its faces so.
UNIT = Normalization("unit", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NORMALIZATIONS = {n.name: n for n in (IMAGENET, FEATURES, UNIT)}
Output = Literal["features", "classes"]


class Backbone(ABC):
    """A frozen network with the input its weights were trained with; faces in, one row of numbers per face out.

    Attributes:
        name: of the network, or networks.
        convolutions: its tensors as the checkpoint has them, float16 where that is what it holds.
        weights_digest: BLAKE2b-128 of names, shapes and values of `convolutions`.
        normalization: name of what is applied to faces.
        output: `features`, or the log probabilities that the network's own `classes` have, in `ordered` order.
        n_features: columns of a row.
        fc: weight and bias of the checkpoint's own FC layers, first to last but one; empty when it has none.
        source: where the weights are from: `imagenet`, a package, or a file.
        onnx: input and outputs of a network in an ONNX file.
        parts: the networks whose rows are joined; itself where it is one.
    """

    name: str
    convolutions: StateDict
    weights_digest: str
    normalization: str
    output: Output = "features"
    classes: Classes = ()
    n_features: int
    fc: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()
    source: str
    onnx: OnnxConfig | None = None
    device: torch.device

    @property
    def parts(self) -> tuple[Backbone, ...]:
        return (self,)

    @property
    @abstractmethod
    def identity(self) -> dict[str, str]:
        """Everything beside the faces that the features depend on; part of every feature key."""

    @abstractmethod
    def features(self, pixels: np.ndarray) -> np.ndarray:
        """(n, n_features) float16 of (n, h, w) uint8 faces.

        Raises:
            WeightsError: a number is beyond float16.
        """

    @abstractmethod
    def on_cpu(self) -> Backbone:
        """The same on the CPU."""


class TorchBackbone(Backbone):
    """A network built here and cut in two.

    What leaves the trunk, the maps at the cut, is rounded to float16, and so are the features that the block makes of
    them. Stored maps, stored features and fresh ones are therefore the same bytes, and a block that was fine-tuned on
    stored maps gives in scoring what it gave in training.

    Attributes:
        trunk, block: the halves, frozen.
        trunk_digest: as `weights_digest`, of the trunk alone.
    """

    def __init__(
        self,
        name: str,
        net: nn.Module,
        normalization: Normalization,
        convolutions: StateDict,
        fc: tuple[tuple[torch.Tensor, torch.Tensor], ...],
        device: torch.device,
        *,
        source: str = "",
        output: Output = "features",
    ) -> None:
        self.name, self.source, self.output = name, source, output
        architecture = ARCHITECTURES[name]
        if device.type == "cuda":  # else its convolutions keep 10 of 23 bits, and the features are others than a CPU's
            torch.backends.cudnn.allow_tf32 = False
        # channels last: the layout oneDNN and cuDNN compute in, a quarter faster on two cores
        net = net.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        self.trunk, self.block = (half.eval() for half in architecture.split(net))
        self.n_features = architecture.n_features
        if output == "classes":
            assert architecture.block_with_classes is not None
            order = LogProbabilities(architecture.classes)
            self.block = nn.Sequential(architecture.block_with_classes(net), order).eval()
            self.classes = ordered(architecture.classes)
            self.n_features = len(self.classes)
        self.normalization, self.input = normalization.name, normalization
        self.convolutions = convolutions
        self.weights_digest = tensors_digest(convolutions)
        tunable = self.block.state_dict().keys()
        self.trunk_digest = tensors_digest({k: v for k, v in convolutions.items() if k not in tunable})
        self.fc = fc
        self.device = device
        shape = (1, len(normalization.mean), 1, 1)
        # One multiply-add: (x / 255 - mean) / std
        self._scale = (1 / (255 * torch.tensor(normalization.std))).view(shape).to(device)
        self._shift = (-torch.tensor(normalization.mean) / torch.tensor(normalization.std)).view(shape).to(device)

    @property
    def identity(self) -> dict[str, str]:
        return self._identity(self.weights_digest, f"{ARCHITECTURES[self.name].cut}, {self.output}")

    def on_cpu(self) -> TorchBackbone:
        if self.device.type == "cpu":
            return self
        return backbone_from_state(self.name, self.convolutions, self.input, self.source, None, self.output)

    @property
    def maps_identity(self) -> dict[str, str]:
        """Everything beside the faces that the maps depend on: the trunk, but not the block above it."""
        return self._identity(self.trunk_digest, ARCHITECTURES[self.name].cut)

    def _identity(self, weights: str, rounded_at: str) -> dict[str, str]:
        return {
            "backbone": self.name,
            "weights": weights,
            "normalize": self.normalization,
            "cut": rounded_at,
        }

    def normalize(self, pixels: np.ndarray) -> torch.Tensor:
        """(n, c, h, w) float32 input of the network: resized to the side it takes, scaled to [0, 1], eq. 3.5; of a
        network that takes colour, every channel is the grey face.

        Args:
            pixels: (n, h, w) uint8 grey faces.
        """
        grey = torch.from_numpy(np.ascontiguousarray(resized(pixels, self.input.size))).to(self.device).unsqueeze(1)
        return grey.float() * self._scale + self._shift

    def features(self, pixels: np.ndarray) -> np.ndarray:
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
        return finite(self.name, in_batches(run, torch.from_numpy(np.ascontiguousarray(pixels))))


class JoinedBackbone(Backbone):
    """Several networks shown the same faces, their rows side by side."""

    def __init__(self, parts: Sequence[Backbone]) -> None:
        self._parts = tuple(parts)
        self.name = "+".join(part.name for part in parts)
        self.source = ", ".join(part.source for part in parts)
        self.normalization = "+".join(part.normalization for part in parts)
        self.output, self.classes, self.device = parts[0].output, parts[0].classes, parts[0].device
        self.n_features = sum(part.n_features for part in parts)
        self.convolutions = {f"{i}.{key}": v for i, part in enumerate(parts) for key, v in part.convolutions.items()}
        self.weights_digest = tensors_digest(self.convolutions)
        if any((part.output, part.classes) != (self.output, self.classes) for part in parts):
            raise ConfigError(f"{self.name} tell different classes apart; their verdicts cannot be joined")

    @property
    def parts(self) -> tuple[Backbone, ...]:
        return self._parts

    @property
    def identity(self) -> dict[str, str]:
        one_by_one = [part.identity for part in self.parts]
        return {key: "+".join(identity[key] for identity in one_by_one) for key in one_by_one[0]}

    def features(self, pixels: np.ndarray) -> np.ndarray:
        return np.hstack([part.features(pixels) for part in self.parts])

    def on_cpu(self) -> JoinedBackbone:
        return JoinedBackbone([part.on_cpu() for part in self.parts])


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """(n, size, size) uint8 of (n, h, w) uint8 faces; as they are where the size is 0 or theirs."""
    if not size or pixels.shape[1:] == (size, size):
        return pixels
    return np.array([resize(face, size) for face in pixels], dtype=np.uint8).reshape(-1, size, size)


def finite(name: str, rows: np.ndarray) -> np.ndarray:
    """The rows. Raises WeightsError when a number is beyond float16."""
    if not np.isfinite(rows).all():
        raise WeightsError(f"{name} gives features beyond float16; its weights are damaged or of another input")
    return rows


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


def load_backbone(cfg: BackboneConfig, device: torch.device | None = None, output: Output = "features") -> Backbone:
    """The backbone of `cfg`, its weights read, checked and frozen; several networks are joined.

    Args:
        output: `classes`: the verdicts of the networks' own classifiers, in place of features.
    Raises:
        WeightsError: the weights are missing (the message names the file and where to put it) or do not fit.
        ConfigError: the normalisation asked for is not the one the weights were trained with, or a network has no
            classes of its own.
    """
    parts = [_load_one(one, device, output) for one in cfg.parts]
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


def backbone_from_state(
    name: str,
    state: StateDict,
    normalization: Normalization,
    source: str,
    device: torch.device | None = None,
    output: Output = "features",
) -> TorchBackbone:
    """A backbone built here and filled with the tensors of a checkpoint, its FC layers set apart.

    Args:
        name: architecture, one of `ARCHITECTURES`.
        source: where the tensors are from, for messages and the record.
        output: see `Backbone`; `classes` keeps the checkpoint's own classifier.
    Raises:
        WeightsError: they are not this architecture's.
    """
    architecture = ARCHITECTURES[name]
    left_out = (architecture.fc_prefix, "aux") if output == "features" else ("aux",)
    convolutions = {key: value for key, value in state.items() if not key.startswith(left_out)}
    net = architecture.build()
    try:
        missing, unexpected = net.load_state_dict(convolutions, strict=False)
    except RuntimeError as exc:  # shapes differ
        raise WeightsError(f"{source}: no {name} checkpoint ({' '.join(str(exc).split())[:200]})") from exc
    missing = [key for key in missing if not key.startswith(left_out)]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]  # older checkpoints have none
    if missing or unexpected:
        raise WeightsError(
            f"{source}: no {name} checkpoint ({len(missing)} layers missing, e.g. {(missing or ['none'])[0]}; "
            f"{len(unexpected)} unknown, e.g. {(unexpected or ['none'])[0]})"
        )
    return TorchBackbone(
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
        source=source,
        output=output,
    )


def normalization_named(name: str) -> Normalization:
    """The input of that name. Raises WeightsError when there is none."""
    own = {a.normalization.name: a.normalization for a in ARCHITECTURES.values() if a.normalization}
    if name not in {*NORMALIZATIONS, *own}:
        raise WeightsError(f"no input is known by the name '{name[:40]}'")
    return NORMALIZATIONS.get(name) or own[name]


def one_network(backbone: Backbone | None) -> TorchBackbone:
    """The backbone, where it is one network that is built here: only such have maps and a last block.

    Raises:
        ConfigError: it is another.
    """
    if not isinstance(backbone, TorchBackbone):
        name = backbone.name if backbone else "no network"
        raise ConfigError(f"{name} has no last block to fine-tune or to look into; use one network of backbone.name")
    return backbone


def tuned(backbone: TorchBackbone, block: StateDict) -> TorchBackbone:
    """The backbone with other tensors above the cut: what `transfer: last_block` made of them.

    Args:
        block: by the names of the checkpoint; those it does not have are left out.
    """
    changed = {key: value for key, value in block.items() if key in backbone.convolutions}
    state = {**backbone.convolutions, **changed}
    return backbone_from_state(backbone.name, state, backbone.input, backbone.source, backbone.device)


def _read_weights(cfg: BackboneConfig) -> tuple[StateDict, Normalization | None, str]:
    """A checkpoint, the input it is known to have been trained with (None where nobody says), and where it is from."""
    own = ARCHITECTURES[cfg.name].normalization
    if own is not None:
        if cfg.weights in ("imagenet", "features"):
            raise ConfigError(f"backbone.weights '{cfg.weights}' is no checkpoint of {cfg.name}; leave it at auto")
        path = known_path(cfg.name) if cfg.weights == "auto" else Path(cfg.weights).expanduser()
        package = KNOWN[cfg.name].package
        return (
            read_checkpoint(path)[0],
            own,
            f"{package.name} {package.version}" if cfg.weights == "auto" else path.name,
        )
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
    if not last:  # convolutions alone: vgg16's are about in two kinds
        return state, None if cfg.name == "vgg16" else IMAGENET, path.name
    # The usual whole checkpoint ends in ImageNet's 1000 classes; other classes mean that it was trained on by someone.
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
