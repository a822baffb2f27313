"""Backbones: frozen networks that compute features of faces, with the input that their weights were trained with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from fer_core.config import EngineName, OnnxConfig
from fer_core.emotions import Classes
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.weights import (
    StateDict,
    tensors_digest,
)
from fer_core.preprocess.face import resize

if TYPE_CHECKING:
    pass


BATCH = 8  # always padded batches of 8, so that the features of a face do not depend on other faces


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
        mirror: True if features are averaged over a face and its mirror image; see `Mirrored`.
        engine: program that computes the features; see `features.engines`.
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
    mirror: bool = False
    engine: EngineName = "torch"

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

    def on_engine(self, engine: EngineName, int8: bytes = b"") -> Backbone:
        """Return the same backbone, whose torch networks are computed by another engine; other networks stay.

        Args:
            int8: the graph from `quantized`, for the engines that compute it.
        Raises:
            ConfigError: the engine is not installed, or cannot compute this backbone.
            WeightsError: the int8 graph reads other files, or needs custom operators.
        """
        return self


class Mirrored(Backbone):
    """A network whose features are the mean over a face and its mirror image, so both have the same features.

    Args:
        network: the network.
    """

    mirror = True

    def __init__(self, network: Backbone) -> None:
        self.network = network
        self.name, self.source, self.normalization = network.name, network.source, network.normalization
        self.convolutions, self.weights_digest, self.fc = network.convolutions, network.weights_digest, network.fc
        self.output, self.classes, self.n_features = network.output, network.classes, network.n_features
        self.onnx, self.device, self.engine = network.onnx, network.device, network.engine

    @property
    def identity(self) -> dict[str, str]:
        plain = self.network.identity
        return {**plain, "cut": f"{plain['cut']}, mean with the mirror image"}

    def features(self, pixels: np.ndarray) -> np.ndarray:
        return mean_with_mirror(self.network.features, pixels)

    def log_probabilities(self, pixels: np.ndarray) -> np.ndarray | None:
        if self.network.log_probabilities(pixels[:0]) is None:
            return None
        return mean_with_mirror(lambda faces: np.asarray(self.network.log_probabilities(faces)), pixels)

    def on_cpu(self) -> Mirrored:
        return Mirrored(self.network.on_cpu())

    def on_engine(self, engine: EngineName, int8: bytes = b"") -> Mirrored:
        return Mirrored(self.network.on_engine(engine, int8))


def mean_with_mirror(run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Return the mean of `run` over (n, h, w) faces and their mirror images, in the type that `run` returns."""
    found = run(pixels)
    mean = (found.astype(np.float32) + run(np.ascontiguousarray(pixels[:, :, ::-1])).astype(np.float32)) / 2
    averaged: np.ndarray = mean.astype(found.dtype)
    return averaged


class JoinedBackbone(Backbone):
    """Several networks that read the same faces; their features are concatenated."""

    def __init__(self, parts: Sequence[Backbone]) -> None:
        self._parts = tuple(parts)
        self.name = "+".join(part.name for part in parts)
        self.source = ", ".join(part.source for part in parts)
        self.normalization = "+".join(part.normalization for part in parts)
        self.output, self.classes, self.device = parts[0].output, parts[0].classes, parts[0].device
        self.engine = next((part.engine for part in parts if part.engine != "torch"), "torch")
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
        keys = dict.fromkeys(key for identity in one_by_one for key in identity)
        return {key: "+".join(identity.get(key, "torch") for identity in one_by_one) for key in keys}

    def features(self, pixels: np.ndarray) -> np.ndarray:
        return np.hstack([part.features(pixels) for part in self.parts])

    def log_probabilities(self, pixels: np.ndarray) -> np.ndarray | None:
        """Return the mean over the networks that have classes of their own."""
        said = [found for part in self.parts if (found := part.log_probabilities(pixels)) is not None]
        return np.stack(said).mean(axis=0, dtype=np.float32) if said else None

    def on_cpu(self) -> JoinedBackbone:
        return JoinedBackbone([part.on_cpu() for part in self.parts])

    def on_engine(self, engine: EngineName, int8: bytes = b"") -> JoinedBackbone:
        if int8:
            raise ConfigError(f"{self.name} are several networks, and an int8 graph is of one; set score.engine=auto")
        return JoinedBackbone([part.on_engine(engine) for part in self.parts])


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


def in_batches(run: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> np.ndarray:
    """Apply `run` to (n, ...) rows in batches of 8; the last batch is padded with zeros."""
    parts = []
    for start in range(0, max(len(rows), 1), BATCH):  # without rows, one batch of padding gives the shape
        chunk = rows[start : start + BATCH]
        padded = torch.zeros((BATCH, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(chunk)] = chunk
        parts.append(run(padded)[: len(chunk)].cpu().contiguous().numpy())
    return np.concatenate(parts)
