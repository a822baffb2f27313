"""The interface of engines: each loads an ONNX graph and returns a function that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import torch

from fer_core.config import EngineName
from fer_core.errors import ConfigError

Run = Callable[[np.ndarray], np.ndarray]  # (8, c, h, w) float32 input -> (8, d) float32
Precision = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class Engine:
    """A program that computes ONNX graphs on the CPU.

    Args:
        package: name of the package to import.
        extra: the extra of ferflow that installs it.
        precision: numbers that convolutions are computed with; `int8` needs a graph from `quantize`.
        load: function from the bytes of a graph to a `Run`.
    """

    package: str
    extra: str
    precision: Precision
    load: Callable[[bytes], Run]

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None


def _onnxruntime(graph: bytes) -> Run:
    session = onnx_session(graph)
    (given,) = session.get_inputs()

    def run(faces: np.ndarray) -> np.ndarray:
        (found,) = session.run(None, {given.name: faces})
        return np.asarray(found)

    return run


def onnx_session(graph: bytes) -> Any:
    """Return an `onnxruntime.InferenceSession` on the CPU with as many threads as torch has; they wait passively."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _openvino(hint: str) -> Callable[[bytes], Run]:
    def load(graph: bytes) -> Run:
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)

        def run(faces: np.ndarray) -> np.ndarray:
            return np.array(compiled(faces)[0])  # the next call overwrites its array

        return run

    return load


ENGINES: dict[EngineName, Engine] = {
    "onnxruntime": Engine("onnxruntime", "onnx", "float32", _onnxruntime),
    "onnxruntime-int8": Engine("onnxruntime", "onnx", "int8", _onnxruntime),
    "openvino": Engine("openvino", "openvino", "float32", _openvino("f32")),
    "openvino-bf16": Engine("openvino", "openvino", "bfloat16", _openvino("bf16")),
    "openvino-int8": Engine("openvino", "openvino", "int8", _openvino("f32")),
}


def installed() -> list[EngineName]:
    """Return the engines whose packages are installed, without torch, which always is."""
    return [name for name, engine in ENGINES.items() if engine.is_installed]


def engine_named(name: EngineName) -> Engine:
    """Return an engine.

    Raises:
        ConfigError: its package is not installed.
    """
    engine = ENGINES[name]
    if not engine.is_installed:
        raise ConfigError(
            f"score.engine is '{name}', but {engine.package} is not installed; pip install 'ferflow[{engine.extra}]', "
            "or set score.engine=auto"
        )
    return engine
