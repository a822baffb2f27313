"""A network in an ONNX file as a backbone (extra `onnx`): checked before loading, run by onnxruntime on the CPU.

The file is stored as one uint8 tensor among a model's weights, so it is part of every registered version that uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fer_core.config import OnnxConfig
from fer_core.emotions import SEVEN
from fer_core.errors import ConfigError, WeightsError
from fer_core.features.backbone import BATCH, Backbone, Output, finite, in_batches, resized
from fer_core.features.engines.engine import onnx_session
from fer_core.features.weights import tensors_digest

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto
    from onnxruntime import InferenceSession

FILE = "onnx"  # name of the tensor with the bytes of the file
LARGEST = 1024**3  # bytes
BUILT_IN = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}  # operator sets that are part of onnxruntime


def read_onnx(path: Path) -> bytes:
    """Return the bytes of an ONNX file.

    Raises:
        WeightsError: the file does not exist, has another suffix, or is too large.
    """
    if path.suffix != ".onnx" or not path.is_file():
        raise WeightsError(f"no ONNX file at {path}; set backbone.weights to a .onnx file")
    if path.stat().st_size > LARGEST:
        raise WeightsError(f"{path} has {path.stat().st_size} bytes; at most {LARGEST} are accepted")
    return path.read_bytes()


class OnnxBackbone(Backbone):
    """A network in an ONNX file.

    Args:
        content: bytes of the file.
        onnx: its input and outputs.
        source: name of the file, for messages.
        output: `features`, or `classes` for scores.

    Raises:
        WeightsError: it is not an ONNX file, keeps tensors in other files, has operators that onnxruntime lacks, or its
            input or outputs differ from `onnx`.
        ConfigError: the extra is not installed, or `onnx` does not name the requested output.
    """

    def __init__(self, content: bytes, onnx: OnnxConfig, source: str, output: Output = "features") -> None:
        self.name, self.source, self.output, self.onnx = "onnx", source, output, onnx
        self.normalization = "onnx"
        self.device = torch.device("cpu")
        self.convolutions = {FILE: torch.frombuffer(bytearray(content), dtype=torch.uint8)}
        self.weights_digest = tensors_digest(self.convolutions)
        self.output_name = onnx.scores if output == "classes" else onnx.features
        if not self.output_name:
            asked = "scores and their classes" if output == "classes" else "features"
            raise ConfigError(f"{source}: backbone.onnx names no output with {asked}")
        check_onnx(content, source)
        self._session = _session(content, source)
        self._input, self._channels_last, self._fixed = self._described()
        self._scale = 1 / (255 * np.array(onnx.std, np.float32)).reshape(1, -1, 1, 1)
        self._shift = (-np.array(onnx.mean) / np.array(onnx.std)).astype(np.float32).reshape(1, -1, 1, 1)
        self.classes = SEVEN if output == "classes" else ()
        self.n_features = self.features(np.zeros((1, onnx.size, onnx.size), np.uint8)).shape[1]

    @property
    def identity(self) -> dict[str, str]:
        said = self.onnx.model_dump_json(exclude={"features", "scores"}) if self.onnx else ""
        cut = f"{self.output_name}, {self.output}"
        return {"backbone": self.name, "weights": self.weights_digest, "normalize": said, "cut": cut}

    def features(self, pixels: np.ndarray) -> np.ndarray:
        assert self.onnx is not None
        small = resized(pixels, self.onnx.size)
        return finite(self.source, in_batches(self._rows, torch.from_numpy(np.ascontiguousarray(small))))

    def on_cpu(self) -> OnnxBackbone:
        return self

    def _rows(self, grey: torch.Tensor) -> torch.Tensor:
        """Return rows (8, d) float16 for faces (8, size, size) uint8."""
        given = grey.numpy()[:, None].astype(np.float32) * self._scale + self._shift
        given = np.ascontiguousarray(given.transpose(0, 2, 3, 1)) if self._channels_last else given
        n = self._fixed or BATCH
        parts = []
        for start in range(0, len(given), n):
            chunk = given[start : start + n]
            padded = np.concatenate([chunk, np.zeros((n - len(chunk), *chunk.shape[1:]), np.float32)])
            parts.append(self._run(padded)[: len(chunk)])
        rows = np.concatenate(parts).reshape(len(given), -1)
        return torch.from_numpy(self._seven(rows) if self.output == "classes" else rows).half()

    def _run(self, given: np.ndarray) -> np.ndarray:
        try:
            (found,) = self._session.run([self.output_name], {self._input: given})
        except Exception as exc:  # onnxruntime's errors have no common base
            raise WeightsError(f"{self.source} does not run ({' '.join(str(exc).split())[:200]})") from exc
        rows = np.asarray(found)
        if rows.dtype.kind != "f" or rows.ndim < 2 or len(rows) != len(given):
            raise WeightsError(
                f"{self.source}: output '{self.output_name}' gives {rows.dtype} {rows.shape} of {len(given)} faces; "
                "needs a row of numbers for each"
            )
        return rows.astype(np.float32)

    def _seven(self, scores: np.ndarray) -> np.ndarray:
        """Return log probabilities in `Emotion` order, (n, 7).

        Other classes of the network are dropped, and the rest is normalised again.
        """
        assert self.onnx is not None
        if scores.shape[1] != len(self.onnx.classes):
            raise WeightsError(
                f"{self.source}: output '{self.output_name}' has {scores.shape[1]} scores, backbone.onnx.classes "
                f"{len(self.onnx.classes)}"
            )
        if self.onnx.scores_are == "probabilities":
            if scores.min() < 0 or scores.max() > 1.001:
                raise WeightsError(
                    f"{self.source}: output '{self.output_name}' holds no probabilities; set "
                    "backbone.onnx.scores_are=logits"
                )
            scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        kept = scores[:, [self.onnx.classes.index(emotion) for emotion in SEVEN]]
        found: np.ndarray = torch.from_numpy(kept).log_softmax(dim=1).numpy()
        return found

    def _described(self) -> tuple[str, bool, int]:
        """Return the name of the input, whether its channels come last, and its fixed batch size; 0 for any size."""
        assert self.onnx is not None
        inputs, outputs = self._session.get_inputs(), [o.name for o in self._session.get_outputs()]
        if self.output_name not in outputs:
            raise WeightsError(f"{self.source} has no output '{self.output_name}'; it has {', '.join(outputs)[:300]}")
        channels, size = len(self.onnx.mean), self.onnx.size
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
            found = "; ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise WeightsError(f"{self.source} needs one float32 input of four dimensions; it has {found[:300]}")
        shape = [n if isinstance(n, int) else 0 for n in inputs[0].shape]
        for last, wanted in ((False, (channels, size, size)), (True, (size, size, channels))):
            if all(n in (0, w) for n, w in zip(shape[1:], wanted, strict=True)):
                return inputs[0].name, last, max(shape[0], 0)
        raise WeightsError(
            f"{self.source} takes input of {inputs[0].shape}; backbone.onnx says {channels} channels of {size} x {size}"
        )


def check_onnx(content: bytes, source: str) -> None:
    """Refuse a file that reads other files or needs custom operators.

    Raises:
        WeightsError: the file is not an ONNX model, or does one of these.
        ConfigError: the extra is not installed.
    """
    onnx, _ = _packages()
    try:
        model: ModelProto = onnx.load_model_from_string(content)
        if not model.graph.node:
            raise ValueError("it has no operators")
    except Exception as exc:  # protobuf's error, whose class differs between its implementations
        raise WeightsError(f"{source}: no ONNX model ({' '.join(str(exc).split())[:200]})") from exc
    own = {function.domain for function in model.functions}
    graphs = [model.graph, *model.functions]
    for node in (node for graph in graphs for node in _nodes(graph)):
        if node.domain not in BUILT_IN | own:
            raise WeightsError(
                f"{source}: operator '{node.op_type}' of '{node.domain}' is a custom one; only ONNX's own are run. "
                "Export the network without it"
            )
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise WeightsError(
                f"{source}: tensor '{tensor.name[:60]}' is kept in another file; save the model as one file "
                "(onnx.save_model with save_as_external_data=False)"
            )


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the operators of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield all tensors of a model, with those inside its operators."""

    def of(graph: GraphProto) -> Iterator[TensorProto]:
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)
                for inner in (attribute.g, *attribute.graphs):
                    yield from of(inner)

    yield from of(model.graph)
    for function in model.functions:
        yield from of(function)


def _session(content: bytes, source: str) -> InferenceSession:
    _packages()
    try:
        return onnx_session(content)
    except Exception as exc:  # onnxruntime's errors have no common base
        raise WeightsError(f"{source}: onnxruntime does not load it ({' '.join(str(exc).split())[:300]})") from exc


def _packages():  # type: ignore[no-untyped-def]
    """Return the modules onnx and onnxruntime. Raises ConfigError if one is not installed."""
    try:
        import onnx
        import onnxruntime
    except ImportError as exc:
        raise ConfigError(
            f"ONNX networks need a package that is not installed ({exc.name}); pip install 'ferflow[onnx]'"
        ) from exc
    return onnx, onnxruntime
