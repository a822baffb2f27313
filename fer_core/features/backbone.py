"""Backbones: frozen networks that compute features of faces, with the input that their weights were trained with."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from fer_core.config import BackboneConfig, OnnxConfig
from fer_core.emotions import Classes, ordered
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.architectures import (
    ARCHITECTURES,
    Architecture,
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

BATCH = 8  # always padded batches of 8, so that the features of a face do not depend on other faces


# The thesis's figures (§3.5.5); torchvision's own (.485 .456 .406, .229 .224 .225) differ by at most 0.001.
IMAGENET = Normalization("imagenet", MEAN_3_5, STD_3_5)
# The Oxford release that torchvision calls IMAGENET1K_FEATURES: mean-subtracted 0..255 input.
FEATURES = Normalization("features", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))
# Input in [0, 1] unchanged: the appendix's ResNet18 trained on FER+ (Emotion-FAN) was trained so.
UNIT = Normalization("unit", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
NORMALIZATIONS = {n.name: n for n in (IMAGENET, FEATURES, UNIT)}
Output = Literal["features", "classes"]


class Backbone(ABC):
    """A frozen network that returns one row of features for each face.

    Attributes:
        name: name of the network, or names of the networks.
        convolutions: the tensors as in the checkpoint (float16 if they are float16 there).
        weights_digest: BLAKE2b-128 of names, shapes and values of `convolutions`.
        normalization: name of the normalisation of its input.
        output: `features`, or `classes`: log probabilities of the network's own `classes`, in `ordered` order.
        n_features: number of features per face.
        fc: weight and bias of the checkpoint's FC layers except the last, in order; empty if there are none.
        source: source of the weights: `imagenet`, a package, or a file.
        onnx: input and outputs of a network in an ONNX file.
        device: device of the computation.
        parts: the networks whose features are concatenated; only itself for a single network.
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
        """Everything except the faces that the features depend on; part of every feature key."""

    @abstractmethod
    def features(self, pixels: np.ndarray) -> np.ndarray:
        """Compute (n, n_features) float16 features of (n, h, w) uint8 faces.

        Raises:
            WeightsError: a feature exceeds the range of float16.
        """

    def log_probabilities(self, pixels: np.ndarray) -> np.ndarray | None:
        """Compute (n, 7) log probabilities of the network's own classes, in `SEVEN` order, for (n, h, w) uint8 faces.

        None if the network has no classes of its own.
        """
        return None

    @abstractmethod
    def on_cpu(self) -> Backbone:
        """Return the same backbone on the CPU."""


