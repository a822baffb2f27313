"""A torch network as a backbone: its input, its features, and the maps below its last block."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from fer_core.config import EngineName
from fer_core.emotions import ordered
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.architectures import (
    ARCHITECTURES,
    Architecture,
    LogProbabilities,
    Normalization,
    above,
)
from fer_core.features.backbone import Backbone, Mirrored, Output, finite, in_batches, resized
from fer_core.features.engines.engine import Run, engine_named
from fer_core.features.engines.export import exported
from fer_core.features.onnx_network import check_onnx
from fer_core.features.weights import StateDict, tensors_digest
from fer_core.published import MEAN_3_5, STD_3_5

# The thesis's figures (§3.5.5); torchvision's own (.485 .456 .406, .229 .224 .225) differ by at most 0.001.
IMAGENET = Normalization("imagenet", MEAN_3_5, STD_3_5)

# The Oxford release that torchvision calls IMAGENET1K_FEATURES: mean-subtracted 0..255 input.
FEATURES = Normalization("features", (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255))

# Input in [0, 1] unchanged: the appendix's ResNet18 trained on FER+ (Emotion-FAN) was trained so.
UNIT = Normalization("unit", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

NORMALIZATIONS = {n.name: n for n in (IMAGENET, FEATURES, UNIT)}


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

        self._int8, self._int8_digest = b"", ""
        self._runs: dict[tuple[int, ...], Run] = {}  # by shape of the input

    @property
    def identity(self) -> dict[str, str]:
        plain = self._identity(self.weights_digest, f"{ARCHITECTURES[self.name].cut}, {self.output}")
        computed = {} if self.engine == "torch" else {"engine": self.engine}  # keys made before engines stay valid
        graph = {"int8": self._int8_digest} if self._int8 else {}
        return {**plain, **computed, **graph}

    def on_engine(self, engine: EngineName, int8: bytes = b"") -> TorchBackbone:
        changed = copy.copy(self)
        changed.engine, changed._int8, changed._runs = engine, b"", {}
        if engine == "torch":
            return changed
        if self.device.type != "cpu":
            raise ConfigError(
                f"score.engine '{engine}' computes on the CPU; set score.device=cpu, or score.engine=auto"
            )
        if engine_named(engine).precision == "int8":
            if not int8:
                raise ConfigError(f"score.engine is '{engine}', but the model has no int8 graph; set score.engine=auto")
            check_onnx(int8, f"the int8 graph of {self.name}")
            changed._int8, changed._int8_digest = int8, hashlib.blake2b(int8, digest_size=16).hexdigest()
        return changed

    def graph(self, example: torch.Tensor) -> bytes:
        """Return the ONNX graph of the features: input like `example`, of `normalize` -> (8, n_features)."""
        return exported(self.trunk, self.block, example, self.on_engine("torch").identity)

    def _on_engine(self, pixels: torch.Tensor) -> torch.Tensor:
        given = self.normalize(pixels.numpy()).contiguous()
        shape = tuple(given.shape)
        try:
            if shape not in self._runs:
                self._runs[shape] = engine_named(self.engine).load(self._int8 or self.graph(given))
            return torch.from_numpy(self._runs[shape](given.numpy())).half()
        except Exception as exc:  # the engines' errors have no common base
            reason = " ".join(str(exc).split())[:200]
            raise WeightsError(
                f"{self.engine} does not compute {self.name} ({reason}); set score.engine=torch"
            ) from exc

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
        if self.engine != "torch":
            return self._batched(pixels, self._on_engine)
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


def _own_classes(architecture: Architecture, net: Any, convolutions: StateDict) -> nn.Module | None:
    """Return the last block with the network's own classifier; None if the checkpoint has no classifier."""
    held = any(key.startswith(architecture.fc_prefix) for key in convolutions)
    if architecture.block_with_classes is None or not held:
        return None
    return nn.Sequential(architecture.block_with_classes(net), LogProbabilities(architecture.classes)).eval()


def features_above(block: nn.Module, maps: torch.Tensor, device: torch.device | None = None) -> np.ndarray:
    """Compute (n, d) float16 features from (n, c, h, w) float16 maps at the cut, in batches."""
    place = device or torch.device("cpu")
    return in_batches(lambda rows: above(block, rows.to(place)), maps)


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
    """Return the backbone if it is a single torch network, without the mean over mirror images; only such a network has
    maps and a last block.

    Raises:
        ConfigError: it is another kind of backbone.
    """
    backbone = backbone.network if isinstance(backbone, Mirrored) else backbone
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
