"""The int8 form of a network: convolutions with 8-bit weights and inputs, whose ranges are measured on real faces."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np


def quantized(graph: bytes, batches: Sequence[np.ndarray]) -> bytes:
    """Return the int8 form of an ONNX graph; needs the extra `onnx`.

    Weights are rounded by channel, and inputs of convolutions by the range that they have on `batches`. The first
    convolution stays float32: all later layers carry its rounding on, and it is a small part of the work.

    Args:
        graph: a float32 graph of `TorchBackbone.graph`.
        batches: its inputs for some faces, each (8, c, h, w) float32.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Faces(CalibrationDataReader):
        def __init__(self, name: str) -> None:
            self.rows: Iterator[np.ndarray] = iter(batches)
            self.name = name

        def get_next(self) -> dict[str, np.ndarray] | None:
            row = next(self.rows, None)
            return None if row is None else {self.name: row}

    log = logging.getLogger()  # its advice on formats is of no use to a user
    level = log.level
    with tempfile.TemporaryDirectory(prefix="ferflow-int8-") as folder:
        plain, prepared, small = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "int8"))
        plain.write_bytes(graph)
        try:
            log.setLevel(logging.ERROR)
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            given, first = _names(prepared)
            quantize_static(
                prepared, small, Faces(given), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"], nodes_to_exclude=first,
            )  # fmt: skip
        finally:
            log.setLevel(level)
        return small.read_bytes()


def _names(path: Path) -> tuple[str, list[str]]:
    """Return the name of a graph's input, and that of its first convolution."""
    import onnx

    graph = onnx.load(path).graph
    return str(graph.input[0].name), [str(node.name) for node in graph.node if node.op_type == "Conv"][:1]