class TorchBackbone(Backbone):
    """A torch network, cut into a trunk and a last block.

    The maps that the trunk returns are rounded to float16, and so are the features that the block computes from them.
    Therefore stored and newly computed maps and features have the same bytes, and a block that was fine-tuned on stored
    maps gives the same features in scoring as in training.

    Attributes:
        trunk, block: the two parts, frozen.
        trunk_digest: like `weights_digest`, for the trunk only.
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
        if device.type == "cuda":  # else TF32 keeps 10 of 23 bits, and features differ from a CPU's
            torch.backends.cudnn.allow_tf32 = False
        # channels last is the layout of oneDNN and cuDNN; a quarter faster on two cores
        net = net.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
        self.trunk, self.block = (half.eval() for half in architecture.split(net))
        self.n_features = architecture.n_features
        self._classes = _own_classes(architecture, net, convolutions)
        if output == "classes":
            assert self._classes is not None
            self.block = self._classes
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
        """Everything except the faces that the maps depend on: the trunk, but not the last block."""
        return self._identity(self.trunk_digest, ARCHITECTURES[self.name].cut)

    def _identity(self, weights: str, rounded_at: str) -> dict[str, str]:
        return {
            "backbone": self.name,
            "weights": weights,
            "normalize": self.normalization,
            "cut": rounded_at,
        }

    def normalize(self, pixels: np.ndarray) -> torch.Tensor:
        """Return the (n, c, h, w) float32 input of the network: resized, scaled to [0, 1], normalised by eq. 3.5.

        For a network that reads colour images, every channel is the grey face.

        Args:
            pixels: (n, h, w) uint8 grey faces.
        """
        grey = torch.from_numpy(np.ascontiguousarray(resized(pixels, self.input.size))).to(self.device).unsqueeze(1)
        return grey.float() * self._scale + self._shift

    def features(self, pixels: np.ndarray) -> np.ndarray:
        return self._batched(pixels, lambda faces: above(self.block, self._below(faces)))

    def log_probabilities(self, pixels: np.ndarray) -> np.ndarray | None:
        own = self._classes
        return None if own is None else self._batched(pixels, lambda faces: above(own, self._below(faces)))

    def maps(self, pixels: np.ndarray) -> np.ndarray:
        """Compute (n, c, h', w') float16 maps at the cut for (n, h, w) uint8 faces. Raises the errors of `features`."""
        return self._batched(pixels, self._below)

    def above(self, maps: np.ndarray) -> np.ndarray:
        """Compute features from maps: `above(maps(pixels))` has the same bytes as `features(pixels)`."""
        return features_above(self.block, torch.from_numpy(maps), self.device)

    @torch.inference_mode()
    def _below(self, pixels: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.trunk(self.normalize(pixels.numpy()))
        return maps.half()

    def _batched(self, pixels: np.ndarray, run: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        return finite(self.name, in_batches(run, torch.from_numpy(np.ascontiguousarray(pixels))))


class JoinedBackbone(Backbone):
    """Several networks that read the same faces; their features are concatenated."""

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

    def log_probabilities(self, pixels: np.ndarray) -> np.ndarray | None:
        """Return the mean over the networks that have classes of their own."""
        said = [found for part in self.parts if (found := part.log_probabilities(pixels)) is not None]
        return np.stack(said).mean(axis=0, dtype=np.float32) if said else None

    def on_cpu(self) -> JoinedBackbone:
        return JoinedBackbone([part.on_cpu() for part in self.parts])


def _own_classes(architecture: Architecture, net: Any, convolutions: StateDict) -> nn.Module | None:
    """Return the last block with the network's own classifier; None if the checkpoint has no classifier."""
    held = any(key.startswith(architecture.fc_prefix) for key in convolutions)
    if architecture.block_with_classes is None or not held:
        return None
    return nn.Sequential(architecture.block_with_classes(net), LogProbabilities(architecture.classes)).eval()


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (n, h, w) uint8 faces to (n, size, size); size 0 leaves them unchanged."""
    if not size or pixels.shape[1:] == (size, size):
        return pixels
    return np.array([resize(face, size) for face in pixels], dtype=np.uint8).reshape(-1, size, size)


def finite(name: str, rows: np.ndarray) -> np.ndarray:
    """Return the rows. Raises WeightsError if a value exceeds the range of float16."""
    if not np.isfinite(rows).all():
        raise WeightsError(f"{name} gives features beyond float16; its weights are damaged or of another input")
    return rows


def features_above(block: nn.Module, maps: torch.Tensor, device: torch.device | None = None) -> np.ndarray:
    """Compute (n, d) float16 features from (n, c, h, w) float16 maps at the cut, in batches."""
    place = device or torch.device("cpu")
    return in_batches(lambda rows: above(block, rows.to(place)), maps)


def in_batches(run: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> np.ndarray:
    """Apply `run` to (n, ...) rows in batches of 8; the last batch is padded with zeros."""
    parts = []
    for start in range(0, max(len(rows), 1), BATCH):  # without rows, one batch of padding gives the shape
        chunk = rows[start : start + BATCH]
        padded = torch.zeros((BATCH, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(chunk)] = chunk
        parts.append(run(padded)[: len(chunk)].cpu().contiguous().numpy())
    return np.concatenate(parts)


def load_backbone(cfg: BackboneConfig, device: torch.device | None = None, output: Output = "features") -> Backbone:
    """Load the backbone of `cfg`: read, check and freeze its weights; several networks are joined.

    Args:
        output: `classes`: the networks return the log probabilities of their own classes instead of features.
    Raises:
        WeightsError: the weights are missing (the message names the file and where to put it) or do not fit.
        ConfigError: the requested normalisation is not the one that the weights were trained with, or a network has no
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
    """Build a backbone and load the tensors of a checkpoint into it; FC layers are kept separately.

    Args:
        name: architecture, one of `ARCHITECTURES`.
        state: tensors of the checkpoint; a classifier of the network's own emotions is kept.
        normalization: input that the weights were trained with.
        source: source of the tensors, for messages and the model record.
        output: see `Backbone`.
    Raises:
        WeightsError: the tensors do not fit this architecture.
    """
    architecture = ARCHITECTURES[name]
    has_classes = bool(architecture.classes) and any(key.startswith(architecture.fc_prefix) for key in state)
    left_out = ("aux",) if output == "classes" or has_classes else (architecture.fc_prefix, "aux")
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
    """Return the normalisation with this name. Raises WeightsError if there is none."""
    own = {a.normalization.name: a.normalization for a in ARCHITECTURES.values() if a.normalization}
    if name not in {*NORMALIZATIONS, *own}:
        raise WeightsError(f"no input is known by the name '{name[:40]}'")
    return NORMALIZATIONS.get(name) or own[name]


def one_network(backbone: Backbone | None) -> TorchBackbone:
    """Return the backbone if it is a single torch network; only such a backbone has maps and a last block.

    Raises:
        ConfigError: it is another kind of backbone.
    """
    if not isinstance(backbone, TorchBackbone):
        name = backbone.name if backbone else "no network"
        raise ConfigError(f"{name} has no last block to fine-tune or to look into; use one network of backbone.name")
    return backbone


def tuned(backbone: TorchBackbone, block: StateDict) -> TorchBackbone:
    """Return the backbone with the tensors of a fine-tuned last block (`transfer: last_block`).

    Args:
        block: tensors by their names in the checkpoint; unknown names are ignored.
    """
    changed = {key: value for key, value in block.items() if key in backbone.convolutions}
    state = {**backbone.convolutions, **changed}
    return backbone_from_state(backbone.name, state, backbone.input, backbone.source, backbone.device)


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
